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
  explicit Deferred(Here where = Here::current()) : owner_(*new detail::Chain(typeid(Stored), where)) {
    owner_->setFiresItself();
  }
  template <class F>
    requires(detail::looksLikeCanceller<T, F>())
  explicit Deferred(F) {
    static_assert(
        !detail::looksLikeCanceller<T, F>(),
        "Deferred(canceller): the producer sets it: Resolver<T> r; r.onCancel(canceller); return r.deferred()");
  }
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
    Deferred self(std::move(*this));
    self.pushErrback(std::move(f), where);
    return self;
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
  /// CancelledError becomes TimeoutError. Covers the callbacks added before it. The timer goes with the result. What a
  /// canceller throws is reported, and the Deferred it belongs to fails all the same.
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
  void cancel(Here where = Here::current()) { chain(where).cancel(); }
  /// A weak handle with cancel(), for a Deferred that is given away.
  Canceller canceller(Here where = Here::current()) const { return Canceller(chain(where)); }
  /// Holds the callbacks back until unpause() has been called as often; more often is a std::logic_error.
  void pause(Here where = Here::current()) { chain(where).pauseByUser(); }
  void unpause(Here where = Here::current()) {
    if (!chain(where).unpauseByUser()) throw std::logic_error("unpause() without pause()");
  }
  /// True once it has been fired, whether or not its callbacks are done.
  bool called(Here where = Here::current()) const { return chain(where).called(); }

  /// Fires this Deferred, as Resolver::callback does. Throws std::logic_error if its type has been changed since it was
  /// made, or if it was not default-constructed: a Resolver or the library fires it then.
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
  detail::Owner releaseOwner(Here where = Here::current()) && {
    chain(where);
    return std::move(owner_);
  }
  detail::Chain& chain(Here where = Here::current()) const {
    if (!owner_) detail::throwMovedFrom(where);
    return *owner_;
  }

 private:
  detail::Chain& head() const {
    detail::Chain& chain = this->chain();
    // One that has been fired says so, whoever fires it.
    if (!chain.called() && (!chain.firesItself() || chain.headType() != typeid(Stored))) detail::throwNotItself(chain);
    return chain;
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
      static_assert(!kKeepsType || std::is_same_v<U, T>,
                    "addCallback on a named Deferred must keep its type; to change it: auto e = "
                    "std::move(d).addCallback(f); instead "
                    "of a member: chain the calls where it is made, and keep its .canceller()");
      if constexpr (!kKeepsType || std::is_same_v<U, T>) {
        return add<kKeepsType, U, detail::Step<T, U, F, detail::NoCallback>>(where, std::move(f), detail::NoCallback());
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
        add<true, T, detail::Step<T, T, detail::NoCallback, F>>(where, detail::NoCallback(), std::move(f));
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
                    "auto e = std::move(d).addCallbacks(f, g); instead of a member: chain the calls where it is made, "
                    "and keep its .canceller()");
      static_assert(detail::fits<U, R>(),
                    "addCallbacks: the errback must return what the callback returns, or the Failure");
      if constexpr ((!kKeepsType || std::is_same_v<U, T>) && detail::fits<U, R>()) {
        return add<kKeepsType, U, detail::Step<T, U, F, G>>(where, std::move(f), std::move(g));
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
                    "addBoth on a named Deferred must keep its type; to change it: auto e = std::move(d).addBoth(f); "
                    "instead of a member: chain the calls where it is made, and keep its .canceller()");
      if constexpr (!kKeepsType || std::is_same_v<U, T>) {
        return add<kKeepsType, U, detail::BothStep<T, U, F>>(where, std::move(f));
      }
    }
  }
  // The same chain under its new type; nothing where this handle stays. It is taken first, since a callback that runs
  // at once may destroy this handle.
  template <bool kKeepsType, class U, class N, class... F>
  Deferred<U> add(const Here& where, F... f) {
    (..., detail::requireCallable(f, "addCallback, addErrback, addBoth: the callable is null"));
    detail::Chain& chain = this->chain(where);
    Deferred<U> result(kKeepsType ? detail::Owner() : std::move(owner_));
    detail::addStep<N>(chain, std::move(f)..., where);
    return result;
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
  Deferred<void> result(std::move(*this).releaseOwner(where));
  result.chain().chainTo(std::move(target).release(), where);
  return result;
}

namespace detail {

template <class T>
Deferred<T> keepUntilFired(Deferred<T> deferred, std::shared_ptr<void> kept) {
  Chain& chain = deferred.chain();
  if (!chain.idle()) chain.append(*chain.make<KeepNode>(std::move(kept), chain.made()));
  return deferred;
}

TimeoutError timeoutError(Duration limit);

// The two links that addTimeout adds, and the timer between them. By an owner of their own, since the user's may go
// while the first one runs.
struct Timeout {
  bool timedOut = false;
  DelayedCall timer;
};

template <class T, class F>
void addTimeout(Owner owner, Duration timeout, Time& time, F onTimeoutCancel, const std::source_location& where) {
  using R = std::invoke_result_t<F&, Result<T>, Duration>;
  Deferred<T> deferred(std::move(owner));
  auto state = std::make_shared<Timeout>();
  // As an owner: it is the timer that will end this Deferred, though nobody else may hold it.
  state->timer = time.callLater(
      timeout,
      [weak = std::weak_ptr(state), chain = Owner(deferred.chain())] {
        if (auto state = weak.lock()) state->timedOut = true;
        chain->cancelForSure();
      },
      where);
  deferred.addBoth(
      [state, timeout, where, f = std::move(onTimeoutCancel)](
          Result<T> result) mutable -> std::conditional_t<returnsDeferred<R>, Deferred<T>, Result<T>> {
        static_cast<void>(where);
        if (state->timedOut) {
          if constexpr (std::is_void_v<R>) {
            f(std::move(result), timeout);
            return {};
          } else {
            return f(std::move(result), timeout);
          }
        }
        if constexpr (returnsDeferred<R>) {
          Resolver<T> passed(where);
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
    if constexpr (fits) {
      detail::requireCallable(onTimeoutCancel, "addTimeout: onTimeoutCancel is null");
      detail::addTimeout<T>(detail::Owner(chain(where)), timeout, time, std::move(onTimeoutCancel), where);
    }
  }
  return *this;
}
template <class T>
template <class F>
Deferred<T> Deferred<T>::addTimeout(Duration timeout, Time& time, F onTimeoutCancel, Here where) && {
  Deferred self(std::move(*this));
  self.addTimeout(timeout, time, std::move(onTimeoutCancel), where);
  return self;
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
  Deferred self(std::move(*this));
  self.addTimeout(timeout, time, where);
  return self;
}

}  // namespace torsion
