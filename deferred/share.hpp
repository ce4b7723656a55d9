// share: one result for many waiters.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/detail/take.hpp>

namespace torsion {

/// The result of one Deferred, for any number of waiters. Copies are the same.
template <class T>
class Shared {
 public:
  explicit Shared(Deferred<T> source, std::source_location where = std::source_location::current())
      : state_(std::make_shared<State>()) {
    state_->made = source.chain().made();
    state_->source = source.canceller();
    const detail::Owner rest =
        std::move(source)
            .addBoth([state = state_](Result<T> result) { state->set(std::move(result)); }, where)
            .releaseOwner();
    rest->append(*rest->template make<Waiters>(state_, where));
    rest->run();
  }
  // What was moved from is the same, too.
  Shared(const Shared&) = default;
  Shared& operator=(const Shared&) = default;
  ~Shared() = default;

  /// A Deferred of this waiter's own: it fires with a copy of the result, in the order of the calls. Cancelling it
  /// cancels neither another nor the source. What copying throws is its failure.
  Deferred<T> deferred(std::source_location where = std::source_location::current()) const {
    Resolver<T> resolver(where);
    Deferred<T> waiter = resolver.deferred();
    state_->seen = true;
    if (state_->result) {
      state_->put(resolver.chain());
      resolver.chain().fire();
    } else {
      state_->waiters.push_back(std::move(resolver));
    }
    return waiter;
  }
  /// Cancels the source, and so all that wait.
  void cancel() const { state_->source.cancel(); }

 private:
  struct State {
    Canceller source;
    std::deque<Resolver<T>> waiters;
    std::optional<Result<T>> result;
    std::source_location made;
    bool seen = false;

    void set(Result<T> outcome) {
      try {
        result.emplace(std::move(outcome));
      } catch (...) {
        result.emplace(Failure::current());
      }
    }
    // Gives `waiter`, which has not been fired, a copy.
    void put(detail::Chain& waiter) const {
      if (!result->ok()) {
        waiter.putFailure(result->failure());
        return;
      }
      try {
        if constexpr (std::is_void_v<T>) {
          waiter.markTaken();
        } else {
          waiter.template putValue<T>(std::as_const(*result).value());
        }
      } catch (...) {
        waiter.putFailure(Failure::current());
      }
    }
    ~State() {
      if (result && !result->ok() && !seen) {
        detail::reportUnhandled("Unhandled error in Deferred", result->failure(), made);
      }
      while (!waiters.empty()) detail::drop(waiters);
    }
  };

  // In the source's chain: fires one after the other.
  class Waiters final : public detail::Node {
   public:
    Waiters(std::shared_ptr<State> state, const std::source_location& where) : Node(where), state_(std::move(state)) {}
    detail::Jump step(detail::Chain& source) noexcept override {
      if (source.failed()) state_->result.emplace(source.takeFailure());  // the result could not be moved
      while (state_->result && !state_->waiters.empty()) {
        detail::Chain& waiter = detail::takeFront(state_->waiters).release();
        if (waiter.called()) {  // cancelled
          waiter.dropFirer();
          continue;
        }
        waiter.beginFiring();
        state_->put(waiter);
        waiter.endFiring();
        source.prepend(*this);
        return {&waiter, true};  // the Resolver's firer goes along
      }
      return source.dispose(this);
    }
    void drop(detail::Chain& source) noexcept override { source.dispose(this); }

   private:
    ~Waiters() = default;
    friend detail::Chain;
    std::shared_ptr<State> state_;
  };

  std::shared_ptr<State> state_;
};

/// Takes `deferred` and gives what many can wait for:
///   auto config = share(getPage(url));
///   config.deferred().addCallback(...); config.deferred().addCallback(...);
template <class T>
Shared<T> share(Deferred<T> deferred, std::source_location where = std::source_location::current()) {
  return Shared<T>(std::move(deferred), where);
}

}  // namespace torsion
