// Locks and queues of Deferreds: DeferredLock, DeferredSemaphore, DeferredQueue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <utility>

#include <deferred/deferred.hpp>
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
  /// Gives it back; the next in the queue has it before this returns. Throws std::logic_error if nobody holds one.
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

/// Values put in, values taken out, in order; get() waits where there is none.
template <class T>
class DeferredQueue {
 public:
  /// `size`: how many values may lie in the queue; `backlog`: how many get() may wait. Without: any number.
  explicit DeferredQueue(std::optional<std::size_t> size = {}, std::optional<std::size_t> backlog = {})
      : state_(std::make_shared<State>()), size_(size), backlog_(backlog) {}

  /// Gives `value` to the first who waits, before this returns, or keeps it. Throws QueueOverflow.
  void put(T value) {
    if (!state_->waiting.empty()) {
      Resolver<T> first = std::move(state_->waiting.front());
      state_->waiting.pop_front();
      first.callback(std::move(value));
      return;
    }
    if (size_ && state_->pending.size() >= *size_) throw QueueOverflow();
    state_->pending.push_back(std::move(value));
  }
  /// Fires with the next value. cancel() of one that still waits leaves the queue. Throws QueueUnderflow.
  Deferred<T> get(std::source_location where = std::source_location::current()) {
    if (!state_->pending.empty()) {
      T value = std::move(state_->pending.front());
      state_->pending.pop_front();
      return succeed(std::move(value), where);
    }
    if (backlog_ && state_->waiting.size() >= *backlog_) throw QueueUnderflow();
    state_->waiting.emplace_back(where);
    auto at = std::prev(state_->waiting.end());
    at->onCancel([state = std::weak_ptr(state_), at](const Resolver<T>&) {
      if (auto alive = state.lock()) alive->waiting.erase(at);
    });
    return at->deferred();
  }

  std::size_t pending() const noexcept { return state_->pending.size(); }
  std::size_t waiting() const noexcept { return state_->waiting.size(); }

 private:
  struct State {
    std::deque<T> pending;
    std::list<Resolver<T>> waiting;
  };
  std::shared_ptr<State> state_;
  std::optional<std::size_t> size_;
  std::optional<std::size_t> backlog_;
};

}  // namespace torsion
