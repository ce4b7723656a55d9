// What class AMP makes of a command's declaration: see amp.hpp for how one is written.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <deferred/deferred.hpp>
#include <protocols/amp_box.hpp>
#include <protocols/amp_types.hpp>

namespace torsion::amp {

/// An exception that a command may fail with, and its code on the wire.
template <class E>
struct ErrorCode {
  std::string_view code;
  bool fatal;
};

/// A responder that fails with an E answers `code` and what() (Twisted's `errors`). The caller's Deferred then fails
/// with an E too: it is made from that text if E can be made from a string.
template <class E>
consteval ErrorCode<E> error(std::string_view code) {
  return {code, false};
}
/// The same for an error after which the responder's side closes the connection (Twisted's `fatalErrors`).
template <class E>
consteval ErrorCode<E> fatalError(std::string_view code) {
  return {code, true};
}
/// All of a command. Of those that an exception is, the first counts. A command that is to have another's, too:
/// std::tuple_cat(Other::errors, amp::errors(...)).
template <class... E>
consteval std::tuple<ErrorCode<E>...> errors(ErrorCode<E>... e) {
  return {e...};
}

namespace detail {

template <class C>
auto argumentsOf() {
  if constexpr (requires { typename C::Arguments; }) {
    return std::type_identity<typename C::Arguments>();
  } else {
    return std::type_identity<void>();
  }
}
template <class C>
auto responseOf() {
  if constexpr (requires { typename C::Response; }) {
    return std::type_identity<typename C::Response>();
  } else {
    return std::type_identity<void>();
  }
}
/// void for a command without any.
template <class C>
using Arguments = typename decltype(argumentsOf<C>())::type;
template <class C>
using Response = typename decltype(responseOf<C>())::type;

template <class C>
constexpr bool requiresAnswer() {
  if constexpr (requires { C::requiresAnswer; }) {
    return C::requiresAnswer;
  } else {
    return true;
  }
}

template <class C>
constexpr auto errorsOf() {
  if constexpr (requires { C::errors; }) {
    return C::errors;
  } else {
    return std::tuple<>();
  }
}

template <class E>
Failure declaredError(const std::string& description) {
  static_assert(std::is_constructible_v<E, const std::string&> || std::is_default_constructible_v<E>,
                "amp::error<E>: the caller's side makes an E from the text of the error, or from nothing");
  if constexpr (std::is_constructible_v<E, const std::string&>) {
    return Failure(std::make_exception_ptr(E(description)));
  } else {
    return Failure(std::make_exception_ptr(E()));
  }
}

/// The caller's side: what a declared code, or an unknown one, is.
template <class C>
Failure toLocalError(const RemoteAmpError& remote) {
  Failure result = UnknownRemoteError(remote.errorCode, remote.description);
  bool found = false;
  const auto look = [&]<class E>(const ErrorCode<E>& declared) {
    if (found || declared.code != remote.errorCode) return;
    found = true;
    result = declaredError<E>(remote.description);
  };
  std::apply([&](const auto&... declared) { (look(declared), ...); }, errorsOf<C>());
  return result;
}

/// The responder's side: a declared error with its code; any other stays as it is.
template <class C>
Failure toRemoteError(const Failure& failure) {
  Failure result = failure;
  bool found = false;
  const auto look = [&]<class E>(const ErrorCode<E>& declared) {
    if (found || !failure.check<E>()) return;
    found = true;
    result = RemoteAmpError(std::string(declared.code), failure.getErrorMessage(), declared.fatal);
  };
  std::apply([&](const auto&... declared) { (look(declared), ...); }, errorsOf<C>());
  return result;
}

template <class C>
Response<C> parseResponse(const Box& box, DescriptorExchanger& exchanger) {
  if constexpr (!std::is_void_v<Response<C>>) return boxToObject<Response<C>>(box, C::response, exchanger);
}

template <class C>
Box makeResponse(const Response<C>& response, DescriptorExchanger& exchanger) {
  exchanger.clear();
  try {
    return objectToBox(response, C::response, exchanger);
  } catch (...) {
    throw BadLocalReturn(Failure::current());
  }
}

template <class C, class F>
constexpr bool takesArguments() {
  if constexpr (std::is_void_v<Arguments<C>>) {
    return std::is_invocable_v<F&>;
  } else {
    return std::is_invocable_v<F&, Arguments<C>>;
  }
}
/// What a responder that returns R gives.
template <class R>
using Given = torsion::detail::After<void, R>;
template <class C, class F>
constexpr bool givesResponse() {
  if constexpr (std::is_void_v<Arguments<C>>) {
    return std::is_same_v<Given<std::invoke_result_t<F&>>, Response<C>>;
  } else {
    return std::is_same_v<Given<std::invoke_result_t<F&, Arguments<C>>>, Response<C>>;
  }
}

/// Calls a responder with the arguments in `box`, and makes a box of what it gives.
template <class C, class F>
Deferred<Box> respondTo(F& responder, const Box& box, const std::shared_ptr<DescriptorExchanger>& exchanger) {
  using A = Arguments<C>;
  using R = Response<C>;
  Deferred<A> arguments;
  try {
    if constexpr (std::is_void_v<A>) {
      arguments.callback();
    } else {
      arguments.callback(boxToObject<A>(box, C::arguments, *exchanger));
    }
  } catch (...) {
    arguments.errback(Failure::current());
  }
  // The arguments, and the responder, last as long as a coroutine of the responder's needs them.
  Deferred<R> called = [&] {
    if constexpr (std::is_void_v<A>) {
      return std::move(arguments).addCallback([&responder] { return responder(); });
    } else {
      return std::move(arguments).addCallback([&responder](A&& given) { return responder(std::move(given)); });
    }
  }();
  const auto toRemote = [](const Failure& failure) { return toRemoteError<C>(failure); };
  if constexpr (std::is_void_v<R>) {
    return std::move(called).addCallback([] { return Box(); }).addErrback(toRemote);
  } else {
    const auto toBox = [exchanger](const R& response) { return makeResponse<C>(response, *exchanger); };
    return std::move(called).addCallback(toBox).addErrback(toRemote);
  }
}

}  // namespace detail
}  // namespace torsion::amp
