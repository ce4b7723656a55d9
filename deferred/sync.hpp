// Locks and queues of Deferreds: DeferredLock, DeferredSemaphore, DeferredQueue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/detail/take.hpp>
#include <deferred/detail/tokens.hpp>
#include <deferred/functions.hpp>

namespace torsion {

namespace detail {

/// What DeferredSemaphore and DeferredLock have in common.
class ConcurrencyPrimitive {
 public:
  /// Fires when a token, or the lock, is yours; give it back with release(). cancel() of one that still waits leaves
  /// the queue.
  Deferred<void> acquire(std::source_location where = std::source_location::current()) {
    return tokens_->acquire(where);
  }
  /// Gives it back; the next in the queue has it, and its callbacks have run, before this returns. (Of releases within
  /// such callbacks, any number may nest: beyond 32 the callbacks run when the innermost ends.) Throws std::logic_error
  /// if nobody holds one.
  void release() { tokens_->release(); }
  /// Calls f() while holding it, until the Deferred that f returns fires, if it returns one; gives f's outcome.
  /// Any number of calls may wait. cancel() leaves the queue, or cancels what f returned.
  template <class F>
  auto run(F f, std::source_location where = std::source_location::current()) {
    return runWithToken(tokens_, std::move(f), where);
  }
  /// How many wait.
  std::size_t waiting() const noexcept { return tokens_->waiting.size(); }

 protected:
  explicit ConcurrencyPrimitive(std::int64_t tokens) : tokens_(std::make_shared<Tokens>(tokens)) {}
  // A copy is the same lock, and so is what was moved from.
  ConcurrencyPrimitive(const ConcurrencyPrimitive&) = default;
  ConcurrencyPrimitive& operator=(const ConcurrencyPrimitive&) = default;
  ~ConcurrencyPrimitive() = default;
  std::shared_ptr<Tokens> tokens_;
};

}  // namespace detail

/// At most `tokens` holders at a time; the others wait their turn, first come, first served. Its acquire(), release()
/// and run() are above.
class DeferredSemaphore : public detail::ConcurrencyPrimitive {
 public:
  /// Throws std::invalid_argument for less than one token.
  explicit DeferredSemaphore(std::int64_t tokens) : ConcurrencyPrimitive(tokens) {}

  std::size_t tokens() const noexcept { return tokens_->free; }
  std::size_t limit() const noexcept { return tokens_->limit; }
};

/// A DeferredSemaphore of one.
class DeferredLock : public detail::ConcurrencyPrimitive {
 public:
  DeferredLock() : ConcurrencyPrimitive(1) {}
  bool locked() const noexcept { return tokens_->free == 0; }
};

/// Values put in, values taken out, in order; get() waits where there is none. A copy is the same queue.
template <class T>
class DeferredQueue {
 public:
  /// `size`: how many values may lie in the queue; `backlog`: how many get() may wait. Without: any number.
  explicit DeferredQueue(std::optional<std::size_t> size = {}, std::optional<std::size_t> backlog = {})
      : state_(std::make_shared<State>()), size_(size), backlog_(backlog) {}
  DeferredQueue(const DeferredQueue&) = default;
  DeferredQueue& operator=(const DeferredQueue&) = default;
  ~DeferredQueue() = default;

  /// Gives `value` to the first who waits, before this returns (as DeferredLock::release does), or keeps it. Throws
  /// QueueOverflow. What moving the value throws comes out, and who waits goes on waiting.
  void put(T value) {
    if (!state_->waiting.empty()) {
      const Resolver<T> first = state_->waiting.front();
      first.chain().template putValue<T>(std::move(value));
      static_cast<void>(detail::takeFront(state_->waiting));
      first.chain().fireNested();
      return;
    }
    if (size_ && state_->pending.size() >= *size_) throw QueueOverflow();
    state_->pending.push_back(std::move(value));
  }
  /// Fires with the next value. cancel() of one that still waits leaves the queue. Throws QueueUnderflow.
  Deferred<T> get(std::source_location where = std::source_location::current()) {
    if (!state_->pending.empty()) return succeed(detail::takeFront(state_->pending), where);
    if (backlog_ && state_->waiting.size() >= *backlog_) throw QueueUnderflow();
    state_->waiting.emplace_back(where);
    auto at = std::prev(state_->waiting.end());
    at->onCancel([state = std::weak_ptr(state_), at](const Resolver<T>&) {
      if (auto alive = state.lock()) static_cast<void>(detail::takeAt(alive->waiting, at));
    });
    return at->deferred();
  }

  std::size_t pending() const noexcept { return state_->pending.size(); }
  std::size_t waiting() const noexcept { return state_->waiting.size(); }

 private:
  struct State {
    std::list<T> pending;  // no deque, which destroys its elements in place
    std::list<Resolver<T>> waiting;

    // Those who wait fail, and their callbacks may come back; so may the values' destructors.
    ~State() {
      while (!waiting.empty()) detail::drop(waiting);
      while (!pending.empty()) detail::drop(pending);
    }
  };
  std::shared_ptr<State> state_;
  std::optional<std::size_t> size_;
  std::optional<std::size_t> backlog_;
};

}  // namespace torsion
