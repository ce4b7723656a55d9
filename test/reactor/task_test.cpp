#include <reactor/task.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>

using namespace std::chrono_literals;
using namespace torsion;

namespace {

using Times = std::vector<Duration>;
using Counts = std::vector<std::pair<Duration, std::int64_t>>;

struct TestError : std::runtime_error {
  TestError() : runtime_error("test") {}
};

}  // namespace

TEST_SUITE("LoopingCall") {
  TEST_CASE("calls at once and then at each interval, until stopped") {
    Clock clock;
    Times times;
    LoopingCall loop([&] { times.push_back(clock.seconds()); }, clock);
    CHECK_FALSE(loop.running());
    Deferred<void> done = loop.start(1s);
    CHECK(loop.running());
    CHECK(loop.interval() == 1s);
    clock.pump({1s, 1s, 1s});
    CHECK(times == Times{0s, 1s, 2s, 3s});
    assertNoResult(done);
    loop.stop();
    CHECK_FALSE(loop.running());
    successResultOf(std::move(done));
    CHECK(clock.getDelayedCalls().empty());
    clock.advance(5s);
    CHECK(times.size() == 4);
  }

  TEST_CASE("a cancelled Deferred of start() is reported when the loop ends") {
    Clock clock;
    LogCapture log;
    LoopingCall loop([] {}, clock);
    {
      loop.start(1s).cancel();
    }
    CHECK(log.flushLoggedErrors().empty());
    loop.stop();
    CHECK(log.flushLoggedErrors().size() == 1);
  }

  TEST_CASE("without `now` the first call comes after an interval") {
    Clock clock;
    Times times;
    LoopingCall loop([&] { times.push_back(clock.seconds()); }, clock);
    loop.start(100ms, false);
    clock.pump({50ms, 100ms, 100ms});
    CHECK(times == Times{150ms, 250ms});
    loop.stop();
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("calls that were missed are left out, and the grid stays") {
    Clock clock;
    Times times;
    LoopingCall loop([&] { times.push_back(clock.seconds()); }, clock);
    loop.start(1s);
    clock.pump({3500ms, 500ms, 1s, 0s});
    CHECK(times == Times{0s, 3500ms, 4s, 5s});
  }

  TEST_CASE("a body that takes longer than the interval misses calls, also one due as it ends") {
    Clock clock;
    Times times;
    Duration takes = 2s;
    LoopingCall loop(
        [&] {
          times.push_back(clock.seconds());
          clock.advance(takes);
        },
        clock);
    loop.start(500ms);
    CHECK(clock.seconds() == 2s);
    clock.advance(0s);
    CHECK(times == Times{0s});
    takes = 1s;
    clock.advance(500ms);
    CHECK(times == Times{0s, 2500ms});
    clock.advance(0s);
    CHECK(times.size() == 2);
    takes = 0s;
    clock.advance(500ms);
    CHECK(times == Times{0s, 2500ms, 4s});
  }

  TEST_CASE("withCount gives the number of intervals since the last call") {
    Clock clock;
    Counts counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.emplace_back(clock.seconds(), n); }, clock);
    loop.start(1s);
    clock.pump({3500ms, 500ms, 1s, 0s});
    CHECK(counts == Counts{{0s, 1}, {3500ms, 3}, {4s, 1}, {5s, 1}});
  }

  TEST_CASE("withCount without `now`") {
    Clock clock;
    Counts counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.emplace_back(clock.seconds(), n); }, clock);
    loop.start(1s, false);
    clock.pump({1s, 3500ms, 500ms});
    CHECK(counts == Counts{{1s, 1}, {4500ms, 3}, {5s, 1}});
  }

  TEST_CASE("withCount counts points of the grid, not elapsed intervals") {
    Clock clock;
    std::vector<std::int64_t> counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.push_back(n); }, clock);
    loop.start(500ms);
    clock.pump({510ms, 875ms, 125ms});
    CHECK(counts == std::vector<std::int64_t>{1, 1, 1, 1});
  }

  TEST_CASE("withCount counts what was left out while the body's Deferred was awaited") {
    Clock clock;
    std::vector<std::int64_t> counts;
    Resolver<void> resolver;
    Deferred<void> pending = resolver.deferred();
    auto loop = LoopingCall::withCount(
        [&](std::int64_t n) -> Deferred<void> {
          counts.push_back(n);
          if (counts.size() == 1) return std::move(pending);
          return succeed();
        },
        clock);
    loop.start(200ms, false);
    CHECK(counts.empty());
    clock.pump({200ms, 400ms});
    CHECK(counts == std::vector<std::int64_t>{1});
    resolver.callback();
    CHECK(counts.size() == 1);
    clock.advance(200ms);
    CHECK(counts == std::vector<std::int64_t>{1, 3});
  }

  TEST_CASE("withCount never gives zero, and the counts add up, whatever the interval") {
    Clock clock;
    std::vector<std::int64_t> counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.push_back(n); }, clock);
    loop.start(Duration(1s) / 3, false);
    for (int i = 0; i < 30; ++i) clock.advance(Duration(1s) / 3);
    CHECK(counts == std::vector<std::int64_t>(30, 1));
  }

  TEST_CASE("withCount across reset() counts on the new grid, since the last call") {
    Clock clock;
    std::vector<std::int64_t> counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.push_back(n); }, clock);
    loop.start(1s);
    clock.pump({1s, 500ms});
    loop.reset();
    clock.advance(1s);
    CHECK(counts == std::vector<std::int64_t>{1, 1, 1});
  }

  TEST_CASE("withCount counts anew after a restart") {
    Clock clock;
    std::vector<std::int64_t> counts;
    auto loop = LoopingCall::withCount([&](std::int64_t n) { counts.push_back(n); }, clock);
    loop.start(1s);
    loop.stop();
    clock.advance(10s);
    loop.start(1s);
    CHECK(counts == std::vector<std::int64_t>{1, 1});
  }

  TEST_CASE("an interval of zero calls once a turn, with a count of 1") {
    Clock clock;
    std::vector<std::int64_t> counts;
    std::optional<LoopingCall> loop;
    Resolver<void> resolver;
    Deferred<void> pending = resolver.deferred();
    loop.emplace(LoopingCall::withCount(
        [&](std::int64_t n) -> Deferred<void> {
          counts.push_back(n);
          if (counts.size() == 2) return std::move(pending);
          if (counts.size() == 5) loop->stop();
          return succeed();
        },
        clock));
    Deferred<void> done = loop->start(0s, false);
    clock.advance(0s);
    CHECK(counts.size() == 2);
    clock.advance(2s);
    CHECK(counts.size() == 2);
    resolver.callback();
    clock.advance(0s);
    CHECK(counts == std::vector<std::int64_t>(5, 1));
    successResultOf(std::move(done));
  }

  TEST_CASE("a body that throws ends the loop") {
    Clock clock;
    Times times;
    LoopingCall loop(
        [&] {
          times.push_back(clock.seconds());
          if (times.size() == 2) throw TestError();
        },
        clock);
    Deferred<void> done = loop.start(1s);
    clock.advance(1s);
    CHECK_FALSE(loop.running());
    CHECK(failureResultOf(std::move(done)).check<TestError>());
    CHECK(clock.getDelayedCalls().empty());
    CHECK_THROWS_AS(loop.stop(), std::logic_error);
  }

  TEST_CASE("a body that throws in start()") {
    Clock clock;
    LoopingCall loop([] { throw TestError(); }, clock);
    Deferred<void> done = loop.start(1s);
    CHECK_FALSE(loop.running());
    CHECK(failureResultOf(std::move(done)).check<TestError>());
  }

  TEST_CASE("a body that stops the loop and then throws") {
    Clock clock;
    std::optional<LoopingCall> loop;
    loop.emplace(
        [&] {
          loop->stop();
          throw TestError();
        },
        clock);
    CHECK(failureResultOf(loop->start(1s)).check<TestError>());
  }

  TEST_CASE("a body that stops the loop") {
    Clock clock;
    int calls = 0;
    std::optional<LoopingCall> loop;
    loop.emplace(
        [&] {
          if (++calls == 6) loop->stop();
        },
        clock);
    Deferred<void> done = loop->start(0s);
    clock.advance(0s);
    CHECK(calls == 6);
    successResultOf(std::move(done));
  }

  TEST_CASE("the next call waits for the body's Deferred, and for the grid") {
    Clock clock;
    Times times;
    Resolver<int> resolver;
    Deferred<int> pending = resolver.deferred();
    LoopingCall loop(
        [&]() -> Deferred<int> {
          times.push_back(clock.seconds());
          if (times.size() == 1) return std::move(pending);
          return succeed(0);
        },
        clock);
    Deferred<void> done = loop.start(1s);
    clock.advance(2500ms);
    CHECK(times == Times{0s});
    CHECK(clock.getDelayedCalls().empty());
    CHECK(loop.running());
    CHECK_NOTHROW(loop.reset());
    resolver.callback(1);
    REQUIRE(clock.getDelayedCalls().size() == 1);
    CHECK(clock.getDelayedCalls()[0].getTime() == 3s);
    clock.advance(500ms);
    CHECK(times == Times{0s, 3s});
  }

  TEST_CASE("stop() while the body's Deferred is awaited fires when that has fired") {
    Clock clock;
    Resolver<void> resolver;
    LoopingCall loop([&] { return resolver.deferred(); }, clock);
    Deferred<void> done = loop.start(1s);
    loop.stop();
    CHECK_FALSE(loop.running());
    assertNoResult(done);
    CHECK_THROWS_AS(loop.start(1s), std::logic_error);
    resolver.callback();
    successResultOf(std::move(done));
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("a callback of the body's Deferred may stop the loop") {
    Clock clock;
    int calls = 0;
    std::optional<LoopingCall> loop;
    loop.emplace(
        [&] {
          ++calls;
          return deferLater(clock, 1s, [&] { loop->stop(); });
        },
        clock);
    Deferred<void> done = loop->start(200ms);
    clock.pump({200ms, 800ms});
    CHECK(calls == 1);
    CHECK(clock.getDelayedCalls().empty());
    successResultOf(std::move(done));
  }

  TEST_CASE("cancelling the Deferred of start() does not end the loop") {
    Clock clock;
    int calls = 0;
    LoopingCall loop([&] { ++calls; }, clock);
    Deferred<void> done = loop.start(1s);
    done.cancel();
    CHECK(failureResultOf(std::move(done)).check<CancelledError>());
    clock.advance(1s);
    CHECK(calls == 2);
    CHECK_NOTHROW(loop.stop());
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("a body's Deferred that fails ends the loop") {
    Clock clock;
    Resolver<void> resolver;
    LoopingCall loop([&] { return resolver.deferred(); }, clock);
    Deferred<void> done = loop.start(1s);
    resolver.errback(TestError());
    CHECK_FALSE(loop.running());
    CHECK(failureResultOf(std::move(done)).check<TestError>());
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("reset() starts the interval anew") {
    Clock clock;
    Times times;
    LoopingCall loop([&] { times.push_back(clock.seconds()); }, clock);
    loop.start(2s, false);
    clock.advance(1s);
    loop.reset();
    clock.advance(1s);
    CHECK(times.empty());
    clock.pump({1s, 2s});
    CHECK(times == Times{3s, 5s});
  }

  TEST_CASE("wrong uses") {
    Clock clock;
    LoopingCall loop([] {}, clock);
    CHECK_THROWS_AS(loop.stop(), std::logic_error);
    CHECK_THROWS_AS(loop.reset(), std::logic_error);
    CHECK_THROWS_AS(loop.start(-1s), std::invalid_argument);
    CHECK_FALSE(loop.running());
    loop.start(1s);
    CHECK_THROWS_AS(loop.start(1s), std::logic_error);
  }

  TEST_CASE("stopping before the first call") {
    for (Duration interval : {Duration(0s), Duration(10s)}) {
      Clock clock;
      bool ran = false;
      LoopingCall loop([&] { ran = true; }, clock);
      loop.start(interval, false);
      loop.stop();
      clock.advance(20s);
      CHECK_FALSE(ran);
      loop.start(10s, false);
      clock.callLater(1s, [&] { loop.stop(); });
      clock.advance(20s);
      CHECK_FALSE(ran);
    }
  }

  TEST_CASE("destroying it ends the loop, breaks its Deferred, and may be done in the body") {
    Clock clock;
    int calls = 0;
    auto loop = std::make_unique<LoopingCall>([&] { ++calls; }, clock);
    Deferred<void> done = loop->start(1s);
    loop.reset();
    CHECK(clock.getDelayedCalls().empty());
    CHECK(failureResultOf(std::move(done)).check<BrokenDeferred>());

    auto held = std::make_shared<int>(0);
    loop = std::make_unique<LoopingCall>(
        [&, held] {
          loop.reset();
          ++*held;
        },
        clock);
    done = loop->start(1s, false);
    clock.advance(1s);
    CHECK(*held == 1);
    CHECK(held.use_count() == 1);
    CHECK(failureResultOf(std::move(done)).check<BrokenDeferred>());
    CHECK(clock.getDelayedCalls().empty());

    Resolver<void> resolver;
    loop = std::make_unique<LoopingCall>([&] { return resolver.deferred(); }, clock);
    done = loop->start(1s);
    loop.reset();
    CHECK(failureResultOf(std::move(done)).check<BrokenDeferred>());
    resolver.callback();
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("its Deferred breaks when its clock goes") {
    auto clock = std::make_unique<Clock>();
    LoopingCall loop([] {}, *clock);
    Deferred<void> done = loop.start(1s);
    clock.reset();
    CHECK_FALSE(loop.running());
    CHECK(failureResultOf(std::move(done)).check<BrokenDeferred>());
  }

  TEST_CASE("on a reactor, the thread's own by default") {
    Reactor reactor;
    int calls = 0;
    std::optional<LoopingCall> loop;
    loop.emplace([&] {
      if (++calls == 3) loop->stop();
    });
    reactor.callWhenRunning([&] { loop->start(0s).addCallback([&] { reactor.stop(); }); });
    reactor.run();
    CHECK(calls == 3);
  }
}

TEST_SUITE("deferLater") {
  TEST_CASE("calls the function after the delay and fires with its result") {
    Clock clock;
    int calls = 0;
    auto result = deferLater(clock, 3s, [&] {
      ++calls;
      return std::string("v");
    });
    clock.advance(2s);
    CHECK(calls == 0);
    clock.advance(1s);
    CHECK(calls == 1);
    CHECK(successResultOf(std::move(result)) == "v");
  }

  TEST_CASE("fails with what the function throws, and waits for the Deferred it returns") {
    Clock clock;
    auto failed = deferLater(clock, 1s, []() -> int { throw TestError(); });
    Resolver<int> resolver;
    auto waits = deferLater(clock, 1s, [&] { return resolver.deferred(); });
    clock.advance(1s);
    CHECK(failureResultOf(std::move(failed)).check<TestError>());
    assertNoResult(waits);
    resolver.callback(5);
    CHECK(successResultOf(std::move(waits)) == 5);
  }

  TEST_CASE("without a function it just fires") {
    Clock clock;
    Deferred<void> result = deferLater(clock, 2s);
    assertNoResult(result);
    clock.advance(2s);
    successResultOf(std::move(result));
  }

  TEST_CASE("cancel() cancels the call") {
    Clock clock;
    bool called = false;
    auto result = deferLater(clock, 1s, [&] { called = true; });
    result.cancel();
    CHECK(clock.getDelayedCalls().empty());
    CHECK(failureResultOf(std::move(result)).check<CancelledError>());
    CHECK_FALSE(called);
  }

  TEST_CASE("breaks when its clock goes") {
    auto clock = std::make_unique<Clock>();
    Deferred<void> result = deferLater(*clock, 1s);
    clock.reset();
    CHECK(failureResultOf(std::move(result)).check<BrokenDeferred>());
  }

  TEST_CASE("a negative delay is refused") {
    Clock clock;
    CHECK_THROWS_AS(deferLater(clock, -1s), std::invalid_argument);
  }
}

TEST_SUITE("react") {
  TEST_CASE("runs the reactor until the Deferred fires") {
    Reactor reactor;
    bool passed = false;
    const int status = react(
        [&](Reactor& r) {
          CHECK(&r == &reactor);
          r.callLater(1ms, [&] { passed = true; });
          return deferLater(r, 2ms);
        },
        reactor);
    CHECK(status == 0);
    CHECK(passed);
    CHECK_FALSE(reactor.running());
  }

  TEST_CASE("the thread's own reactor by default; a Deferred that has fired already; its value") {
    Reactor reactor;
    CHECK(react([](Reactor&) { return succeed(); }) == 0);
    CHECK(react([](Reactor&) { return succeed(3); }) == 3);
    CHECK(react([](Reactor&) { return succeed(std::string("x")); }) == 0);
  }

  TEST_CASE("a coroutine") {
    Reactor reactor;
    auto mainFunction = [](Reactor& r) -> Deferred<int> {
      co_await deferLater(r, 1ms);
      co_return 7;
    };
    CHECK(react(mainFunction) == 7);
  }

  TEST_CASE("a failure is logged and gives 1, at once or later; so does what the function throws") {
    Reactor reactor;
    LogCapture log;
    CHECK(react([](Reactor&) { return fail<void>(TestError()); }) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    CHECK(react([](Reactor& r) { return deferLater(r, 1ms, [] { throw TestError(); }); }) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    CHECK(react([](Reactor&) -> Deferred<void> { throw TestError(); }) == 1);
    REQUIRE(log.events().size() >= 1);
    CHECK(log.events().back().text() == "main function encountered error");
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
  }

  TEST_CASE("a coroutine that throws, at once or later, and one that throws SystemExit") {
    Reactor reactor;
    LogCapture log;
    auto throwsAtOnce = [](Reactor&) -> Deferred<void> {
      co_await succeed();
      throw TestError();
    };
    CHECK(react(throwsAtOnce) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    auto throwsLater = [](Reactor& r) -> Deferred<void> {
      co_await deferLater(r, 1ms);
      throw TestError();
    };
    CHECK(react(throwsLater) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    auto exits = [](Reactor& r) -> Deferred<void> {
      co_await deferLater(r, 1ms);
      throw SystemExit(23);
    };
    CHECK(react(exits) == 23);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("the reactor is stopped by something else while a coroutine waits") {
    Reactor reactor;
    LogCapture log;
    Resolver<void> stopped, during, fails, never;
    auto justBefore = [&](Reactor& r) -> Deferred<void> {
      r.callWhenRunning([&] {
        r.stop();
        stopped.callback();
      });
      co_await stopped.deferred();
    };
    CHECK(react(justBefore) == 0);
    auto inShutdown = [&](Reactor& r) -> Deferred<void> {
      r.callLater(1ms, [&r] { r.stop(); });
      r.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { during.callback(); });
      co_await during.deferred();
    };
    CHECK(react(inShutdown) == 0);
    // The next run is not stopped.
    CHECK(react([](Reactor& r) { return deferLater(r, 1ms, [] { return 7; }); }) == 7);
    auto failsInShutdown = [&](Reactor& r) -> Deferred<void> {
      r.callLater(1ms, [&r] { r.stop(); });
      r.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { fails.errback(TestError()); });
      co_await fails.deferred();
    };
    CHECK(react(failsInShutdown) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    auto waits = [&](Reactor& r) -> Deferred<void> {
      r.callLater(1ms, [&r] { r.stop(); });
      co_await never.deferred();
    };
    CHECK(react(waits) == 0);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("SystemExit gives its status, silently") {
    Reactor reactor;
    LogCapture log;
    CHECK(react([](Reactor&) { return fail<void>(SystemExit(23)); }) == 23);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("the reactor is stopped by something else") {
    Reactor reactor;
    LogCapture log;
    // Just before the Deferred fires.
    CHECK(react([](Reactor& r) {
            Resolver<void> resolver;
            r.callWhenRunning([&r, resolver] {
              r.stop();
              resolver.callback();
            });
            return resolver.deferred();
          }) == 0);
    // And the Deferred fires in shutdown, either way.
    CHECK(react([](Reactor& r) {
            r.callLater(1ms, [&r] { r.stop(); });
            Resolver<void> resolver;
            r.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [resolver] { resolver.callback(); });
            return resolver.deferred();
          }) == 0);
    CHECK(react([](Reactor& r) {
            r.callLater(1ms, [&r] { r.stop(); });
            Resolver<void> resolver;
            r.addSystemEventTrigger(Phase::during, SystemEvent::shutdown,
                                    [resolver] { resolver.errback(TestError()); });
            return resolver.deferred();
          }) == 1);
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
    // And it never fires.
    Resolver<void> never;
    CHECK(react([&](Reactor& r) {
            r.callLater(1ms, [&r] { r.stop(); });
            return never.deferred();
          }) == 0);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("a LoopingCall of nothing, or moved from, says so") {
    Clock clock;
    CHECK_THROWS_AS(LoopingCall(std::function<void()>(), clock), std::invalid_argument);
    LoopingCall loop([] {}, clock);
    const LoopingCall moved = std::move(loop);
    CHECK_FALSE(loop.running());
    CHECK_THROWS_AS(loop.start(1s), std::logic_error);
    CHECK_THROWS_AS(loop.stop(), std::logic_error);
    CHECK_THROWS_AS(loop.interval(), std::logic_error);
  }
}
