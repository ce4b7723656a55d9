// Deferred: a result that is still to come, with the callbacks that wait for it (twisted.internet.defer.Deferred).
#pragma once

#include <chrono>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <deferred/canceller.hpp>
#include <deferred/detail/coroutine.hpp>
#include <deferred/detail/step.hpp>
#include <deferred/errors.hpp>
#include <deferred/failure.hpp>
#include <deferred/resolver.hpp>
#include <deferred/result.hpp>
#include <deferred/time.hpp>

namespace torsion {

/// A value of type T to come, or a Failure, and the chain of callbacks it will pass through.
///
///   getPage("http://localhost:8000/")
///       .addCallback([](std::string page) { return page.size(); })            // now a Deferred<std::size_t>
///       .addErrback([](const ConnectError&) { return std::size_t{0}; })       // catches as `catch` would
///       .addCallback([](std::size_t n) { std::cout << n << " bytes\n"; });
///
/// A callback takes T (nothing where T is void) and returns a U, a Deferred<U> (the chain waits for it), a Result<U>, a
/// Failure, or nothing; what it throws becomes a Failure. On a named Deferred, `d.addCallback(f)` keeps its type and
/// changes it in place; `std::move(d).addCallback(f)`, and so every chained call, gives a Deferred<U>, of the same
/// chain. Callbacks run synchronously: when the result comes, or inside addCallback if it is there.
///
/// Dropping a Deferred does not cancel it: its callbacks still run. A Failure that nobody handled is reported when the
/// last handle goes (setUnhandledFailureHandler). Move-only; stays in one thread. A function that returns a Deferred
/// may be a coroutine: it starts at once, and may co_await any Deferred. Cancelling it cancels what it waits for.
template <class T>
class Deferred {
 public:
  using value_type = T;
  using Stored = detail::Stored<T>;
  using promise_type = detail::Promise<T>;
  using Here = std::source_location;

  /// A Deferred that this handle itself fires, by callback() or errback(). A producer that gives its Deferred away
  /// keeps a Resolver instead.
  explicit Deferred(Here where = Here::current()) : owner_(*new detail::Chain(typeid(Stored), where)) {}
  Deferred(Deferred&&) noexcept = default;
  Deferred& operator=(Deferred&&) noexcept = default;

  // ---- the chain
  /// Adds `f` for a value; a Failure passes it by.
  template <class F>
  Deferred& addCallback(F f, Here where = Here::current()) & {
    pushCallback<true>(std::move(f), where);
    return *this;
  }
  template <class F>
  auto addCallback(F f, Here where = Here::current()) && {
    return pushCallback<false>(std::move(f), where);
  }
  /// Adds `f` for a Failure; values pass it by. Its parameter says what it catches: Failure (or auto) all, an exception
  /// class that class, as `catch (const E&)`; other Failures pass it by. It returns a T, Deferred<T>, Result<T> or
  /// Failure (to go on failing), or nothing where T is void.
  template <class F>
  Deferred& addErrback(F f, Here where = Here::current()) & {
    pushErrback(std::move(f), where);
    return *this;
  }
  template <class F>
  Deferred addErrback(F f, Here where = Here::current()) && {
    pushErrback(std::move(f), where);
    return std::move(*this);
  }
  /// Adds the pair as one link: the errback does not see what the callback throws.
  template <class F, class G>
  Deferred& addCallbacks(F f, G g, Here where = Here::current()) & {
    pushCallbacks<true>(std::move(f), std::move(g), where);
    return *this;
  }
  template <class F, class G>
  auto addCallbacks(F f, G g, Here where = Here::current()) && {
    return pushCallbacks<false>(std::move(f), std::move(g), where);
  }
  /// Adds `f` for both; it takes a Result<T>, or nothing.
  template <class F>
  Deferred& addBoth(F f, Here where = Here::current()) & {
    pushBoth<true>(std::move(f), where);
    return *this;
  }
  template <class F>
  auto addBoth(F f, Here where = Here::current()) && {
    return pushBoth<false>(std::move(f), where);
  }
  /// Fires `target` with this one's result, and gives a Deferred<void> that fires after. If `target` has been fired,
  /// that one fails with AlreadyCalledError. Cancelling target's Deferred does not cancel this one.
  Deferred<void> chainDeferred(Resolver<T> target, Here where = Here::current()) &&;

  /// Cancels this Deferred if it has no result after `timeout` on `time`; then, or whatever the cancel gave, a
  /// CancelledError becomes TimeoutError. Covers the callbacks added before it. The timer goes with the result.
  Deferred& addTimeout(Duration timeout, Time& time, Here where = Here::current()) &;
  Deferred addTimeout(Duration timeout, Time& time, Here where = Here::current()) &&;
  /// As above, with `onTimeoutCancel(Result<T>, Duration)` making the result when it timed out, whatever that was. It
  /// returns what an errback may.
  template <class F>
  Deferred& addTimeout(Duration timeout, Time& time, F onTimeoutCancel, Here where = Here::current()) &;
  template <class F>
  Deferred addTimeout(Duration timeout, Time& time, F onTimeoutCancel, Here where = Here::current()) &&;

  // ---- control
  /// Asks for the end. Unfired: calls the canceller, and fails with CancelledError unless that fires something; without
  /// one, fails so and drops one late result. Waiting for another Deferred: cancels that. Else nothing. Throws what a
  /// canceller throws.
  void cancel() { chain().cancel(); }
  /// A weak handle with cancel(), for a Deferred that is given away.
  Canceller canceller() const { return Canceller(chain()); }
  /// Holds the callbacks back until unpause() has been called as often.
  void pause() { chain().pause(); }
  void unpause() { chain().unpause(); }
  /// True once it has been fired, whether or not its callbacks are done.
  bool called() const { return chain().called(); }

  /// Fires this Deferred, as Resolver::callback does. Throws std::logic_error if its type has been changed since it was
  /// made, or if it was not default-constructed.
  template <class... A>
  void callback(A&&... args) {
    static_assert(std::is_constructible_v<Stored, A&&...>, "Deferred::callback: T cannot be made from these arguments");
    if constexpr (std::is_constructible_v<Stored, A&&...>) {
      detail::Chain& chain = head();
      if (!chain.mayFire()) return;
      chain.template putValue<Stored>(std::forward<A>(args)...);
      chain.fire();
    }
  }
  void errback(Failure failure) {
    detail::Chain& chain = head();
    if (!chain.mayFire()) return;
    chain.putFailure(std::move(failure));
    chain.fire();
  }

  /// Internal.
  explicit Deferred(detail::Owner owner) noexcept : owner_(std::move(owner)) {}
  detail::Owner releaseOwner() && {
    chain();
    return std::move(owner_);
  }
  detail::Chain& chain() const {
    if (!owner_) throw std::logic_error("this Deferred was moved from");
    return *owner_;
  }

 private:
  detail::Chain& head() const {
    if (chain().headType() != typeid(Stored)) {
      throw std::logic_error(
          "callback() or errback() of a Deferred whose type has changed; keep a Resolver to fire it");
    }
    return chain();
  }

  template <bool kKeepsType, class F>
  auto pushCallback(F f, const Here& where) {
    if constexpr (!detail::takesValue<T, F>()) {
      static_assert(
          detail::takesValue<T, F>(),
          "addCallback: the callback cannot be called with this Deferred's value (or takes one that is void)");
      return detail::WrongUse();
    } else {
      using U = detail::After<T, typename decltype(detail::callbackReturn<T, F>())::type>;
      static_assert(
          !kKeepsType || std::is_same_v<U, T>,
          "addCallback on a named Deferred must keep its type; to change it: auto e = std::move(d).addCallback(f)");
      if constexpr (!kKeepsType || std::is_same_v<U, T>) {
        return push<U, detail::Step<T, U, F, detail::NoCallback>>(kKeepsType, std::move(f), detail::NoCallback(),
                                                                  where);
      }
    }
  }
  template <class F>
  void pushErrback(F f, const Here& where) {
    if constexpr (!detail::isErrback<F>) {
      static_assert(detail::isErrback<F>, "addErrback: the errback must take a Failure, or one exception class");
    } else {
      using R = typename decltype(detail::errbackReturn<F>())::type;
      static_assert(detail::fits<T, R>(),
                    "addErrback: the errback must return this Deferred's type; return a value, or the Failure");
      if constexpr (detail::fits<T, R>()) {
        push<T, detail::Step<T, T, detail::NoCallback, F>>(true, detail::NoCallback(), std::move(f), where);
      }
    }
  }
  template <bool kKeepsType, class F, class G>
  auto pushCallbacks(F f, G g, const Here& where) {
    if constexpr (!detail::takesValue<T, F>()) {
      static_assert(
          detail::takesValue<T, F>(),
          "addCallbacks: the callback cannot be called with this Deferred's value (or takes one that is void)");
      return detail::WrongUse();
    } else if constexpr (!detail::isErrback<G>) {
      static_assert(detail::isErrback<G>, "addCallbacks: the errback must take a Failure, or one exception class");
      return detail::WrongUse();
    } else {
      using U = detail::After<T, typename decltype(detail::callbackReturn<T, F>())::type>;
      using R = typename decltype(detail::errbackReturn<G>())::type;
      // A Failure that the errback does not catch passes it by, whatever the type.
      static_assert(!kKeepsType || std::is_same_v<U, T>,
                    "addCallbacks on a named Deferred must keep its type; to change it: "
                    "auto e = std::move(d).addCallbacks(f, g)");
      static_assert(detail::fits<U, R>(),
                    "addCallbacks: the errback must return what the callback returns, or the Failure");
      if constexpr ((!kKeepsType || std::is_same_v<U, T>) && detail::fits<U, R>()) {
        return push<U, detail::Step<T, U, F, G>>(kKeepsType, std::move(f), std::move(g), where);
      } else {
        return detail::WrongUse();
      }
    }
  }
  template <bool kKeepsType, class F>
  auto pushBoth(F f, const Here& where) {
    constexpr bool takes = std::is_invocable_v<F&, Result<T>> || std::is_invocable_v<F&>;
    if constexpr (!takes) {
      static_assert(takes, "addBoth: the callback must take a Result<T>, or nothing");
      return detail::WrongUse();
    } else {
      using U = detail::After<T, typename decltype(detail::bothReturn<T, F>())::type>;
      static_assert(!kKeepsType || std::is_same_v<U, T>,
                    "addBoth on a named Deferred must keep its type; to change it: auto e = std::move(d).addBoth(f)");
      if constexpr (!kKeepsType || std::is_same_v<U, T>) {
        detail::Chain& chain = this->chain();
        detail::addStep<detail::BothStep<T, U, F>>(chain, std::move(f), where);
        return retyped<U>(kKeepsType);
      }
    }
  }
  template <class U, class N, class F, class G>
  Deferred<U> push(bool keepsType, F f, G g, const Here& where) {
    detail::addStep<N>(chain(), std::move(f), std::move(g), where);
    return retyped<U>(keepsType);
  }
  // The same chain under its new type; nothing where this handle stays.
  template <class U>
  Deferred<U> retyped(bool keepsType) {
    return Deferred<U>(keepsType ? detail::Owner() : std::move(owner_));
  }

  detail::Owner owner_;

  // Down here, since Clang leaves out what follows one that fails.
  static_assert(
      std::is_same_v<typename detail::Returned<T>::Type, T>,
      "Deferred<T>: T cannot be a Deferred, a Result or a Failure; a callback that returns one gives its value");
};

template <class T>
Deferred<T> Resolver<T>::deferred() const {
  if (!chain().claim()) throw std::logic_error("Resolver::deferred() was called before; share() multiplies a Deferred");
  return Deferred<T>(detail::Owner(chain()));
}

template <class T>
Deferred<void> Deferred<T>::chainDeferred(Resolver<T> target, Here where) && {
  chain().chainTo(std::move(target).release(), where);
  return Deferred<void>(std::move(owner_));
}

namespace detail {

template <class T>
Deferred<T> keepUntilFired(Deferred<T> deferred, std::shared_ptr<void> kept) {
  Chain& chain = deferred.chain();
  if (!chain.idle()) chain.append(*chain.make<KeepNode>(std::move(kept), chain.made()));
  return deferred;
}

TimeoutError timeoutError(Duration limit);

// The two links that addTimeout adds, and the timer between them.
struct Timeout {
  bool timedOut = false;
  DelayedCall timer;
};

template <class T, class F>
void addTimeout(Deferred<T>& deferred, Duration timeout, Time& time, F onTimeoutCancel,
                const std::source_location& where) {
  using R = std::invoke_result_t<F&, Result<T>, Duration>;
  auto state = std::make_shared<Timeout>();
  // As an owner: it is the timer that will end this Deferred, though nobody else may hold it.
  state->timer = time.callLater(
      timeout,
      [weak = std::weak_ptr(state), chain = Owner(deferred.chain())] {
        if (auto state = weak.lock()) state->timedOut = true;
        chain->cancel();
      },
      where);
  deferred.addBoth(
      [state, timeout, f = std::move(onTimeoutCancel)](
          Result<T> result) mutable -> std::conditional_t<returnsDeferred<R>, Deferred<T>, Result<T>> {
        if (state->timedOut) {
          if constexpr (std::is_void_v<R>) {
            f(std::move(result), timeout);
            return {};
          } else {
            return f(std::move(result), timeout);
          }
        }
        if constexpr (returnsDeferred<R>) {
          Resolver<T> passed;
          passed.resolve(std::move(result));
          return passed.deferred();
        } else {
          return result;
        }
      },
      where);
  deferred.addBoth(
      [state](Result<T> result) {
        if (state->timer.active()) state->timer.cancel();
        return result;
      },
      where);
}

}  // namespace detail

template <class T>
template <class F>
Deferred<T>& Deferred<T>::addTimeout(Duration timeout, Time& time, F onTimeoutCancel, Here where) & {
  if constexpr (!std::is_invocable_v<F&, Result<T>, Duration>) {
    static_assert(std::is_invocable_v<F&, Result<T>, Duration>,
                  "addTimeout: onTimeoutCancel takes a Result<T> and a Duration");
  } else {
    using R = std::invoke_result_t<F&, Result<T>, Duration>;
    constexpr bool fits = detail::fits<T, R>() || std::is_constructible_v<Result<T>, R>;
    static_assert(fits, "addTimeout: onTimeoutCancel must return this Deferred's type; return a value, or a Failure");
    if constexpr (fits) detail::addTimeout(*this, timeout, time, std::move(onTimeoutCancel), where);
  }
  return *this;
}
template <class T>
template <class F>
Deferred<T> Deferred<T>::addTimeout(Duration timeout, Time& time, F onTimeoutCancel, Here where) && {
  addTimeout(timeout, time, std::move(onTimeoutCancel), where);
  return std::move(*this);
}
template <class T>
Deferred<T>& Deferred<T>::addTimeout(Duration timeout, Time& time, Here where) & {
  auto cancelledToTimedOut = [](Result<T> result, Duration limit) -> Result<T> {
    if (result.ok() || !result.failure().template check<CancelledError>()) return result;
    return Failure(detail::timeoutError(limit));
  };
  return addTimeout(timeout, time, cancelledToTimedOut, where);
}
template <class T>
Deferred<T> Deferred<T>::addTimeout(Duration timeout, Time& time, Here where) && {
  addTimeout(timeout, time, where);
  return std::move(*this);
}

}  // namespace torsion
