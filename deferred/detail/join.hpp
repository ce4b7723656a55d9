// Join: what DeferredList, gatherResults and race share: many chains that fire one.
#pragma once

#include <cstddef>
#include <source_location>
#include <vector>

#include <deferred/detail/chain.hpp>

namespace torsion::detail {

// Kept by the links that it adds to its inputs, and, as a keeper, by the chain that it fires. It owns its inputs as
// long as that chain has an owner. From then on it holds their results alone, so that their failures are not reported
// before the list goes.
class Join : public Keeper {
 public:
  // A list stays with `out` once that has fired, which then passes no cancel on, as in Twisted. A race lets go.
  enum class Kind { list, race };
  Join(Chain& out, Kind kind, bool consumeErrors) noexcept;
  Join(const Join&) = delete;
  Join& operator=(const Join&) = delete;

  // Adds the links, in order; inputs that have fired are recorded before this returns.
  void watch(std::vector<Owner> inputs, const std::source_location& where);

  Chain* input(std::size_t index) const noexcept override;
  bool beginCancel() noexcept override;
  void endCancel() noexcept override;
  void ownersGone() noexcept override;
  bool owns() const noexcept override { return holdsOut_; }
  void release() noexcept override;

 protected:
  virtual ~Join() = default;
  // True if how this input has turned out decides the result.
  virtual bool decides(Chain& input) const noexcept = 0;
  // What these do may call users' constructors and destructors, and those anything. Puts the result that input `index`
  // has decided into out().
  virtual void decide(std::size_t index, Chain& input) = 0;
  // Notes how input `index` has turned out.
  virtual void record(std::size_t index, Chain& input) = 0;
  // Puts what has been recorded of all inputs into out().
  virtual void complete() = 0;
  Chain& out() const noexcept { return *out_; }

 private:
  class Link;
  struct Input {
    Owner owner;
    Hold hold;
    Chain* chain;
  };
  void ref() noexcept { ++refs_; }
  void unref() noexcept;
  // True if out() now has its result.
  bool recorded(std::size_t index, Chain& input) noexcept;
  Jump fire() noexcept;
  void inputEnded() noexcept;
  // Holds the inputs' results alone from now on, or once what is under way here is done.
  void disown() noexcept;
  void done() noexcept;
  // Does what is asked of this join now, or, within another one's turn, after it: lists in lists are no recursion.
  void settle() noexcept;

  Chain* out_;
  std::vector<Input> inputs_;
  std::size_t recorded_ = 0;
  std::size_t pending_ = 0;
  unsigned refs_ = 1;
  unsigned busy_ = 0;  // adding links or cancelling: the inputs must stay as they are
  const Kind kind_;
  const bool consumeErrors_;
  bool fired_ = false;  // it is decided what out_ fires with
  bool disowned_ = false;
  bool holdsOut_ = false;  // it has fired, and others are pending
  bool released_ = false;
  bool queued_ = false;
  Join* next_ = nullptr;  // in the queue of those to settle
};

}  // namespace torsion::detail
