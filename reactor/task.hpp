// Work in time: calls at intervals, a Deferred that fires later, and a main function that is a Deferred
// (twisted.internet.task).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/detail/require.hpp>
#include <deferred/function.hpp>
#include <deferred/time.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

namespace detail {

template <class T>
struct IsDeferred : std::false_type {};
template <class T>
struct IsDeferred<Deferred<T>> : std::true_type {};

}  // namespace detail

/// Calls a function at fixed intervals: at start, and then whenever a multiple of the interval since the start has
/// come. Points of time that were missed, because the function or the reactor was busy, are left out, not made up for.
///
///   LoopingCall tick([&] { ++ticks; });
///   tick.start(1s).addErrback([](const Failure& f) { log.failure("tick", f); });
///
/// If the function returns a Deferred, the next call waits for it. If it throws, or its Deferred fails, the loop ends.
/// Destroying a LoopingCall ends the loop; the Deferred of start() then fails with BrokenDeferred.
class LoopingCall {
 public:
  /// f takes nothing, and returns a Deferred or anything else, which is ignored. Throws std::invalid_argument for an
  /// empty f. One that was moved from can only be destroyed.
  template <class F>
  explicit LoopingCall(F f, Time& time = reactor())
      : LoopingCall([f = checked(std::move(f))](std::int64_t) mutable { return callBody(f); }, time, false) {}
  /// f takes the number of intervals since it was last called: 1, or more if calls were left out. With an interval of
  /// zero it is always 1.
  template <class F>
  static LoopingCall withCount(F f, Time& time = reactor()) {
    return LoopingCall([f = checked(std::move(f))](std::int64_t count) mutable { return callBody(f, count); }, time,
                       true);
  }
  LoopingCall(LoopingCall&&) noexcept = default;
  LoopingCall& operator=(LoopingCall&&) = delete;
  ~LoopingCall();

  /// Starts the loop, with a call at once or (`now` false) after one interval. Zero: as often as possible, once a turn.
  /// Fires when stop() has ended the loop; fails with what the function threw or its Deferred failed with.
  /// Throws std::logic_error if it has not ended, std::invalid_argument for a negative interval.
  Deferred<void> start(Duration interval, bool now = true,
                       std::source_location where = std::source_location::current());
  /// Ends the loop: now, or when the Deferred that the function returned has fired. Throws std::logic_error if it is
  /// not running.
  void stop();
  /// Starts counting intervals anew from now. No effect while the function's Deferred is awaited. Throws
  /// std::logic_error if it is not running.
  void reset();

  /// False as soon as it has been stopped or has failed.
  bool running() const noexcept;
  Duration interval() const;

 private:
  struct State;
  State& state() const;
  using Body = UniqueFunction<std::optional<Deferred<void>>(std::int64_t)>;
  LoopingCall(Body body, Time& time, bool counts);

  template <class F>
  static F checked(F f) {
    detail::requireCallable(f, "LoopingCall: there is no function to call");
    return f;
  }
  template <class F, class... A>
  static std::optional<Deferred<void>> callBody(F& f, A... args) {
    using Returned = std::remove_cvref_t<std::invoke_result_t<F&, A...>>;
    if constexpr (!detail::IsDeferred<Returned>::value) {
      f(args...);
      return std::nullopt;
    } else if constexpr (std::is_same_v<Returned, Deferred<void>>) {
      return f(args...);
    } else {
      return f(args...).addCallback([](const typename Returned::value_type&) {});
    }
  }

  std::shared_ptr<State> state_;
};

/// Fires after `delay`. cancel() cancels the call.
Deferred<void> deferLater(Time& time, Duration delay, std::source_location where = std::source_location::current());
/// Calls f() after `delay` and fires with what it returns (or what the Deferred that it returns gives). cancel() before
/// that cancels the call.
template <class F>
auto deferLater(Time& time, Duration delay, F f, std::source_location where = std::source_location::current()) {
  return deferLater(time, delay, where).addCallback(std::move(f), where);
}

/// Fails the main function of react() to end the program with an exit status and no message.
struct SystemExit : std::runtime_error {
  explicit SystemExit(int status) : runtime_error("exit with status " + std::to_string(status)), status(status) {}
  int status;
};

namespace detail {
int react(UniqueFunction<Deferred<int>(Reactor&)> mainFunction, Reactor& reactor);
}

/// Calls mainFunction(reactor), runs the reactor until the Deferred that it returned fires, and gives the exit status
/// for main(): an int that it fired with, 0 for nothing, 1 if it failed, which is logged, or SystemExit's status.
///
///   int main() { return torsion::react([](Reactor& reactor) -> Deferred<void> { ... }); }
template <class F>
int react(F mainFunction, Reactor& reactor = torsion::reactor()) {
  return detail::react(
      [f = std::move(mainFunction)](Reactor& r) mutable -> Deferred<int> {
        using Returned = std::invoke_result_t<F&, Reactor&>;
        static_assert(detail::IsDeferred<Returned>::value, "react: the main function returns a Deferred");
        if constexpr (std::is_same_v<Returned, Deferred<int>>) {
          return f(r);
        } else if constexpr (std::is_same_v<Returned, Deferred<void>>) {
          return f(r).addCallback([] { return 0; });
        } else {
          return f(r).addCallback([](const typename Returned::value_type&) { return 0; });
        }
      },
      reactor);
}

}  // namespace torsion
