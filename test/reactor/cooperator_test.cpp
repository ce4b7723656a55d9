#include <reactor/cooperator.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <reactor/descriptor.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct UnhandledException : std::runtime_error {
  UnhandledException() : runtime_error("unhandled") {}
};

// A Time whose every call comes on the next pump() (Twisted's FakeScheduler). A Clock would go on for as long as
// something is due.
class Turns final : public Time {
 public:
  Duration seconds() const override { return clock_.seconds(); }
  void pump() { clock_.advance(1s); }
  std::size_t scheduled() const { return clock_.getDelayedCalls().size(); }

 private:
  DelayedCall schedule(Duration, UniqueFunction<void()> f, std::source_location where) override {
    return clock_.callLater(1s, std::move(f), where);
  }
  Clock clock_;
};

CooperatorOptions oneStepATurn() {
  return {.terminationPredicateFactory = [] { return [] { return true; }; }};
}

// Twisted's RunStateTests: a worker that does next what it is told to.
struct RunState {
  enum class Next { count, defer, stop, die };

  Turns turns;
  Cooperator cooperator{turns, oneStepATurn()};
  Next next = Next::count;
  int steps = 0;
  std::vector<int> work;
  std::vector<Resolver<bool>> deferred;
  CooperativeTask task = cooperator.cooperate([this]() -> Deferred<bool> {
    ++steps;
    switch (std::exchange(next, Next::count)) {
      case Next::defer:
        return deferred.emplace_back().deferred();
      case Next::stop:
        return succeed(false);
      case Next::die:
        throw UnhandledException();
      default:
        work.push_back(steps);
        return succeed(true);
    }
  });
};

// Gives `count` steps, each of which notes its name.
auto named(std::string name, int count, std::vector<std::string>& out) {
  return [name = std::move(name), count, done = 0, &out]() mutable {
    out.push_back(name + std::to_string(done));
    return ++done < count;
  };
}

using Names = std::vector<std::string>;

}  // namespace

TEST_SUITE("Cooperator") {
  TEST_CASE("makes a step of each task in turn, and none before the next turn") {
    Clock clock;
    Cooperator cooperator(clock);
    Names steps;
    std::vector<Deferred<void>> tasks;
    for (const char* name : {"a", "b", "c"}) tasks.push_back(cooperator.coiterate(named(name, 2, steps)));
    CHECK(steps.empty());
    clock.advance(0s);
    CHECK(steps == Names{"a0", "b0", "c0", "a1", "b1", "c1"});
    for (auto& task : tasks) successResultOf(task);
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("a task that ends, or is added, costs no other its turn") {
    Clock clock;
    Cooperator cooperator(clock);
    Names steps;
    cooperator.cooperate([&, count = 0]() mutable {
      steps.push_back("a");
      if (count == 0) cooperator.cooperate(named("d", 1, steps));
      return ++count < 2;
    });
    cooperator.cooperate(named("b", 1, steps));
    cooperator.cooperate(named("c", 2, steps));
    clock.advance(0s);
    CHECK(steps == Names{"a", "b0", "c0", "d0", "a", "c1"});
  }

  TEST_CASE("goes on in a turn until the termination predicate says so, and with the next task in the next") {
    Turns turns;
    int left = 0;
    Cooperator cooperator(turns, {.terminationPredicateFactory = [&] {
                            left = 3;
                            return [&] { return --left == 0; };
                          }});
    Names steps;
    cooperator.cooperate(named("a", 9, steps));
    cooperator.cooperate(named("b", 9, steps));
    turns.pump();
    CHECK(steps == Names{"a0", "b0", "a1"});
    turns.pump();
    CHECK(steps == Names{"a0", "b0", "a1", "b1", "a2", "b2"});
  }

  TEST_CASE("a turn takes ten milliseconds") {
    Turns turns;
    Cooperator cooperator(turns);
    const auto task = cooperator.cooperate([] { return true; });
    const auto start = std::chrono::steady_clock::now();
    turns.pump();
    CHECK(std::chrono::steady_clock::now() - start >= 10ms);
    task.stop();
  }

  TEST_CASE("a termination predicate that throws ends the turn alone") {
    Turns turns;
    bool bad = true;
    Cooperator cooperator(turns, {.terminationPredicateFactory = [&]() -> std::function<bool()> {
                            if (std::exchange(bad, false)) throw UnhandledException();
                            return [] { return true; };
                          }});
    Names steps;
    cooperator.cooperate(named("a", 1, steps));
    CHECK_THROWS_AS(turns.pump(), UnhandledException);
    CHECK(steps.empty());
    turns.pump();
    CHECK(steps.size() == 1);
  }

  TEST_CASE("stopped, it refuses new tasks, until it is started again") {
    Clock clock;
    Cooperator cooperator(clock);
    cooperator.stop();
    failureResultOf<SchedulerStopped>(cooperator.coiterate([] { return false; }));
    const auto task = cooperator.cooperate([] { return false; });
    CHECK_THROWS_AS(task.stop(), SchedulerStopped);
    cooperator.start();
    auto done = cooperator.coiterate([] { return false; });
    clock.advance(0s);
    successResultOf(done);
  }

  TEST_CASE("stop() ends all tasks before their next step") {
    Clock clock;
    Cooperator cooperator(clock);
    Names steps;
    std::vector<Deferred<void>> tasks;
    for (const char* name : {"a", "b", "c"}) tasks.push_back(cooperator.coiterate(named(name, 2, steps)));
    cooperator.stop();
    for (auto& task : tasks) failureResultOf<SchedulerStopped>(task);
    CHECK(clock.getDelayedCalls().empty());
    CHECK(steps.empty());
  }

  TEST_CASE("after stop() a task that waits for a Deferred fails when that has fired") {
    Clock clock;
    Cooperator cooperator(clock);
    Resolver<bool> outstanding;
    int steps = 0;
    auto done = cooperator.coiterate([&] {
      ++steps;
      return outstanding.deferred();
    });
    clock.advance(0s);
    cooperator.stop();
    assertNoResult(done);
    outstanding.callback(true);
    failureResultOf<SchedulerStopped>(done);
    CHECK(steps == 1);
  }

  TEST_CASE("what a step throws, or its Deferred fails with now or later, is the task's failure") {
    Clock clock;
    Cooperator cooperator(clock);
    std::optional<Deferred<void>> done;
    SUBCASE("thrown") {
      done = cooperator.coiterate([]() -> bool { throw UnhandledException(); });
      clock.advance(0s);
    }
    SUBCASE("failed already") {
      done = cooperator.coiterate([] { return fail<bool>(UnhandledException()); });
      clock.advance(0s);
    }
    SUBCASE("failed later") {
      Resolver<bool> pending;
      done = cooperator.coiterate([&] { return pending.deferred(); });
      clock.advance(0s);
      assertNoResult(*done);
      pending.errback(UnhandledException());
    }
    failureResultOf<UnhandledException>(*done);
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("a failure that nobody waits for is logged") {
    LogCapture log;
    Clock clock;
    Cooperator cooperator(clock);
    const auto task = cooperator.cooperate([]() -> bool { throw UnhandledException(); });
    clock.advance(0s);
    CHECK(log.flushLoggedErrors<UnhandledException>().size() == 1);
    failureResultOf<UnhandledException>(task.whenDone());
  }

  TEST_CASE("a callback of coiterate() that calls it again schedules once") {
    Turns turns;
    Cooperator cooperator(turns, oneStepATurn());
    bool done = false;
    cooperator.coiterate([] { return false; }).addCallback([&] {
      cooperator.coiterate([] { return false; }).addCallback([&] { done = true; });
    });
    CHECK(turns.scheduled() == 1);
    turns.pump();
    CHECK_FALSE(done);
    CHECK(turns.scheduled() == 1);
    turns.pump();
    CHECK(done);
    CHECK(turns.scheduled() == 0);
  }

  TEST_CASE("when the last task goes, so does the call for the next turn") {
    Clock clock;
    Cooperator cooperator(clock);
    const auto first = cooperator.cooperate([] { return true; });
    const auto second = cooperator.cooperate([] { return true; });
    CHECK(clock.getDelayedCalls().size() == 1);
    first.stop();
    CHECK(clock.getDelayedCalls().size() == 1);
    second.stop();
    CHECK(clock.getDelayedCalls().empty());
    const auto third = cooperator.cooperate([] { return true; });
    CHECK(clock.getDelayedCalls().size() == 1);
    third.stop();
  }

  TEST_CASE("running, and started: false") {
    Clock clock;
    CHECK(Cooperator(clock).running());
    Cooperator cooperator(clock, {.started = false});
    CHECK_FALSE(cooperator.running());
    auto done = cooperator.coiterate([] { return false; });
    CHECK(clock.getDelayedCalls().empty());
    cooperator.start();
    CHECK(cooperator.running());
    clock.advance(0s);
    successResultOf(done);
    cooperator.stop();
    CHECK_FALSE(cooperator.running());
  }

  TEST_CASE("destroyed, it is stopped; its tasks' handles are those of tasks that have ended") {
    Clock clock;
    std::optional<Cooperator> cooperator(std::in_place, clock);
    Resolver<bool> pending;
    auto first = cooperator->coiterate([] { return true; });
    auto awaiting = cooperator->coiterate([&] { return pending.deferred(); });
    const auto paused = cooperator->cooperate([] { return true; });
    paused.pause();
    SUBCASE("between its turns") {
      cooperator.reset();
      failureResultOf<SchedulerStopped>(awaiting);
    }
    SUBCASE("by a step") {
      const auto last = cooperator->cooperate([&] {
        cooperator.reset();
        return true;
      });
      first.addErrback([](const SchedulerStopped&) {});
      clock.advance(0s);
      CHECK_THROWS_AS(last.stop(), SchedulerStopped);
      assertNoResult(awaiting);
      pending.callback(true);
      failureResultOf<SchedulerStopped>(awaiting);
      first = fail<void>(SchedulerStopped());
    }
    failureResultOf<SchedulerStopped>(first);
    paused.resume();
    CHECK_THROWS_AS(paused.pause(), SchedulerStopped);
    failureResultOf<SchedulerStopped>(paused.whenDone());
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("when its Time goes, its tasks fail") {
    std::optional<Clock> clock(std::in_place);
    Cooperator cooperator(*clock);
    auto done = cooperator.coiterate([] { return true; });
    clock.reset();
    failureResultOf<SchedulerStopped>(done);
  }

  TEST_CASE("a task that nobody can resume any more fails, and its callable goes") {
    Clock clock;
    Cooperator cooperator(clock);
    const auto owned = std::make_shared<int>(1);
    std::optional<Deferred<void>> done;
    {
      const auto task = cooperator.cooperate([owned] { return true; });
      task.pause();
      done = task.whenDone();
    }
    failureResultOf<BrokenDeferred>(*done);
    CHECK(owned.use_count() == 1);
  }

  TEST_CASE("a hundred thousand steps that have all fired already need no stack") {
    Clock clock;
    Cooperator cooperator(clock);
    int left = 100'000;
    auto done = cooperator.coiterate([&] { return succeed(--left > 0); });
    clock.advance(0s);
    successResultOf(done);
    CHECK(left == 0);
  }

  TEST_CASE("tasks that share a source of work are as many lanes") {
    Clock clock;
    Cooperator cooperator(clock);
    const std::vector<int> pages{1, 2, 3, 4, 5};
    auto page = pages.begin();
    std::vector<std::pair<int, Resolver<void>>> fetching;
    const auto fetch = [&](int number) { return fetching.emplace_back(number, Resolver<void>()).second.deferred(); };
    auto fetchNext = [&]() -> Deferred<bool> {
      if (page == pages.end()) return succeed(false);
      return fetch(*page++).addCallback([] { return true; });
    };
    std::vector<Deferred<void>> lanes;
    for (int i = 0; i < 2; ++i) lanes.push_back(cooperator.coiterate(fetchNext));
    auto all = gatherResults(std::move(lanes));
    clock.advance(0s);
    for (std::size_t done = 0; done < pages.size(); ++done) {
      CHECK(fetching.size() == std::min(pages.size(), done + 2));
      assertNoResult(all);
      const auto resolver = fetching[done].second;
      resolver.callback();
      clock.advance(0s);
    }
    successResultOf(all);
  }
}

TEST_SUITE("CooperativeTask") {
  TEST_CASE_FIXTURE(RunState, "paused, it makes no steps; resumed, it makes them from the next turn on") {
    turns.pump();
    CHECK(work == std::vector<int>{1});
    turns.pump();
    CHECK(work == std::vector<int>{1, 2});
    task.pause();
    CHECK(turns.scheduled() == 0);
    turns.pump();
    CHECK(work == std::vector<int>{1, 2});
    task.resume();
    CHECK(work == std::vector<int>{1, 2});
    turns.pump();
    CHECK(work == std::vector<int>{1, 2, 3});
  }

  TEST_CASE_FIXTURE(RunState, "resume() of a task that is not paused throws") {
    CHECK_THROWS_AS(task.resume(), NotPaused);
    task.pause();
    task.resume();
    CHECK_THROWS_AS(task.resume(), NotPaused);
  }

  TEST_CASE_FIXTURE(RunState, "paused twice, it is to be resumed twice") {
    task.pause();
    task.pause();
    task.resume();
    turns.pump();
    CHECK(work.empty());
    task.resume();
    turns.pump();
    CHECK(work == std::vector<int>{1});
  }

  TEST_CASE_FIXTURE(RunState, "paused while it waits for a Deferred, it needs both") {
    next = Next::defer;
    turns.pump();
    REQUIRE(deferred.size() == 1);
    task.pause();
    SUBCASE("resumed first") {
      task.resume();
      turns.pump();
      CHECK(steps == 1);
      deferred[0].callback(true);
    }
    SUBCASE("fired first") {
      deferred[0].callback(true);
      turns.pump();
      CHECK(steps == 1);
      task.resume();
    }
    CHECK_THROWS_AS(task.resume(), NotPaused);
    turns.pump();
    CHECK(work == std::vector<int>{2});
  }

  TEST_CASE_FIXTURE(RunState, "resume() does not take the place of the Deferred") {
    next = Next::defer;
    turns.pump();
    CHECK_THROWS_AS(task.resume(), NotPaused);
    turns.pump();
    CHECK(steps == 1);
    deferred[0].callback(true);
  }

  TEST_CASE_FIXTURE(RunState, "a Deferred that gives false is the end") {
    next = Next::defer;
    turns.pump();
    auto done = task.whenDone();
    deferred[0].callback(false);
    successResultOf(done);
    CHECK_THROWS_AS(task.stop(), TaskDone);
  }

  TEST_CASE_FIXTURE(RunState, "whenDone gives each its own, also when it is done") {
    std::vector<int> results;
    auto first = task.whenDone().addCallback([&] { results.push_back(1); });
    task.whenDone().addErrback([](const CancelledError&) {}).cancel();
    auto second = task.whenDone().addCallback([&] { results.push_back(2); });
    next = Next::stop;
    turns.pump();
    CHECK(results == std::vector<int>{1, 2});
    successResultOf(task.whenDone());
  }

  TEST_CASE_FIXTURE(RunState, "whenDone fails with what a step threw") {
    auto done = task.whenDone();
    next = Next::die;
    turns.pump();
    failureResultOf<UnhandledException>(done);
    failureResultOf<UnhandledException>(task.whenDone());
    CHECK_THROWS_AS(task.stop(), TaskFailed);
    CHECK_THROWS_AS(task.pause(), TaskFinished);
  }

  TEST_CASE_FIXTURE(RunState, "stopped, it makes no more steps") {
    auto done = task.whenDone();
    task.stop();
    failureResultOf<TaskStopped>(done);
    turns.pump();
    CHECK(steps == 0);
    CHECK_THROWS_AS(task.stop(), TaskStopped);
    CHECK_THROWS_AS(task.pause(), TaskStopped);
    turns.pump();
    CHECK(steps == 0);
  }

  TEST_CASE_FIXTURE(RunState, "paused, stopped and resumed, it makes no more steps") {
    task.pause();
    task.stop();
    task.resume();
    turns.pump();
    CHECK(steps == 0);
  }

  TEST_CASE_FIXTURE(RunState, "stopped while it waits for a Deferred, it does not go on with that") {
    LogCapture log;
    next = Next::defer;
    turns.pump();
    task.stop();
    SUBCASE("that fires") {
      deferred[0].callback(true);
    }
    SUBCASE("that fails, which is not lost") {
      deferred[0].errback(UnhandledException());
      CHECK(log.flushLoggedErrors<UnhandledException>().size() == 1);
    }
    turns.pump();
    CHECK(steps == 1);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE_FIXTURE(RunState, "a callback of whenDone may stop the Cooperator") {
    int phases = 0;
    task.whenDone().addCallback([&] {
      ++phases;
      cooperator.stop();
      ++phases;
    });
    next = Next::stop;
    turns.pump();
    CHECK(phases == 2);
  }

  TEST_CASE("a step may pause and stop its own task; the callable lives until it returns") {
    Clock clock;
    Cooperator cooperator(clock);
    const auto owned = std::make_shared<int>(0);
    std::optional<CooperativeTask> task;
    task = cooperator.cooperate([&, owned] {
      if (++*owned == 1) {
        task->pause();
      } else {
        task->stop();
        CHECK(owned.use_count() == 2);
      }
      return true;
    });
    clock.advance(0s);
    CHECK(*owned == 1);
    task->resume();
    clock.advance(0s);
    CHECK(*owned == 2);
    CHECK(owned.use_count() == 1);
    CHECK_THROWS_AS(task->stop(), TaskStopped);
  }

  TEST_CASE("cancel() of coiterate's Deferred ends the task") {
    Clock clock;
    Cooperator cooperator(clock);
    const auto owned = std::make_shared<int>(0);
    SUBCASE("at once") {
      auto done = cooperator.coiterate([owned] { return true; });
      done.cancel();
      failureResultOf<CancelledError>(done);
    }
    SUBCASE("by way of the Deferred that it waits for") {
      bool cancelled = false;
      Resolver<bool> pending;
      pending.onCancel([&](const Resolver<bool>&) { cancelled = true; });
      auto done = cooperator.coiterate([&, owned] { return pending.deferred(); });
      clock.advance(0s);
      done.cancel();
      CHECK(cancelled);
      failureResultOf<CancelledError>(done);
    }
    SUBCASE("after it, when that cannot be ended at once or has come out well") {
      Resolver<bool> pending;
      pending.onCancel([](const Resolver<bool>&) { return CancelPending(); });
      auto done = cooperator.coiterate([&, owned] { return pending.deferred(); });
      clock.advance(0s);
      done.cancel();
      assertNoResult(done);
      pending.callback(true);
      failureResultOf<CancelledError>(done);
    }
    CHECK(owned.use_count() == 1);
    CHECK(clock.getDelayedCalls().empty());
  }

  TEST_CASE("coiterate is awaited by a coroutine, whose cancel ends the task") {
    Clock clock;
    Cooperator cooperator(clock);
    const auto count = [](Cooperator& on) -> Deferred<int> {
      int sum = 0;
      auto step = [&] { return ++sum < 1000; };
      co_await on.coiterate(step);
      co_return sum;
    };
    auto counted = count(cooperator);
    clock.advance(0s);
    CHECK(successResultOf(counted) == 1000);
    auto cancelled = count(cooperator);
    cancelled.cancel();
    failureResultOf<CancelledError>(cancelled);
    clock.advance(0s);
  }
}

TEST_CASE("cooperate and coiterate are those of the reactor, which goes on meanwhile") {
  std::optional<CooperativeTask> endless;
  std::optional<Deferred<void>> left;
  {
    Reactor reactor;
    int steps = 0;
    bool done = false;
    coiterate([&] { return ++steps < 3; }, reactor).addCallback([&] { done = true; });
    endless = cooperate([] { return true; });
    test::runUntil(reactor, [&] { return done; });
    bool called = false;
    reactor.callLater(1ms, [&] { called = true; });
    test::runUntil(reactor, [&] { return called; });
    left = endless->whenDone();
  }
  failureResultOf<SchedulerStopped>(*left);
  CHECK_THROWS_AS(endless->stop(), SchedulerStopped);
}

TEST_CASE("a task that never ends does not hold up what is ready to be read, however much") {
  struct Reader final : ReadDescriptor {
    Reader(int fd, int& read) : fd(fd), read(read) {}
    int fileno() const noexcept override { return fd; }
    void doRead() override {
      char byte;
      REQUIRE(::read(fd, &byte, 1) == 1);
      ++read;
    }
    void connectionLost(const Failure&) override {}
    int fd;
    int& read;
  };
  Reactor reactor;
  int steps = 0;
  int read = 0;
  Cooperator cooperator(reactor, oneStepATurn());
  cooperator.cooperate([&] {
    ++steps;
    return true;
  });
  std::vector<detail::UniqueFd> ends;
  for (int i = 0; i < 50; ++i) {
    int pair[2];
    REQUIRE(::pipe(pair) == 0);
    ends.emplace_back(pair[0]);
    ends.emplace_back(pair[1]);
    REQUIRE(::write(pair[1], "x", 1) == 1);
    reactor.addReader(std::make_shared<Reader>(pair[0], read));
  }
  test::runUntil(reactor, [&] { return read == 50; });
  CHECK(steps > 0);
  CHECK(steps < 10);
  reactor.removeAll();
}
