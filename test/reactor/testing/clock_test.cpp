#include <reactor/testing/clock.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <reactor/error.hpp>

using namespace std::chrono_literals;
using torsion::Clock;
using torsion::DelayedCall;
using torsion::Duration;

TEST_SUITE("Clock") {
  TEST_CASE("the time moves by advance() alone") {
    Clock clock;
    CHECK(clock.seconds() == 0s);
    clock.advance(1s);
    CHECK(clock.seconds() == 1s);
    clock.advance(1ns);
    CHECK(clock.seconds() == 1s + 1ns);
    CHECK_THROWS_AS(clock.advance(-1s), std::invalid_argument);
    CHECK(clock.seconds() == 1s + 1ns);
  }

  TEST_CASE("a call runs when its time has come, exactly, once") {
    Clock clock;
    int calls = 0;
    DelayedCall call = clock.callLater(1s, [&] { ++calls; });
    CHECK(call.active());
    CHECK(call.getTime() == 1s);
    clock.advance(1s - 1ns);
    CHECK(calls == 0);
    clock.advance(1ns);
    CHECK(calls == 1);
    CHECK_FALSE(call.active());
    CHECK(call.getTime() == 1s);
    clock.advance(10s);
    CHECK(calls == 1);
  }

  TEST_CASE("a call is active no more while it runs") {
    Clock clock;
    DelayedCall call;
    std::optional<bool> active;
    call = clock.callLater(1s, [&] {
      active = call.active();
      CHECK_THROWS_AS(call.cancel(), torsion::AlreadyCalled);
    });
    clock.advance(1s);
    CHECK(active == false);
  }

  TEST_CASE("calls run in order of time, equal times in the order they were scheduled") {
    Clock clock;
    std::string order;
    clock.callLater(3s, [&] { order += "d"; });
    clock.callLater(2s, [&] { order += "b"; });
    clock.callLater(2s, [&] { order += "c"; });
    clock.callLater(1s, [&] { order += "a"; });
    clock.callLater(2s + 1ns, [&] { order += "C"; });
    clock.callLater(0s, [&] { order += "0"; });
    CHECK(clock.getDelayedCalls().size() == 6);
    clock.advance(2s);
    CHECK(order == "0abc");
    CHECK(clock.getDelayedCalls().size() == 2);
    clock.advance(1s);
    CHECK(order == "0abcCd");
  }

  TEST_CASE("advance() moves the time once, then runs calls, also those that they schedule") {
    Clock clock;
    std::vector<std::pair<std::string, Duration>> seen;
    clock.callLater(1s, [&] {
      seen.emplace_back("first", clock.seconds());
      clock.callLater(0s, [&] { seen.emplace_back("nested", clock.seconds()); });
      clock.callLater(1ns, [&] { seen.emplace_back("later", clock.seconds()); });
    });
    clock.callLater(4s, [&] { seen.emplace_back("second", clock.seconds()); });
    clock.advance(5s);
    REQUIRE(seen.size() == 3);
    CHECK(seen[0] == std::pair<std::string, Duration>("first", 5s));
    CHECK(seen[1] == std::pair<std::string, Duration>("second", 5s));
    CHECK(seen[2] == std::pair<std::string, Duration>("nested", 5s));
    CHECK(clock.getDelayedCalls().size() == 1);
  }

  TEST_CASE("advance() within a call runs what is due then") {
    Clock clock;
    std::string order;
    clock.callLater(1s, [&] {
      order += "[";
      clock.advance(1s);
      order += "]";
    });
    clock.callLater(2s, [&] { order += "a"; });
    clock.callLater(3s, [&] { order += "b"; });
    clock.advance(1s);
    CHECK(order == "[a]");
    CHECK(clock.seconds() == 2s);
  }

  TEST_CASE("pump() advances by each amount in turn") {
    Clock clock;
    std::vector<Duration> seen;
    for (int i = 0; i < 4; ++i) {
      clock.callLater(std::chrono::seconds(i), [&] { seen.push_back(clock.seconds()); });
    }
    clock.pump({1s, 1s, 1s});
    CHECK(seen == std::vector<Duration>{1s, 1s, 2s, 3s});
    clock.pump(std::vector<Duration>{1s, 2s});
    CHECK(clock.seconds() == 6s);
  }

  TEST_CASE("what a call throws comes out of advance() and the rest stays scheduled") {
    Clock clock;
    int calls = 0;
    DelayedCall failing = clock.callLater(1s, [] { throw std::runtime_error("x"); });
    clock.callLater(1s, [&] { ++calls; });
    CHECK_THROWS_WITH(clock.advance(5s), "x");
    CHECK(clock.seconds() == 5s);
    CHECK(calls == 0);
    CHECK_FALSE(failing.active());
    CHECK(clock.getDelayedCalls().size() == 1);
    clock.advance(0s);
    CHECK(calls == 1);
  }

  TEST_CASE("a negative delay is refused") {
    Clock clock;
    CHECK_THROWS_AS(clock.callLater(-1ns, [] {}), std::invalid_argument);
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("cancel() prevents the call and destroys the callable at once") {
    Clock clock;
    auto held = std::make_shared<int>(0);
    DelayedCall call = clock.callLater(1s, [held] { ++*held; });
    CHECK(held.use_count() == 2);
    call.cancel();
    CHECK(held.use_count() == 1);
    CHECK_FALSE(call.active());
    CHECK(clock.getDelayedCalls().empty());
    clock.advance(2s);
    CHECK(*held == 0);
  }

  TEST_CASE("the callable is destroyed once it has run") {
    Clock clock;
    auto held = std::make_shared<int>(0);
    DelayedCall call = clock.callLater(1s, [held] { ++*held; });
    clock.advance(1s);
    CHECK(held.use_count() == 1);
    CHECK(*held == 1);
    DelayedCall throws = clock.callLater(1s, [held] { throw std::runtime_error("x"); });
    CHECK_THROWS(clock.advance(1s));
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("a call that holds its own handle may cancel what it likes") {
    Clock clock;
    auto handle = std::make_shared<DelayedCall>();
    *handle = clock.callLater(1s, [handle] {});
    DelayedCall copy = *handle;
    std::weak_ptr<DelayedCall> watch = handle;
    handle.reset();
    watch.lock()->cancel();
    CHECK(watch.expired());
    CHECK_FALSE(copy.active());
  }

  TEST_CASE("cancel(), reset() and delay() after the call ran or was cancelled") {
    Clock clock;
    DelayedCall called = clock.callLater(0s, [] {});
    clock.advance(0s);
    CHECK_THROWS_AS(called.cancel(), torsion::AlreadyCalled);
    CHECK_THROWS_AS(called.reset(1s), torsion::AlreadyCalled);
    CHECK_THROWS_AS(called.delay(1s), torsion::AlreadyCalled);
    DelayedCall cancelled = clock.callLater(0s, [] {});
    cancelled.cancel();
    CHECK_THROWS_AS(cancelled.cancel(), torsion::AlreadyCancelled);
    CHECK_THROWS_AS(cancelled.reset(1s), torsion::AlreadyCancelled);
    CHECK_THROWS_AS(cancelled.delay(1s), torsion::AlreadyCancelled);
  }

  TEST_CASE("reset() counts from now, delay() from the scheduled time") {
    Clock clock;
    DelayedCall call = clock.callLater(5s, [] {});
    clock.advance(1s);
    call.delay(3s);
    CHECK(call.getTime() == 8s);
    call.reset(1s);
    CHECK(call.getTime() == 2s);
    call.reset(1min);
    CHECK(call.getTime() == 61s);
    call.delay(-62s);
    CHECK(call.getTime() == -1s);
    CHECK(call.active());
    CHECK_THROWS_AS(call.reset(-1s), std::invalid_argument);
    clock.advance(0s);
    CHECK_FALSE(call.active());
  }

  TEST_CASE("moved calls run at their new time only") {
    Clock clock;
    std::vector<std::pair<char, Duration>> seen;
    DelayedCall later = clock.callLater(1s, [&] { seen.emplace_back('l', clock.seconds()); });
    DelayedCall sooner = clock.callLater(1h, [&] { seen.emplace_back('s', clock.seconds()); });
    later.delay(1s);
    sooner.reset(1500ms);
    for (int i = 0; i < 5; ++i) clock.advance(500ms);
    CHECK(seen == std::vector<std::pair<char, Duration>>{{'s', 1500ms}, {'l', 2s}});
  }

  TEST_CASE("calls that were moved keep the order of time with those scheduled before, after and within calls") {
    Clock clock;
    std::vector<std::pair<char, Duration>> seen;
    auto note = [&](char name) { return [&, name] { seen.emplace_back(name, clock.seconds()); }; };
    DelayedCall a = clock.callLater(1s, note('a'));
    SUBCASE("before") {
      clock.callLater(2s, note('b'));
      a.reset(3s);
    }
    SUBCASE("after") {
      a.reset(3s);
      clock.callLater(2s, note('b'));
    }
    SUBCASE("within") {
      a.reset(2s);
      clock.callLater(1s, [&] { a.reset(2s); });
      clock.callLater(2s, note('b'));
    }
    for (int i = 0; i < 10; ++i) clock.advance(500ms);
    CHECK(seen == std::vector<std::pair<char, Duration>>{{'b', 2s}, {'a', 3s}});
  }

  TEST_CASE("a moved call goes behind those already scheduled for the same time") {
    Clock clock;
    std::string order;
    DelayedCall a = clock.callLater(1s, [&] { order += "a"; });
    DelayedCall b = clock.callLater(2s, [&] { order += "b"; });
    DelayedCall c = clock.callLater(3s, [&] { order += "c"; });
    a.delay(1s);
    c.reset(2s);
    clock.advance(2s);
    CHECK(order == "bac");
  }

  TEST_CASE("getDelayedCalls() gives the calls in order, with their creators") {
    Clock clock;
    clock.callLater(2s, [] {});
    const unsigned line = __LINE__ - 1;
    clock.callLater(1s, [] {});
    auto calls = clock.getDelayedCalls();
    REQUIRE(calls.size() == 2);
    CHECK(calls[0].getTime() == 1s);
    CHECK(calls[1].getTime() == 2s);
    CHECK(calls[1].where().line() == line);
    CHECK(std::string(calls[1].where().file_name()).ends_with("clock_test.cpp"));
    for (DelayedCall& call : calls) call.cancel();
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("handles that outlive their clock are inert, and so is a default one") {
    DelayedCall pending, called, cancelled, none;
    auto held = std::make_shared<int>();
    {
      Clock clock;
      called = clock.callLater(0s, [] {});
      cancelled = clock.callLater(0s, [] {});
      cancelled.cancel();
      clock.advance(0s);
      pending = clock.callLater(1s, [held] {});
    }
    CHECK(held.use_count() == 1);
    for (DelayedCall* call : {&pending, &none}) {
      CHECK_FALSE(call->active());
      CHECK_NOTHROW(call->cancel());
      CHECK_NOTHROW(call->reset(1s));
      CHECK_NOTHROW(call->delay(1s));
    }
    CHECK_THROWS_AS(called.cancel(), torsion::AlreadyCalled);
    CHECK_THROWS_AS(cancelled.cancel(), torsion::AlreadyCancelled);
    CHECK(pending.getTime() == 1s);
  }

  TEST_CASE("scheduling while the clock is being destroyed throws") {
    bool threw = false;
    auto clock = std::make_unique<Clock>();
    struct Schedules {
      Clock& clock;
      bool& threw;
      ~Schedules() {
        try {
          clock.callLater(std::chrono::seconds(1), [] {});
        } catch (const torsion::ReactorNotRunning&) {
          threw = true;
        }
      }
    };
    auto schedules = std::make_shared<Schedules>(Schedules{*clock, threw});
    threw = false;
    clock->callLater(1s, [keep = std::move(schedules)] {});
    clock.reset();
    CHECK(threw);
  }

  TEST_CASE("times at the far end do not overflow") {
    Clock clock;
    clock.advance(1s);
    int calls = 0;
    DelayedCall call = clock.callLater(Duration::max(), [&] { ++calls; });
    CHECK(call.getTime() == Duration::max());
    call.delay(1h);
    CHECK(call.getTime() == Duration::max());
    clock.advance(24h * 365 * 100);
    CHECK(calls == 0);
    CHECK(call.active());
    clock.advance(Duration::max() - clock.seconds());
    CHECK(calls == 1);
  }

  TEST_CASE("time has an end") {
    Clock clock;
    clock.advance(1s);
    CHECK_THROWS_AS(clock.advance(Duration::max()), std::invalid_argument);
    CHECK(clock.seconds() == 1s);
    clock.advance(Duration::max() - 1s);
    CHECK(clock.seconds() == Duration::max());
  }
}
