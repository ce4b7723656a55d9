#include <reactor/threads.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/log_capture.hpp>

using namespace std::chrono_literals;
using namespace torsion;

namespace {

struct TestError : std::runtime_error {
  TestError() : runtime_error("test") {}
};

// Runs the reactor until d has fired.
template <class T>
Result<T> wait(Reactor& reactor, Deferred<T> d) {
  std::optional<Result<T>> got;
  std::move(d).addBoth([&](Result<T> result) {
    got = std::move(result);
    reactor.callWhenRunning([&] { reactor.stop(); });
  });
  reactor.run();
  return std::move(*got);
}

}  // namespace

TEST_SUITE("threads") {
  TEST_CASE("deferToThread gives what the function returns, in the reactor's thread") {
    Reactor reactor;
    std::thread::id worker, callback;
    auto result = wait(reactor, deferToThread([&] {
                                  worker = std::this_thread::get_id();
                                  CHECK(&torsion::reactor() == &reactor);
                                  return std::string("v");
                                }).addCallback([&](std::string v) {
      callback = std::this_thread::get_id();
      return v;
    }));
    CHECK(result.value() == "v");
    CHECK(worker != std::this_thread::get_id());
    CHECK(callback == std::this_thread::get_id());
  }

  TEST_CASE("deferToThread with nothing, with a move-only value, and with what the function throws") {
    Reactor reactor;
    bool called = false;
    CHECK(wait(reactor, deferToThread([&] { called = true; })).ok());
    CHECK(called);
    CHECK(*wait(reactor, deferToThread([] { return std::make_unique<int>(5); })).value() == 5);
    CHECK(wait(reactor, deferToThread([]() -> int { throw TestError(); })).failure().check<TestError>());
  }

  TEST_CASE("a success does not stand in the way of a failure after it") {
    Reactor reactor;
    auto d = deferToThread([] {}).addCallback([] { return deferToThread([]() -> int { throw TestError(); }); });
    CHECK(wait(reactor, std::move(d)).failure().check<TestError>());
  }

  TEST_CASE("cancelling takes a job that waits out of the queue") {
    Reactor reactor;
    reactor.suggestThreadPoolSize(1);
    std::promise<void> go, began;
    auto running = deferToThread([&] {
      began.set_value();
      go.get_future().wait();
    });
    began.get_future().wait();
    bool ran = false;
    const auto capture = std::make_shared<int>(0);
    auto waiting = deferToThread([&, capture] { ran = true; });
    auto last = deferToThread([] { return 3; });
    CHECK(reactor.getThreadPool().queued() == 2);
    waiting.cancel();
    CHECK(reactor.getThreadPool().queued() == 1);
    CHECK(capture.use_count() == 1);
    go.set_value();
    CHECK(wait(reactor, std::move(waiting)).failure().check<CancelledError>());
    CHECK(wait(reactor, std::move(running)).ok());
    CHECK(wait(reactor, std::move(last)).value() == 3);
    CHECK_FALSE(ran);
  }

  TEST_CASE("what is no function is refused") {
    Reactor reactor;
    CHECK_THROWS_AS(reactor.getThreadPool().callInThread(nullptr), std::invalid_argument);
    CHECK_THROWS_AS(deferToThread(std::function<int()>()), std::invalid_argument);
  }

  TEST_CASE("cancelling ends the waiting, not the job") {
    Reactor reactor;
    std::promise<void> began, go, done;
    auto d = deferToThread([&] {
      began.set_value();
      go.get_future().wait();
      done.set_value();
    });
    began.get_future().wait();
    d.cancel();
    go.set_value();
    CHECK(wait(reactor, std::move(d)).failure().check<CancelledError>());
    done.get_future().wait();
  }

  TEST_CASE("callInThread runs in a thread; what it throws is logged") {
    Reactor reactor;
    LogCapture log;
    reactor.suggestThreadPoolSize(1);
    reactor.callInThread([] { throw TestError(); });
    reactor.callInThread([&] { reactor.callFromThread([&] { reactor.stop(); }); });
    reactor.run();
    CHECK(log.flushLoggedErrors<TestError>().size() == 1);
  }

  TEST_CASE("with one thread jobs run in the order they came") {
    Reactor reactor;
    reactor.suggestThreadPoolSize(1);
    std::vector<int> order;
    for (int i = 0; i < 100; ++i) reactor.callInThread([&order, i] { order.push_back(i); });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    REQUIRE(order.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  }

  TEST_CASE("shutdown runs what waits for a thread, and its results arrive") {
    Reactor reactor;
    int results = 0;
    reactor.suggestThreadPoolSize(2);
    reactor.callWhenRunning([&] {
      for (int i = 0; i < 50; ++i) deferToThread([i] { return i; }).addCallback([&](int) { ++results; });
      reactor.stop();
    });
    reactor.run();
    CHECK(results == 50);
  }

  TEST_CASE("results of threads that have ended when the reactor shuts down arrive") {
    Reactor reactor;
    int result = 0;
    reactor.callLater(0s, [&] {
      deferToThread([] { return 5; }).addCallback([&](int i) { result = i; });
      reactor.getThreadPool().shutdown(true);
      reactor.stop();
    });
    reactor.run();
    CHECK(result == 5);
  }

  TEST_CASE("a reactor that runs again has threads again") {
    Reactor reactor;
    for (int run = 0; run < 2; ++run) CHECK(wait(reactor, deferToThread([] { return 1; })).value() == 1);
  }

  TEST_CASE("blockingCallFromThread gives the result of the call, of its Deferred, and raises what fails") {
    Reactor reactor;
    auto test = [&] {
      CHECK(blockingCallFromThread(reactor, [] { return std::string("now"); }) == "now");
      CHECK(blockingCallFromThread(reactor, [&] { return deferLater(reactor, 1ms, [] { return 5; }); }) == 5);
      CHECK(blockingCallFromThread(reactor, [] { return succeed(std::make_unique<int>(3)); }) != nullptr);
      blockingCallFromThread(reactor, [] {});
      blockingCallFromThread(reactor, [&] { return deferLater(reactor, 1ms); });
      CHECK_THROWS_AS(blockingCallFromThread(reactor, [] { throw TestError(); }), TestError);
      CHECK_THROWS_AS(blockingCallFromThread(reactor, [] { return fail<int>(TestError()); }), TestError);
      CHECK_THROWS_AS(blockingCallFromThread(reactor, []() -> Deferred<int> { throw TestError(); }), TestError);
      CHECK_THROWS_AS(
          blockingCallFromThread(reactor, [&] { return deferLater(reactor, 1ms, [] { throw TestError(); }); }),
          TestError);
      CHECK(blockingCallFromThread(reactor, [&] { return std::this_thread::get_id(); }) != std::this_thread::get_id());
    };
    CHECK(wait(reactor, deferToThread(test)).ok());
  }

  TEST_CASE("blockingCallFromThread in the reactor's own thread is refused") {
    Reactor reactor;
    CHECK_THROWS_AS(blockingCallFromThread(reactor, [] {}), WrongThread);
  }

  TEST_CASE("a blocked thread is let go when the reactor stops") {
    Reactor reactor;
    Resolver<void> never, neither;
    int released = 0;
    reactor.callInThread([&] {
      auto waitsForEver = [&] {
        reactor.callLater(0s, [&] { reactor.stop(); });
        return never.deferred();
      };
      CHECK_THROWS_AS(blockingCallFromThread(reactor, waitsForEver), ReactorNotRunning);
      ++released;
      // The reactor waits for this thread now, and still makes its calls.
      CHECK(blockingCallFromThread(reactor, [] { return 1; }) == 1);
      CHECK_THROWS_AS(blockingCallFromThread(reactor, [&] { return neither.deferred(); }), ReactorNotRunning);
      ++released;
    });
    reactor.run();
    CHECK(released == 2);
    never.callback();
  }

  TEST_CASE("a blocked thread is let go when its call is dropped") {
    auto thread = std::make_shared<detail::BlockedThread<int>>();
    {
      detail::Answer<int> answer(thread);
    }
    REQUIRE(thread->error);
    CHECK_THROWS_AS(std::rethrow_exception(thread->error), ReactorNotRunning);
  }
}

TEST_SUITE("ThreadPool") {
  TEST_CASE("starts as many threads as there are jobs, within its limits") {
    Reactor reactor;
    ThreadPool pool(1, 3, reactor);
    CHECK(pool.threads() == 1);
    std::promise<void> go;
    auto gone = go.get_future().share();
    for (int i = 0; i < 5; ++i) pool.callInThread([gone] { gone.wait(); });
    CHECK(pool.threads() == 3);
    CHECK(pool.queued() >= 2);
    go.set_value();
    pool.shutdown();
    CHECK(pool.threads() == 0);
    CHECK(pool.queued() == 0);
    CHECK_THROWS_AS(pool.callInThread([] {}), ReactorNotRunning);
    CHECK_THROWS_AS(pool.submit([] {}), ReactorNotRunning);
    CHECK_NOTHROW(pool.shutdown());
  }

  TEST_CASE("an idle thread takes the next job") {
    Reactor reactor;
    ThreadPool pool(0, 5, reactor);
    CHECK(pool.threads() == 0);
    for (int i = 0; i < 20; ++i) {
      while (pool.threads() != pool.idle()) std::this_thread::yield();
      CHECK(wait(reactor, pool.submit([i] { return i; })).value() == i);
    }
    CHECK(pool.threads() == 1);
  }

  TEST_CASE("a job may wait for one that comes later, if there are threads left") {
    Reactor reactor;
    ThreadPool pool(0, 2, reactor);
    std::promise<void> first;
    auto d = pool.submit([&] { first.get_future().wait(); });
    pool.callInThread([&] { first.set_value(); });
    CHECK(wait(reactor, std::move(d)).ok());
  }

  TEST_CASE("adjustPoolSize starts and ends threads") {
    Reactor reactor;
    ThreadPool pool(0, 5, reactor);
    pool.adjustPoolSize(3, 5);
    CHECK(pool.threads() == 3);
    pool.adjustPoolSize(0, 1);
    while (pool.threads() != 1) std::this_thread::yield();
    CHECK(wait(reactor, pool.submit([] { return 1; })).value() == 1);
    CHECK_THROWS_AS(pool.adjustPoolSize(2, 1), std::invalid_argument);
    CHECK_THROWS_AS(pool.adjustPoolSize(0, 0), std::invalid_argument);
    CHECK_THROWS_AS(ThreadPool(3, 2, reactor), std::invalid_argument);
  }

  TEST_CASE("what a job holds is let go once it has run") {
    Reactor reactor;
    ThreadPool pool(0, 1, reactor);
    auto held = std::make_shared<int>(1);
    CHECK(wait(reactor, pool.submit([held] { return *held; })).value() == 1);
    CHECK(held.use_count() == 1);
    std::weak_ptr<int> watch = held;
    pool.callInThread([held = std::move(held)] {});
    CHECK(wait(reactor, pool.submit([] { return 1; })).value() == 1);
    CHECK(watch.expired());
  }

  TEST_CASE("shutdown(false) does not wait") {
    Reactor reactor;
    ThreadPool pool(0, 1, reactor);
    std::promise<void> go;
    bool ran = false;
    pool.callInThread([&] {
      go.get_future().wait();
      ran = true;
    });
    pool.shutdown(false);
    CHECK(pool.threads() == 1);
    go.set_value();
    pool.shutdown();
    CHECK(ran);
  }

  TEST_CASE("jobs whose results nobody can get any more break their Deferreds") {
    std::optional<Deferred<int>> d;
    bool broken = false;
    {
      Reactor reactor;
      ThreadPool pool(0, 1, reactor);
      pool.submit([] { return 1; }).addErrback([&](const BrokenDeferred&) {
        broken = true;
        return 0;
      });
    }
    CHECK(broken);
  }
}
