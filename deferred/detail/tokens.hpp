// What DeferredLock and DeferredSemaphore share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <source_location>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>

namespace torsion::detail {

struct Tokens : std::enable_shared_from_this<Tokens> {
  explicit Tokens(std::int64_t limit);
  Tokens(const Tokens&) = delete;
  Tokens& operator=(const Tokens&) = delete;
  ~Tokens();
  Deferred<void> acquire(const std::source_location& where);
  void release();
  // For a step: as release(), with the next holder run by the run loop.
  Jump releaseJump();

  // `tokens`, where there is one, is set when the waiter's turn comes: while it waits, it must not keep alive what
  // alone can end its waiting.
  struct Waiter {
    Resolver<void> resolver;
    std::shared_ptr<Tokens>* tokens = nullptr;
  };
  std::size_t limit;
  std::size_t free;
  std::list<Waiter> waiting;

 private:
  Resolver<void> takeFirst();
};

// Adds a link to `chain` that gives a token back and leaves the result as it is.
void releaseAfter(Chain& chain, std::shared_ptr<Tokens> tokens, const std::source_location& where);

// In the chain of an acquire(): calls `f`, gives the token back when what it returned has fired, and hands that on.
// Twisted's _ConcurrencyPrimitive.run, step by step, with the run loop in place of the stack.
template <class F>
class RunStep final : public Node {
 public:
  RunStep(F f, const std::source_location& where) : Node(where), f_(std::move(f)) {}
  // What to give the token back to; to be set before the step runs.
  std::shared_ptr<Tokens>& tokens() noexcept { return tokens_; }

  Jump step(Chain& chain) noexcept override {
    if (!job_) {
      if (chain.failed()) {
        chain.dispose(this);
        return {};
      }
      chain.markTaken();
      job_ = maybeDeferred(f_, where).releaseOwner();
      releaseAfter(*job_, std::move(tokens_), where);
      if (job_->called()) {
        chain.prepend(*this);
        return job_->call();
      }
    }
    try {
      chain.takeResultOf(std::move(job_));
    } catch (...) {
      chain.putFailure(Failure::current());
    }
    if (chain.waitsFor()) {
      chain.park(*this);
    } else {
      chain.dispose(this);
    }
    return {};
  }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

 private:
  ~RunStep() = default;
  friend Chain;
  std::shared_ptr<Tokens> tokens_;
  Owner job_;
  F f_;
};

template <class F>
auto runWithToken(const std::shared_ptr<Tokens>& tokens, F f, const std::source_location& where) {
  using U = After<void, std::invoke_result_t<F&>>;
  Owner owner = tokens->acquire(where).releaseOwner();
  RunStep<F>* step;
  try {
    step = owner->make<RunStep<F>>(std::move(f), where);
  } catch (...) {
    // F cannot be moved: nobody will give back what is acquired.
    if (owner->called()) {
      tokens->release();
    } else {
      owner->cancel();
    }
    throw;
  }
  if (owner->called()) {
    step->tokens() = tokens;
  } else {
    tokens->waiting.back().tokens = &step->tokens();
  }
  owner->append(*step);
  owner->run();
  return Deferred<U>(std::move(owner));
}

}  // namespace torsion::detail
