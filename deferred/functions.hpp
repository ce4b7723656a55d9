// Functions that make Deferreds that have fired already (twisted.internet.defer).
#pragma once

#include <functional>
#include <memory>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include <deferred/deferred.hpp>

namespace torsion {

/// A Deferred that has fired with `value`.
template <class T>
Deferred<T> succeed(T value, std::source_location where = std::source_location::current()) {
  Deferred<T> deferred(where);
  deferred.callback(std::move(value));
  return deferred;
}
inline Deferred<void> succeed(std::source_location where = std::source_location::current()) {
  Deferred<void> deferred(where);
  deferred.callback();
  return deferred;
}

/// A Deferred<T> that has failed: fail<int>(ConnectError("...")).
template <class T>
Deferred<T> fail(Failure failure, std::source_location where = std::source_location::current()) {
  Deferred<T> deferred(where);
  deferred.errback(std::move(failure));
  return deferred;
}

namespace detail {

// What a callable that returns a Deferred, and the temporaries among its arguments, are kept in until that has fired.
template <class F, class... A>
struct KeptCall {
  F f;
  std::tuple<A...> args;
};

// f(args...), with a Deferred of its own made at `where` if it returns none.
template <class F, class... A>
auto callMaybe(const std::source_location& where, F&& f, A&&... args) {
  using R = std::remove_cvref_t<std::invoke_result_t<F, A...>>;
  using T = After<void, R>;
  requireCallable(f, "maybeDeferred: the callable is null");
  try {
    if constexpr (returnsDeferred<R>) {
      return std::invoke(std::forward<F>(f), std::forward<A>(args)...);
    } else if constexpr (std::is_void_v<R>) {
      std::invoke(std::forward<F>(f), std::forward<A>(args)...);
      return succeed(where);
    } else if constexpr (std::is_same_v<R, Failure>) {
      return fail<void>(std::invoke(std::forward<F>(f), std::forward<A>(args)...), where);
    } else if constexpr (!std::is_same_v<R, T>) {
      Resolver<T> resolver(where);
      resolver.resolve(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
      return resolver.deferred();
    } else {
      return succeed(std::invoke(std::forward<F>(f), std::forward<A>(args)...), where);
    }
  } catch (...) {
    return fail<T>(Failure::current(), where);
  }
}

template <class F, class... A>
auto callPlain(const std::source_location& where, F&& f, A&&... args) {
  static_assert(!returnsDeferred<std::invoke_result_t<F, A...>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return callMaybe(where, std::forward<F>(f), std::forward<A>(args)...);
}

template <class F, class... A>
auto callAndKeep(const std::source_location& where, F&& f, A&&... args) {
  // Temporaries go with the caller's expression, but a coroutine may refer to them. What has a name is the caller's.
  constexpr bool keepsCallable = !std::is_lvalue_reference_v<F> && mayBeCoroutine<std::remove_cvref_t<F>, A...>();
  constexpr bool keepsArguments =
      returnsDeferred<std::invoke_result_t<F, A...>> && (... || !std::is_lvalue_reference_v<A>);
  if constexpr (keepsCallable || keepsArguments) {
    auto kept = std::make_shared<KeptCall<F, A...>>(
        KeptCall<F, A...>{std::forward<F>(f), std::tuple<A...>(std::forward<A>(args)...)});
    return keepUntilFired(
        std::apply(
            [&](auto&... kepts) { return callMaybe(where, static_cast<F&&>(kept->f), static_cast<A&&>(kepts)...); },
            kept->args),
        kept);
  } else {
    return callMaybe(where, std::forward<F>(f), std::forward<A>(args)...);
  }
}

}  // namespace detail

/// Calls f(args...), whatever it is, and gives a Deferred of its outcome: a Deferred that it returns, or one that has
/// fired with its value, or failed with the Result or Failure it returns or what it throws. If it returns a Deferred, f
/// and the arguments stay until that has fired, as long as they are temporaries; what has a name is yours to keep.
/// Throws std::invalid_argument if f is null.
// One by one, since `where` cannot follow a pack.
template <class F>
  requires std::is_invocable_v<F>
auto maybeDeferred(F&& f, std::source_location where = std::source_location::current()) {
  return detail::callAndKeep(where, std::forward<F>(f));
}
template <class F, class A>
  requires std::is_invocable_v<F, A>
auto maybeDeferred(F&& f, A&& a, std::source_location where = std::source_location::current()) {
  return detail::callAndKeep(where, std::forward<F>(f), std::forward<A>(a));
}
template <class F, class A, class B>
  requires std::is_invocable_v<F, A, B>
auto maybeDeferred(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
  return detail::callAndKeep(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
}
template <class F, class A, class B, class C>
  requires std::is_invocable_v<F, A, B, C>
auto maybeDeferred(F&& f, A&& a, B&& b, C&& c, std::source_location where = std::source_location::current()) {
  return detail::callAndKeep(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c));
}

/// Twisted's execute: as maybeDeferred, for a callable that returns no Deferred.
// Constrained because Asio looks for an execute() in the namespaces of its handlers' types.
template <class F>
  requires std::is_invocable_v<F>
auto execute(F&& f, std::source_location where = std::source_location::current()) {
  static_assert(!detail::returnsDeferred<std::invoke_result_t<F>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return detail::callMaybe(where, std::forward<F>(f));
}
template <class F, class A>
  requires std::is_invocable_v<F, A>
auto execute(F&& f, A&& a, std::source_location where = std::source_location::current()) {
  static_assert(!detail::returnsDeferred<std::invoke_result_t<F, A>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return detail::callMaybe(where, std::forward<F>(f), std::forward<A>(a));
}
template <class F, class A, class B>
  requires std::is_invocable_v<F, A, B>
auto execute(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
  static_assert(!detail::returnsDeferred<std::invoke_result_t<F, A, B>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return detail::callMaybe(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
}
template <class F, class A, class B, class C>
  requires std::is_invocable_v<F, A, B, C>
auto execute(F&& f, A&& a, B&& b, C&& c, std::source_location where = std::source_location::current()) {
  static_assert(!detail::returnsDeferred<std::invoke_result_t<F, A, B, C>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return detail::callMaybe(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c));
}

}  // namespace torsion
