// Join: what DeferredList, gatherResults and race share: many chains that fire one.
#pragma once

#include <cstddef>
#include <source_location>
#include <vector>

#include <deferred/detail/chain.hpp>

namespace torsion::detail {

// Kept by the links that it adds to its inputs, and, once it has fired, by the chain that it fires. Keeps its inputs,
// those that are pending until it fires, so that a cancel reaches them and their failures are not reported before the
// list goes.
class Join : public Keeper {
 public:
  Join(Chain& out, bool consumeErrors) noexcept;
  Join(const Join&) = delete;
  Join& operator=(const Join&) = delete;

  // Adds the links, in order; inputs that have fired are recorded before this returns.
  void watch(std::vector<Owner> inputs, const std::source_location& where);

  void cancel() noexcept override;
  void ownersGone() noexcept override;
  bool owns() const noexcept override { return holdsOut_; }
  void release() noexcept override { unref(); }

 protected:
  virtual ~Join();
  // Notes how input `index` turned out. True if it has put the result into out(), which then fires.
  virtual bool record(std::size_t index, Chain& input) = 0;
  Chain& out() const noexcept { return *out_; }
  bool allRecorded() const noexcept { return recorded_ == inputs_.size(); }
  void cancelOthers(std::size_t index) noexcept;

 private:
  class Link;
  struct Input {
    Chain* chain = nullptr;
    Owner owner;
    bool pending = true;
  };
  void ref() noexcept { ++refs_; }
  void unref() noexcept {
    if (--refs_ == 0) delete this;
  }
  Jump recordAndFire(std::size_t index, Chain& input) noexcept;
  void inputEnded(std::size_t index) noexcept;
  void cancelInput(Input& input) noexcept;
  // The inputs still pending are nobody's to cancel through this join any more.
  void disownPending() noexcept;

  Chain* out_;
  std::vector<Input> inputs_;
  std::size_t recorded_ = 0;
  std::size_t pending_ = 0;
  unsigned refs_ = 1;
  bool consumeErrors_;
  bool watching_ = true;  // not all inputs have their links yet
  bool fired_ = false;
  bool holdsOut_ = false;  // it has fired, and others are pending
};

}  // namespace torsion::detail
