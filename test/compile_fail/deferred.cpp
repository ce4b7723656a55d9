// What a wrong use of a Deferred says.
#include <memory>
#include <stdexcept>
#include <string>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>

using namespace torsion;

struct Page {};

void callbacks() {
  Deferred<int> d;
#if CASE == 1  // error: addCallback: the callback cannot be called with this Deferred's value
  d.addCallback([](std::string) {});
#elif CASE == 2  // error: addCallback: the callback cannot be called with this Deferred's value
  Deferred<Page> page = std::move(d).addCallback([](const Page&) {}).addErrback([](Failure) {}).addBoth([](int) {});
#elif CASE == 3  // error: addCallback on a named Deferred must keep its type; to change it: auto e = std::move(
  d.addCallback([](int n) { return std::to_string(n); });
#elif CASE == 7  // error: instead of a member: chain the calls where it is made, and keep its .canceller()
  d.addCallback([](int) {});
#elif CASE == 4  // error: addCallback: the callback cannot be called with this Deferred's value (or
  Deferred<void>().addCallback([](int) {});
#elif CASE == 5  // error: addCallback: the callback cannot be called with this Deferred's value
  d.addCallback(7);
#elif CASE == 6  // error: addCallback: the callback cannot be called with this Deferred's value
  Deferred<std::string>().addCallback([](const Page&) { return 0; });
#else
  d.addCallback([](int n) { return n; }).addCallback([](long n) { return static_cast<int>(n); });
  std::move(d).addCallback([](int n) { return std::to_string(n); }).addCallback([](const std::string&) {});
#endif
}

void errbacks() {
  Deferred<int> d;
#if CASE == 10  // error: addErrback: the errback must take a Failure, or one exception class
  d.addErrback([](int) { return 0; });
#elif CASE == 11  // error: addErrback: the errback must take a Failure, or one exception class
  d.addErrback([](const std::runtime_error&, int) { return 0; });
#elif CASE == 12  // error: addErrback: the errback must return this Deferred's type; return a value, or the Failure
  d.addErrback([](const std::runtime_error&) {});
#elif CASE == 13  // error: addErrback: the errback must return this Deferred's type; return a value, or the Failure
  d.addErrback([](const Failure&) { return std::string(); });
#elif CASE == 14  // error: addErrback: the errback must return this Deferred's type; return a value, or the Failure
  std::move(d).addErrback([](auto&&) { return Page(); }).addCallback([](int) {});
#else
  d.addErrback([](const std::runtime_error&) { return 0; }).addErrback([](Failure f) { return f; });
  Deferred<void>().addErrback([](const Failure&) {});
#endif
}

void both() {
  Deferred<int> d;
#if CASE == 20  // error: addCallbacks: the callback cannot be called with this Deferred's value
  d.addCallbacks([](std::string) { return 0; }, [](Failure) { return 0; });
#elif CASE == 21  // error: addCallbacks: the errback must take a Failure, or one exception class
  d.addCallbacks([](int n) { return n; }, [](int n) { return n; });
#elif CASE == 22  // error: addCallbacks on a named Deferred must keep its type; to change it: auto e = std
  d.addCallbacks([](int n) { return std::to_string(n); }, [](Failure) { return std::string(); });
#elif CASE == 23  // error: addCallbacks: the errback must return what the callback returns, or the Failure
  std::move(d).addCallbacks([](int n) { return std::to_string(n); }, [](Failure) { return Page(); }).addBoth([] {});
#elif CASE == 24  // error: addBoth: the callback must take a Result<T>, or nothing
  d.addBoth([](int n) { return n; });
#elif CASE == 25  // error: addBoth on a named Deferred must keep its type; to change it: auto e = std::move(
  d.addBoth([](Result<int>) { return std::string(); });
#else
  d.addCallbacks([](int n) { return n; }, [](Failure) { return 0; }).addBoth([](Result<int> r) { return r; });
  std::move(d).addBoth([] { return std::string(); });
#endif
}

void firing() {
#if CASE == 30  // error: Deferred::callback: T cannot be made from these arguments
  Deferred<int>().callback("text");
#elif CASE == 31  // error: Resolver::callback: T cannot be made from these arguments
  Resolver<Page>().callback(1, 2);
#elif CASE == 32  // error: onCancel: a canceller takes a const Resolver<T>&
  Resolver<int>().onCancel([] {});
#elif CASE == 33  // error: execute: the callable returns a Deferred; use maybeDeferred
  execute([] { return succeed(1); });
#elif CASE == 34  // error: Deferred<T>: T cannot be a Deferred, a Result or a Failure; a callback that returns one
  succeed(succeed(1));
#elif CASE == 35  // error: Deferred<T>: T cannot be a Deferred, a Result or a Failure; a callback that returns one
  succeed(Failure(CancelledError()));
#elif CASE == 36  // error: Deferred(canceller): the producer sets it: Resolver<T> r; r.onCancel(canceller);
  Deferred<int> d([](const auto&) {});
#else
  Deferred<std::string>().callback("text");
  Resolver<int>().onCancel([](const Resolver<int>& resolver) { resolver.callback(1); });
  maybeDeferred([] { return succeed(1); });
#endif
}

void timeouts(Time& time) {
  Deferred<int> d;
  const Duration limit{1};
#if CASE == 60  // error: addTimeout: onTimeoutCancel takes a Result<T> and a Duration
  d.addTimeout(limit, time, [](const Failure&) { return 0; });
#elif CASE == 61  // error: addTimeout: onTimeoutCancel must return this Deferred's type; return a value, or a Failure
  d.addTimeout(limit, time, [](Result<int>, Duration) {});
#elif CASE == 62  // error: addTimeout: onTimeoutCancel must return this Deferred's type; return a value, or a Failure
  std::move(d).addTimeout(limit, time, [](Result<int>, Duration) { return Page(); }).addCallback([](int) {});
#else
  d.addTimeout(limit, time, [](Result<int>, Duration) { return 0; });
  Deferred<void>().addTimeout(limit, time, [](Result<void>, Duration) {});
#endif
}

Deferred<std::unique_ptr<int>> coroutine() {
  Deferred<std::unique_ptr<int>> d;
#if CASE == 40  // error: co_await d copies the result of d; T cannot be copied, so write co_await std::move(d)
  co_await d;
#elif CASE == 41  // error: co_return: give a T, a Result<T> or a Failure
  co_return 5;
#elif CASE == 42  // error: co_await: only a Deferred can be awaited in a function that returns one
  int n = co_await 1;
  static_cast<void>(n);
#endif
  auto value = co_await std::move(d);
  co_return value;
}

void copies() {
  Deferred<int> d;
#if CASE == 50  // error: deleted
  Deferred<int> e = d;
#endif
}
