// Functions that make Deferreds that have fired already (twisted.internet.defer).
#pragma once

#include <functional>
#include <source_location>
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

/// Calls f(args...), whatever it is, and gives a Deferred of its outcome: a Deferred that it returns, or one that has
/// fired with its value, or failed with the Result or Failure it returns or what it throws. Also Twisted's execute.
template <class F, class... A>
  requires std::is_invocable_v<F, A...>
auto maybeDeferred(F&& f, A&&... args) {
  using R = std::remove_cvref_t<std::invoke_result_t<F, A...>>;
  using T = detail::After<void, R>;
  try {
    if constexpr (detail::returnsDeferred<R>) {
      return std::invoke(std::forward<F>(f), std::forward<A>(args)...);
    } else if constexpr (std::is_void_v<R>) {
      std::invoke(std::forward<F>(f), std::forward<A>(args)...);
      return succeed();
    } else if constexpr (std::is_same_v<R, Failure>) {
      return fail<void>(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
    } else if constexpr (!std::is_same_v<R, T>) {
      Resolver<T> resolver;
      resolver.resolve(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
      return resolver.deferred();
    } else {
      return succeed(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
    }
  } catch (...) {
    return fail<T>(Failure::current());
  }
}

/// Twisted's execute: as maybeDeferred, for a callable that returns no Deferred.
// Constrained because Asio looks for an execute() in the namespaces of its handlers' types.
template <class F, class... A>
  requires std::is_invocable_v<F, A...>
auto execute(F&& f, A&&... args) {
  static_assert(!detail::returnsDeferred<std::invoke_result_t<F, A...>>,
                "execute: the callable returns a Deferred; use maybeDeferred");
  return maybeDeferred(std::forward<F>(f), std::forward<A>(args)...);
}

}  // namespace torsion
