// The bridge to Boost.Asio: the only header of Torsion that includes it. Any library made for Asio works with it.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/error_code.hpp>
#include <exception>
#include <memory>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include <deferred/deferred.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// The io_context that `reactor` runs: make sockets, pipes, timers and so on with it. Only the reactor may run it.
boost::asio::io_context& context(Reactor& reactor = torsion::reactor());

struct UseDeferred {};

/// A completion token: with it, an operation of Asio or Beast returns a Deferred.
///
///   boost::asio::readable_pipe pipe(torsion::context());
///   Deferred<std::size_t> d = boost::asio::async_read(pipe, boost::asio::buffer(bytes), torsion::use_deferred);
///
/// An operation that completes with (error_code, T) gives a Deferred<T>; with no T, Deferred<void>; with more than one,
/// Deferred<std::tuple<...>>. An error is a std::system_error with that code. Buffers must live until it has fired:
/// cancel() asks the operation to end, and the Deferred fires when it has, always with CancelledError.
inline constexpr UseDeferred use_deferred{};

namespace detail {

template <class... T>
struct AsioResult {
  using type = std::tuple<T...>;
};
template <>
struct AsioResult<> {
  using type = void;
};
template <class T>
struct AsioResult<T> {
  using type = T;
};

template <class Value>
struct AsioOperation {
  Resolver<Value> resolver;
  boost::asio::cancellation_signal signal;
  bool cancelled = false;
};

// The handler of an operation whose values, after an error_code or exception_ptr or neither, are `Value`.
template <class Value>
class AsioHandler {
 public:
  using cancellation_slot_type = boost::asio::cancellation_slot;

  explicit AsioHandler(std::shared_ptr<AsioOperation<Value>> operation) noexcept : operation_(std::move(operation)) {}
  cancellation_slot_type get_cancellation_slot() const noexcept { return operation_->signal.slot(); }

  void operator()() { finish(); }
  template <class First, class... Rest>
  void operator()(First&& first, Rest&&... rest) {
    if constexpr (std::is_same_v<std::decay_t<First>, boost::system::error_code>) {
      if (!first || operation_->cancelled) return finish(std::forward<Rest>(rest)...);
      take().errback(std::system_error(std::error_code(first)));
    } else if constexpr (std::is_same_v<std::decay_t<First>, std::exception_ptr>) {
      if (!first || operation_->cancelled) return finish(std::forward<Rest>(rest)...);
      take().errback(Failure(std::exception_ptr(std::forward<First>(first))));
    } else {
      finish(std::forward<First>(first), std::forward<Rest>(rest)...);
    }
  }

 private:
  template <class... T>
  void finish(T&&... values) {
    if (operation_->cancelled) {
      take().errback(CancelledError());
    } else {
      take().callback(std::forward<T>(values)...);
    }
  }
  // Frees the operation before callbacks run.
  Resolver<Value> take() { return std::exchange(operation_, nullptr)->resolver; }

  std::shared_ptr<AsioOperation<Value>> operation_;
};

template <class... T, class Initiation, class... Args>
auto startAsioOperation(Initiation&& initiation, Args&&... args) {
  using Value = typename AsioResult<std::decay_t<T>...>::type;
  auto operation = std::make_shared<AsioOperation<Value>>();
  Deferred<Value> deferred = operation->resolver.deferred();
  operation->resolver.onCancel([weak = std::weak_ptr(operation)](const Resolver<Value>&) -> CancelPending {
    if (auto operation = weak.lock()) {
      operation->cancelled = true;
      operation->signal.emit(boost::asio::cancellation_type::terminal);
    }
    return {};
  });
  std::forward<Initiation>(initiation)(AsioHandler<Value>(std::move(operation)), std::forward<Args>(args)...);
  return deferred;
}

}  // namespace detail
}  // namespace torsion

namespace boost::asio {

template <class R, class... T>
struct async_result<torsion::UseDeferred, R(T...)> {
  template <class Initiation, class... Args>
  static auto initiate(Initiation&& initiation, torsion::UseDeferred, Args&&... args) {
    return torsion::detail::startAsioOperation<T...>(std::forward<Initiation>(initiation), std::forward<Args>(args)...);
  }
};
template <class R, class... T>
struct async_result<torsion::UseDeferred, R(boost::system::error_code, T...)> {
  template <class Initiation, class... Args>
  static auto initiate(Initiation&& initiation, torsion::UseDeferred, Args&&... args) {
    return torsion::detail::startAsioOperation<T...>(std::forward<Initiation>(initiation), std::forward<Args>(args)...);
  }
};
template <class R, class... T>
struct async_result<torsion::UseDeferred, R(std::exception_ptr, T...)> {
  template <class Initiation, class... Args>
  static auto initiate(Initiation&& initiation, torsion::UseDeferred, Args&&... args) {
    return torsion::detail::startAsioOperation<T...>(std::forward<Initiation>(initiation), std::forward<Args>(args)...);
  }
};

}  // namespace boost::asio
