// share: one result for many waiters.
#pragma once

#include <memory>
#include <optional>
#include <source_location>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>

namespace torsion {

/// The result of one Deferred, for any number of waiters. Copies are the same.
template <class T>
class Shared {
 public:
  explicit Shared(Deferred<T> source) : state_(std::make_shared<State>()) {
    state_->made = source.chain().made();
    state_->source = source.canceller();
    std::move(source).addBoth([state = state_](Result<T> result) { state->fire(std::move(result)); });
  }

  /// A Deferred of this waiter's own: it fires with a copy of the result, in the order of the calls. Cancelling it
  /// cancels neither another nor the source.
  Deferred<T> deferred(std::source_location where = std::source_location::current()) const {
    Resolver<T> resolver(where);
    Deferred<T> waiter = resolver.deferred();
    state_->seen = true;
    if (state_->result) {
      resolver.resolve(*state_->result);
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
    std::vector<Resolver<T>> waiters;
    std::optional<Result<T>> result;
    std::source_location made;
    bool seen = false;

    void fire(Result<T> outcome) {
      result.emplace(std::move(outcome));
      for (auto& waiter : std::exchange(waiters, {})) waiter.resolve(*result);
    }
    ~State() {
      if (result && !result->ok() && !seen) {
        detail::reportUnhandled("Unhandled error in Deferred", result->failure(), made);
      }
    }
  };
  std::shared_ptr<State> state_;
};

/// Takes `deferred` and gives what many can wait for:
///   auto config = share(getPage(url));
///   config.deferred().addCallback(...); config.deferred().addCallback(...);
template <class T>
Shared<T> share(Deferred<T> deferred) {
  return Shared<T>(std::move(deferred));
}

}  // namespace torsion
