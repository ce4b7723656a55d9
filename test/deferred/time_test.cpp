// deferred/time.hpp, and addTimeout of deferred/deferred.hpp on the test Clock.
#include <deferred/time.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <reactor/testing/clock.hpp>
#include <test/support/at_end.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct GenericError : std::runtime_error {
  using runtime_error::runtime_error;
};

// A Deferred<int> on a Clock, and what came of it.
struct Timed {
  Clock clock;
  Resolver<int> r;
  Deferred<int> d = r.deferred();
  std::string seen = "pending";

  void watch() {
    d.addBoth([this](Result<int> result) {
      seen = result.ok() ? std::to_string(result.value()) : "!" + result.failure().getErrorMessage();
      return 0;
    });
  }
};

// An onTimeoutCancel that tells what it was given.
auto tell(std::string& told) {
  return [&told](Result<int> result, Duration limit) -> Result<int> {
    told = (result.ok() ? std::to_string(result.value()) : result.failure().getErrorMessage()) + " after " +
           std::to_string(std::chrono::duration_cast<std::chrono::seconds>(limit).count());
    return -1;
  };
}

}  // namespace

TEST_CASE("a default DelayedCall is inert") {
  DelayedCall call;
  CHECK_FALSE(call.active());
  CHECK(call.getTime() == Duration::zero());
  CHECK_NOTHROW(call.cancel());
  CHECK_NOTHROW(call.reset(1s));
  CHECK_NOTHROW(call.delay(1s));
}

TEST_CASE("a result before the timeout passes, and the timer goes with it") {
  Timed t;
  SUBCASE("a value") {
    t.d.addTimeout(10s, t.clock);
    t.watch();
    t.r.callback(3);
    CHECK(t.seen == "3");
  }
  SUBCASE("a failure") {
    t.d.addTimeout(10s, t.clock);
    t.watch();
    t.r.errback(GenericError("mine"));
    CHECK(t.seen == "!mine");
  }
  SUBCASE("without a call of onTimeoutCancel") {
    std::string told;
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.r.callback(3);
    CHECK(t.seen == "3");
    CHECK(told.empty());
  }
  CHECK(t.clock.getDelayedCalls().empty());
  t.clock.advance(20s);
}

TEST_CASE("without a result in time the Deferred is cancelled and fails with TimeoutError") {
  Timed t;
  bool timedOut = false;
  t.d.addTimeout(10s, t.clock);
  t.d.addErrback([&](const TimeoutError&) { return timedOut = true, 0; });
  t.clock.advance(9s);
  CHECK_FALSE(timedOut);
  t.clock.advance(1s);
  CHECK(timedOut);
  CHECK_NOTHROW(t.r.callback(1));
}

TEST_CASE("onTimeoutCancel makes the result, whatever the cancel gave") {
  Timed t;
  std::string told;
  SUBCASE("CancelledError") {
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "cancelled after 10");
  }
  SUBCASE("a value of the canceller's") {
    t.r.onCancel([](const Resolver<int>& r) { r.callback(7); });
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "7 after 10");
  }
  SUBCASE("a failure of the canceller's") {
    t.r.onCancel([](const Resolver<int>& r) { r.errback(GenericError("mine")); });
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "mine after 10");
  }
  SUBCASE("what a callback before it made of the canceller's value") {
    t.r.onCancel([](const Resolver<int>& r) { r.callback(7); });
    t.d.addCallback([](int n) { return n + 2; });
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "9 after 10");
  }
  SUBCASE("what an errback before it made of the cancel") {
    t.d.addErrback([](const CancelledError&) { return 8; });
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "8 after 10");
  }
  CHECK(t.seen == "-1");
}

TEST_CASE("onTimeoutCancel may return a Deferred") {
  Timed t;
  Resolver<int> later;
  t.d.addTimeout(1s, t.clock, [&](Result<int>, Duration) { return later.deferred(); });
  t.watch();
  t.clock.advance(1s);
  CHECK(t.seen == "pending");
  later.callback(4);
  CHECK(t.seen == "4");
}

TEST_CASE("onTimeoutCancel of a Deferred of nothing may return nothing, or a Failure") {
  Clock clock;
  Resolver<void> r, fails;
  std::string log;
  r.deferred()
      .addTimeout(1s, clock, [&](Result<void> result, Duration) { log += result.failure().getErrorMessage(); })
      .addCallback([&] { log += ", went on"; });
  auto failing = [](Result<void>, Duration) { return Failure(GenericError("mine")); };
  fails.deferred().addTimeout(2s, clock, failing).addErrback([&](const GenericError& e) { log += e.what(); });
  clock.advance(1s);
  CHECK(log == "cancelled, went on");
  log.clear();
  clock.advance(1s);
  CHECK(log == "mine");
}

TEST_CASE("what the canceller fires at the timeout is not TimeoutError") {
  Timed t;
  SUBCASE("a value") {
    t.r.onCancel([](const Resolver<int>& r) { r.callback(7); });
    t.d.addTimeout(10s, t.clock);
    t.watch();
    t.clock.advance(15s);
    CHECK(t.seen == "7");
  }
  SUBCASE("a failure") {
    t.r.onCancel([](const Resolver<int>& r) { r.errback(GenericError("mine")); });
    t.d.addTimeout(10s, t.clock);
    t.watch();
    t.clock.advance(15s);
    CHECK(t.seen == "!mine");
  }
}

TEST_CASE("a cancel before the timeout stays a cancel") {
  Timed t;
  std::string told;
  SUBCASE("plain") {
    t.d.addTimeout(10s, t.clock);
  }
  SUBCASE("with onTimeoutCancel, which is not called") {
    t.d.addTimeout(10s, t.clock, tell(told));
  }
  t.watch();
  t.clock.advance(9s);
  t.d.cancel();
  CHECK(t.seen == "!cancelled");
  CHECK(told.empty());
  CHECK(t.clock.getDelayedCalls().empty());
}

TEST_CASE("an errback added before the timeout sees the CancelledError") {
  Timed t;
  std::string saw;
  SUBCASE("and passes it on") {
    t.d.addErrback([&](const Failure& f) { return saw = f.getErrorMessage(), f; });
    t.d.addTimeout(10s, t.clock);
    bool timedOut = false;
    t.d.addErrback([&](const TimeoutError&) { return timedOut = true, 0; });
    t.clock.advance(15s);
    CHECK(timedOut);
  }
  SUBCASE("or handles it") {
    t.d.addErrback([&](const Failure& f) { return saw = f.getErrorMessage(), 5; });
    t.d.addTimeout(10s, t.clock);
    t.watch();
    t.clock.advance(15s);
    CHECK(t.seen == "5");
  }
  SUBCASE("and passes it on to onTimeoutCancel") {
    std::string told;
    t.d.addErrback([&](const Failure& f) { return saw = f.getErrorMessage(), f; });
    t.d.addTimeout(10s, t.clock, tell(told));
    t.watch();
    t.clock.advance(15s);
    CHECK(told == "cancelled after 10");
    CHECK(t.seen == "-1");
  }
  CHECK(saw == "cancelled");
}

TEST_CASE("a timeout covers the callbacks that were added before it") {
  Timed t;
  Resolver<int> slow;
  t.d.addCallback([&](int) { return slow.deferred(); });
  t.d.addTimeout(10s, t.clock);
  t.watch();
  t.r.callback(1);
  t.clock.advance(10s);
  CHECK(t.seen.substr(0, 10) == "!no result");
}

TEST_CASE("a timeout leaves alone what the callbacks after it wait for") {
  for (bool custom : {false, true}) {
    for (std::string early : {"3", "mine", "cancelled"}) {
      Timed t;
      Resolver<int> slow;
      std::string told, saw;
      custom ? t.d.addTimeout(10s, t.clock, tell(told)) : t.d.addTimeout(10s, t.clock);
      t.d.addBoth([&](Result<int> r) {
        saw = r.ok() ? std::to_string(r.value()) : r.failure().getErrorMessage();
        return slow.deferred();
      });
      if (early == "3") t.r.callback(3);
      if (early == "mine") t.r.errback(GenericError(early));
      if (early == "cancelled") t.d.cancel();
      CHECK(saw == early);
      t.clock.advance(15s);
      CHECK_FALSE(slow.called());
      CHECK(told.empty());
      slow.callback(4);
      t.watch();
      CHECK(t.seen == "4");
    }
  }
}

TEST_CASE("addTimeout of a Deferred that has its result leaves no timer") {
  Timed t;
  t.r.callback(1);
  t.d.addTimeout(10s, t.clock);
  CHECK(t.clock.getDelayedCalls().empty());
}

TEST_CASE("a timeout ends a Deferred whose handle is gone") {
  Clock clock;
  Resolver<int> r;
  bool timedOut = false;
  r.deferred().addTimeout(1s, clock).addErrback([&](const TimeoutError&) { return timedOut = true, 0; });
  clock.advance(1s);
  CHECK(timedOut);
}

TEST_CASE("a Clock that goes takes its timeouts with it") {
  Resolver<int> r;
  auto d = r.deferred();
  {
    Clock clock;
    d.addTimeout(1s, clock);
  }
  std::string seen;
  d.addCallback([&](int n) { return seen = std::to_string(n), n; });
  r.callback(5);
  CHECK(seen == "5");
}

TEST_CASE("the limit and the unit are in the error's text") {
  Clock clock;
  Resolver<int> r;
  std::string text;
  auto d = r.deferred();
  d.addTimeout(1500ms, clock);
  d.addErrback([&](const TimeoutError& e) { return text = e.what(), 0; });
  clock.advance(2s);
  CHECK(text == "no result within 1.5 s");
}

TEST_CASE("a timeout ends what it covers though a canceller throws, and that is reported") {
  Unhandled unhandled;
  Timed t;
  SUBCASE("its own") {
    t.r.onCancel([](const Resolver<int>&) { throw GenericError("canceller"); });
    t.d.addTimeout(1s, t.clock);
    t.watch();
    CHECK_NOTHROW(t.clock.advance(1s));
    CHECK(t.seen == "!no result within 1 s");
    CHECK_NOTHROW(t.r.callback(1));  // the producer, who has not been told, is late
  }
  SUBCASE("that of what a coroutine waits for") {
    auto wait = [](Deferred<int> inner) -> Deferred<int> { co_return co_await std::move(inner); };
    t.r.onCancel([](const Resolver<int>&) { throw GenericError("canceller"); });
    t.d = wait(std::move(t.d));
    t.d.addTimeout(1s, t.clock);
    t.watch();
    t.clock.advance(1s);
    CHECK(t.seen == "!no result within 1 s");
  }
  CHECK(unhandled.flush() == std::vector<std::string>{"canceller"});
}

TEST_CASE("a value that goes may destroy the Deferred while addTimeout is under way") {
  Clock clock;
  std::unique_ptr<Deferred<AtEnd>> d;
  Resolver<AtEnd> r;
  d = std::make_unique<Deferred<AtEnd>>(r.deferred());
  r.callback(AtEnd([&] { d.reset(); }));
  d->addCallback([](AtEnd end) { return AtEnd(end); });
  d->addTimeout(1s, clock);
  CHECK(clock.getDelayedCalls().empty());
  d.reset();
}

TEST_CASE("callLater refuses a null callable") {
  Clock clock;
  CHECK_THROWS_AS(clock.callLater(1s, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(clock.callLater(1s, std::function<void()>()), std::invalid_argument);
}
