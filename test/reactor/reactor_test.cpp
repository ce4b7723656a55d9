#include <reactor/reactor.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <boost/asio/post.hpp>

#include <deferred/errors.hpp>
#include <deferred/functions.hpp>
#include <reactor/descriptor.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/error.hpp>
#include <reactor/process.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/log_capture.hpp>

using namespace std::chrono_literals;
using namespace torsion;
using Trace = std::vector<std::string>;

namespace {

// Something open: tells when it is shut down.
class Open final : public detail::Disconnectable {
 public:
  Open(Reactor& reactor, UniqueFunction<void()> atShutdown)
      : Disconnectable(detail::implOf(reactor), std::source_location::current()), atShutdown_(std::move(atShutdown)) {}
  void shutdown() override { atShutdown_(); }
  std::string describe() const override { return "a thing"; }
  using Disconnectable::leave;

 private:
  UniqueFunction<void()> atShutdown_;
};

// doctest handles signals itself; not while this exists.
class DefaultSignals {
 public:
  DefaultSignals() {
    for (Saved& saved : saved_) {
      struct sigaction action = {};
      action.sa_handler = SIG_DFL;
      sigaction(saved.number, &action, &saved.action);
    }
  }
  ~DefaultSignals() {
    for (Saved& saved : saved_) sigaction(saved.number, &saved.action, nullptr);
  }

 private:
  struct Saved {
    int number;
    struct sigaction action;
  };
  Saved saved_[3] = {{SIGINT, {}}, {SIGTERM, {}}, {SIGPIPE, {}}};
};

bool isDefault(int signal) {
  struct sigaction action;
  sigaction(signal, nullptr, &action);
  return action.sa_handler == SIG_DFL;
}

bool isIgnored(int signal) {
  struct sigaction action;
  sigaction(signal, nullptr, &action);
  return action.sa_handler == SIG_IGN;
}

// Runs f in a child process, with the signals' default actions, and gives its status.
int inChild(const std::function<void()>& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    DefaultSignals signals;
    f();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

// Runs `last` when it is destroyed with that.
struct AtEnd {
  explicit AtEnd(std::function<void()> last) : last(std::move(last)) {}
  AtEnd(AtEnd&& other) noexcept : last(std::exchange(other.last, nullptr)) {}
  ~AtEnd() {
    if (last) last();
  }
  std::function<void()> last;
};

}  // namespace

TEST_SUITE("Reactor") {
  TEST_CASE("what happens in a run, in Twisted's order") {
    Reactor reactor;
    Trace trace;
    auto say = [&](std::string text) { return [&trace, text] { trace.push_back(text); }; };
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::startup, say("after-startup"));
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::startup, [&] {
      trace.push_back("before-startup running=" + std::to_string(reactor.running()));
    });
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::startup, [&] {
      trace.push_back("during-startup running=" + std::to_string(reactor.running()));
    });
    reactor.callWhenRunning(say("callWhenRunning"));
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] {
      trace.push_back("before-shutdown");
      Resolver<void> resolver;
      reactor.callLater(2ms, [resolver] { resolver.callback(); });
      reactor.callLater(1ms, say("timer during before-shutdown"));
      return resolver.deferred();
    });
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, say("before-shutdown 2"));
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] {
      trace.push_back("during-shutdown running=" + std::to_string(reactor.running()));
    });
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, [&] {
      trace.push_back("after-shutdown running=" + std::to_string(reactor.running()));
    });
    Open open(reactor, say("connection closed"));
    CHECK_THROWS_AS(reactor.stop(), ReactorNotRunning);
    reactor.callLater(0s, [&] {
      trace.push_back("callLater before run");
      CHECK_THROWS_AS(reactor.run(), ReactorAlreadyRunning);
      CHECK_THROWS_AS(reactor.iterate(), ReactorAlreadyRunning);
      reactor.stop();
      CHECK_THROWS_AS(reactor.stop(), ReactorNotRunning);
      trace.push_back("stopped running=" + std::to_string(reactor.running()));
    });
    reactor.callFromThread(say("callFromThread before run"));
    CHECK_FALSE(reactor.running());
    reactor.run();
    CHECK_FALSE(reactor.running());
    CHECK(trace == Trace{"before-startup running=0", "during-startup running=1", "after-startup", "callWhenRunning",
                         "callFromThread before run", "callLater before run", "stopped running=1", "before-shutdown",
                         "before-shutdown 2", "timer during before-shutdown", "connection closed",
                         "during-shutdown running=0", "after-shutdown running=0"});
  }

  TEST_CASE("runs again; triggers were called once") {
    Reactor reactor;
    int startups = 0, shutdowns = 0;
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::startup, [&] { ++startups; });
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { ++shutdowns; });
    for (int run = 0; run < 3; ++run) {
      reactor.callWhenRunning([&] { reactor.stop(); });
      reactor.run();
    }
    CHECK(startups == 1);
    CHECK(shutdowns == 1);
  }

  TEST_CASE("timed calls left by one run are made in the next") {
    Reactor reactor;
    int calls = 0;
    DelayedCall call = reactor.callLater(1h, [&] {
      ++calls;
      reactor.stop();
    });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(calls == 0);
    CHECK(reactor.getDelayedCalls().size() == 1);
    call.reset(0s);
    reactor.run();
    CHECK(calls == 1);
  }

  TEST_CASE("run() within after-shutdown is refused") {
    Reactor reactor;
    int refused = 0;
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, [&] {
      try {
        reactor.run();
      } catch (const ReactorAlreadyRunning&) {
        ++refused;
      }
    });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(refused == 1);
  }

  TEST_CASE("callWhenRunning once running calls at once; what it throws reaches the caller then") {
    Reactor reactor;
    bool called = false;
    reactor.callWhenRunning([&] {
      reactor.callWhenRunning([&] { called = true; });
      CHECK(called);
      CHECK_THROWS_AS(reactor.callWhenRunning([] { throw std::runtime_error("x"); }), std::runtime_error);
      reactor.stop();
    });
    reactor.run();
    CHECK(called);
  }

  TEST_CASE("stop() in a startup trigger shuts down after startup") {
    Reactor reactor;
    Trace trace;
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::startup, [&] {
      reactor.stop();
      trace.push_back("before");
    });
    reactor.callWhenRunning([&] { trace.push_back("after"); });
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { trace.push_back("shutdown"); });
    reactor.run();
    CHECK(trace == Trace{"before", "after", "shutdown"});
  }

  TEST_CASE("startup waits for the Deferreds of the triggers before it") {
    Reactor reactor;
    Trace trace;
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::startup, [&] {
      Resolver<void> resolver;
      reactor.callLater(0s, [&, resolver] {
        trace.push_back("fired running=" + std::to_string(reactor.running()));
        resolver.callback();
      });
      return resolver.deferred();
    });
    reactor.callWhenRunning([&] {
      trace.push_back("started running=" + std::to_string(reactor.running()));
      reactor.stop();
    });
    reactor.run();
    CHECK(trace == Trace{"fired running=0", "started running=1"});
  }

  TEST_CASE("a trigger that throws, or whose Deferred fails, is logged and harms no other") {
    Reactor reactor;
    LogCapture log;
    Trace trace;
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [] { throw std::runtime_error("thrown"); });
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown,
                                  [] { return fail<void>(std::runtime_error("failed")); });
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] { trace.push_back("before"); });
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [] { throw std::runtime_error("thrown"); });
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { trace.push_back("during"); });
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, [] { throw std::runtime_error("thrown"); });
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, [&] { trace.push_back("after"); });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(trace == Trace{"before", "during", "after"});
    CHECK(log.flushLoggedErrors<std::runtime_error>().size() == 4);
  }

  TEST_CASE("removed triggers are not called; unknown, called and removed ones cannot be removed") {
    Reactor reactor;
    Trace trace;
    auto removed =
        reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { trace.push_back("removed"); });
    reactor.removeSystemEventTrigger(removed);
    CHECK_THROWS_AS(reactor.removeSystemEventTrigger(removed), std::invalid_argument);
    CHECK_THROWS_AS(reactor.removeSystemEventTrigger(TriggerID{12345}), std::invalid_argument);
    TriggerID first, later;
    first = reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] {
      trace.push_back("first");
      reactor.removeSystemEventTrigger(later);
      CHECK_THROWS_AS(reactor.removeSystemEventTrigger(first), std::invalid_argument);
    });
    later = reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] { trace.push_back("later"); });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(trace == Trace{"first"});
  }

  TEST_CASE("triggers added while the event is under way are called in their phase, if that is not over") {
    Reactor reactor;
    Trace trace;
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] {
      reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] { trace.push_back("before"); });
      reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, [&] { trace.push_back("during"); });
    });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(trace == Trace{"before", "during"});
  }

  TEST_CASE("timed calls run in order of time, equal times as scheduled; never before callLater returns") {
    Reactor reactor;
    Trace trace;
    reactor.callLater(2ms, [&] {
      trace.push_back("c");
      reactor.stop();
    });
    reactor.callLater(0s, [&] { trace.push_back("a"); });
    reactor.callLater(0s, [&] { trace.push_back("b"); });
    CHECK(trace.empty());
    CHECK(reactor.getDelayedCalls().size() == 3);
    reactor.run();
    CHECK(trace == Trace{"a", "b", "c"});
    CHECK_THROWS_AS(reactor.callLater(-1s, [] {}), std::invalid_argument);
  }

  TEST_CASE("timed calls and calls from threads made in a turn wait for the next") {
    Reactor reactor;
    Trace trace;
    reactor.callFromThread([&] {
      trace.push_back("call 1");
      reactor.callFromThread([&] { trace.push_back("call 2"); });
    });
    reactor.callLater(0s, [&] {
      trace.push_back("timer 1");
      reactor.callLater(0s, [&] {
        trace.push_back("timer 2");
        reactor.stop();
      });
    });
    reactor.run();
    CHECK(trace == Trace{"call 1", "timer 1", "call 2", "timer 2"});
  }

  TEST_CASE("a timed call made by a call from a thread runs in the same turn") {
    Reactor reactor;
    Trace trace;
    reactor.callFromThread([&] {
      reactor.callLater(0s, [&] { trace.push_back("timer"); });
      reactor.callFromThread([&] {
        trace.push_back("call");
        reactor.stop();
      });
    });
    reactor.run();
    CHECK(trace == Trace{"timer", "call"});
  }

  TEST_CASE("a timed call that is moved, sooner or later, runs at its new time") {
    Reactor reactor;
    Trace trace;
    DelayedCall sooner = reactor.callLater(1h, [&] { trace.push_back("sooner"); });
    DelayedCall later = reactor.callLater(0s, [&] {
      trace.push_back("later");
      reactor.stop();
    });
    DelayedCall cancelled = reactor.callLater(0s, [&] { trace.push_back("cancelled"); });
    reactor.callWhenRunning([&] {
      later.reset(3ms);
      sooner.reset(1ms);
      cancelled.cancel();
    });
    reactor.run();
    CHECK(trace == Trace{"sooner", "later"});
    CHECK_THROWS_AS(later.cancel(), AlreadyCalled);
  }

  TEST_CASE("the time stands still within a call and does not go backwards") {
    Reactor reactor;
    const Duration before = reactor.seconds();
    reactor.callWhenRunning([&] {
      reactor.callLater(1ms, [&] {
        const Duration first = reactor.seconds();
        CHECK(first > before);
        const auto start = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() == start) {
        }
        CHECK(reactor.seconds() == first);
        reactor.callLater(0s, [&, first] {
          CHECK(reactor.seconds() > first);
          reactor.stop();
        });
      });
    });
    reactor.run();
  }

  TEST_CASE("what a timed call, a call from a thread or a handler throws is logged, and the loop goes on") {
    Reactor reactor;
    LogCapture log;
    Trace trace;
    reactor.callLater(0s, [] { throw std::runtime_error("timed"); });
    reactor.callLater(0s, [&] { trace.push_back("timed"); });
    reactor.callFromThread([] { throw std::runtime_error("from thread"); });
    reactor.callFromThread([&] { trace.push_back("from thread"); });
    boost::asio::post(detail::implOf(reactor).context, [] { throw std::runtime_error("handler"); });
    boost::asio::post(detail::implOf(reactor).context, [&] {
      trace.push_back("handler");
      reactor.stop();
    });
    reactor.run();
    CHECK(trace == Trace{"from thread", "timed", "handler"});
    CHECK(log.flushLoggedErrors<std::runtime_error>().size() == 3);
  }

  TEST_CASE("calls from other threads wake the reactor and keep their order") {
    Reactor reactor;
    std::vector<int> got;
    std::thread thread;
    reactor.callWhenRunning([&] {
      thread = std::thread([&] {
        for (int i = 0; i < 1000; ++i) reactor.callFromThread([&got, i] { got.push_back(i); });
        reactor.callFromThread([&] { reactor.stop(); });
      });
    });
    reactor.run();
    thread.join();
    REQUIRE(got.size() == 1000);
    for (int i = 0; i < 1000; ++i) CHECK(got[static_cast<std::size_t>(i)] == i);
  }

  TEST_CASE("iterate() makes one turn") {
    Reactor reactor;
    Trace trace;
    reactor.callLater(0s, [&] {
      trace.push_back("1");
      reactor.callLater(0s, [&] { trace.push_back("2"); });
    });
    reactor.iterate();
    CHECK(trace == Trace{"1"});
    reactor.iterate();
    CHECK(trace == Trace{"1", "2"});
    bool done = false;
    reactor.callLater(1ms, [&] { done = true; });
    while (!done) reactor.iterate(1h);
  }

  TEST_CASE("shutdown closes what is open, once; what is opened meanwhile stays for the next run") {
    Reactor reactor;
    Trace trace;
    std::unique_ptr<Open> second;
    Open first(reactor, [&] {
      trace.push_back("first");
      second = std::make_unique<Open>(reactor, [&] { trace.push_back("second"); });
      throw std::runtime_error("shutdown");
    });
    Open left(reactor, [&] { trace.push_back("left"); });
    left.leave();
    left.leave();
    auto destroyed = std::make_unique<Open>(reactor, [&] { trace.push_back("destroyed"); });
    Open destroys(reactor, [&] { destroyed.reset(); });
    CHECK(detail::implOf(reactor).disconnectables().size() == 3);
    CHECK(detail::implOf(reactor).disconnectables()[0] == &first);
    LogCapture log;
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(trace == Trace{"first", "destroyed"});
    CHECK(log.flushLoggedErrors<std::runtime_error>().size() == 1);
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    CHECK(trace == Trace{"first", "destroyed", "second"});
  }

  TEST_CASE("signals stop the main thread's reactor, and handlers are as before when run() returns") {
    DefaultSignals signals;
    for (int signal : {SIGINT, SIGTERM}) {
      Reactor reactor;
      LogCapture log;
      reactor.callWhenRunning([&] {
        CHECK(isIgnored(SIGPIPE));
        CHECK_FALSE(isDefault(signal));
        raise(signal);
      });
      reactor.run();
      for (int number : {SIGINT, SIGTERM, SIGPIPE}) CHECK(isDefault(number));
    }
  }

  TEST_CASE("a second signal while shutting down does no harm") {
    Reactor reactor;
    LogCapture log;
    int signals = 0;
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] {
      ++signals;
      raise(SIGTERM);
      Resolver<void> resolver;
      reactor.callLater(2ms, [resolver] { resolver.callback(); });
      return resolver.deferred();
    });
    reactor.callWhenRunning([&] { raise(SIGTERM); });
    reactor.run();
    CHECK(signals == 1);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("another signal ends a program whose shutdown hangs") {
    const int status = inChild([] {
      Reactor reactor;
      LogCapture log;
      Resolver<void> never;
      reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] {
        reactor.callLater(1100ms, [] { raise(SIGINT); });
        return never.deferred();
      });
      reactor.callWhenRunning([&] { raise(SIGTERM); });
      reactor.run();
    });
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGINT);
  }

  TEST_CASE("a signal that comes as run() returns does no harm") {
    DefaultSignals signals;
    std::signal(SIGTERM, SIG_IGN);
    Reactor reactor;
    LogCapture log;
    reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, [&] { raise(SIGTERM); });
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run();
    reactor.callWhenRunning([&] { reactor.stop(); });
    reactor.run(false);
    CHECK(log.flushLoggedErrors().empty());
  }

  TEST_CASE("a reactor runs where no descriptor is left") {
    const int status = inChild([] {
      Reactor reactor;
      const rlimit few{64, 64};
      ::setrlimit(RLIMIT_NOFILE, &few);
      while (::dup(0) >= 0) {
      }
      reactor.callLater(1ms, [&] { reactor.stop(); });
      reactor.run();
      ::_exit(7);
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
  }

  TEST_CASE("the program's own SIGINT handler stays; without signal handlers all stay") {
    DefaultSignals signals;
    static int interrupts;
    interrupts = 0;
    std::signal(SIGINT, [](int) { ++interrupts; });
    Reactor reactor;
    reactor.callWhenRunning([&] {
      raise(SIGINT);
      reactor.stop();
    });
    reactor.run();
    CHECK(interrupts == 1);
    std::signal(SIGINT, SIG_DFL);
    reactor.callWhenRunning([&] {
      for (int number : {SIGINT, SIGTERM, SIGPIPE}) CHECK(isDefault(number));
      reactor.stop();
    });
    reactor.run(false);
  }

  TEST_CASE("a reactor of another thread takes no signals") {
    DefaultSignals signals;
    std::thread([] {
      Reactor reactor;
      reactor.callWhenRunning([&] {
        CHECK(isDefault(SIGTERM));
        CHECK(isDefault(SIGPIPE));
        reactor.stop();
      });
      reactor.run();
    }).join();
  }

  TEST_CASE("reactor() is the one constructed last in the thread") {
    Reactor& main = reactor();
    CHECK(&reactor() == &main);
    {
      Reactor inner;
      CHECK(&reactor() == &inner);
      auto outlives = std::make_unique<Reactor>();
      auto last = std::make_unique<Reactor>();
      outlives.reset();
      CHECK(&reactor() == last.get());
      last.reset();
      CHECK(&reactor() == &inner);
    }
    CHECK(&reactor() == &main);
    std::thread([&] {
      CHECK(&reactor() == &main);
      Reactor own;
      CHECK(&reactor() == &own);
      own.callWhenRunning([&] { own.stop(); });
      own.run();
    }).join();
  }

  TEST_CASE("in another thread all but callFromThread throws WrongThread") {
    Reactor local;
    DelayedCall call = local.callLater(1h, [] {});
    std::thread([&] {
      for (Reactor* r : {&local, &reactor()}) {
        CHECK_THROWS_AS(r->run(), WrongThread);
        CHECK_THROWS_AS(r->stop(), WrongThread);
        CHECK_THROWS_AS(r->iterate(), WrongThread);
        CHECK_THROWS_AS(r->running(), WrongThread);
        CHECK_THROWS_AS(r->seconds(), WrongThread);
        CHECK_THROWS_AS(r->callLater(1s, [] {}), WrongThread);
        CHECK_THROWS_AS(r->callWhenRunning([] {}), WrongThread);
        CHECK_THROWS_AS(r->addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [] {}), WrongThread);
        CHECK_THROWS_AS(r->removeSystemEventTrigger(TriggerID{1}), WrongThread);
        CHECK_THROWS_AS(r->getDelayedCalls(), WrongThread);
        CHECK_THROWS_AS(r->callInThread([] {}), WrongThread);
        CHECK_THROWS_AS(r->suggestThreadPoolSize(1), WrongThread);
      }
      CHECK_THROWS_AS(call.cancel(), WrongThread);
      CHECK_THROWS_AS(call.reset(1s), WrongThread);
      CHECK_THROWS_AS(call.delay(1s), WrongThread);
      local.callFromThread([] {});
    }).join();
    CHECK(call.active());
  }

  TEST_CASE("destroying a reactor closes, drops timed calls, breaks Deferreds; nothing new can be started") {
    std::string trace;
    DelayedCall outlives;
    int refused = 0;
    std::optional<Open> open;
    Reactor* dying = nullptr;
    auto refuses = [&] {
      CHECK_THROWS_AS(dying->callLater(1s, [] {}), ReactorNotRunning);
      CHECK_THROWS_AS(dying->callWhenRunning([] {}), ReactorNotRunning);
      CHECK_THROWS_AS(dying->run(), ReactorNotRunning);
      CHECK_THROWS_AS(dying->getThreadPool(), ReactorNotRunning);
      CHECK_NOTHROW(dying->seconds());
      CHECK(&torsion::reactor() == dying);
      ++refused;
    };
    {
      Reactor reactor;
      dying = &reactor;
      open.emplace(reactor, [&] {
        trace += "closed,";
        refuses();
      });
      Resolver<int> byTimer, byHandler, byTrigger, byThreadCall;
      byTimer.deferred().addErrback([&](const BrokenDeferred&) {
        trace += "timer,";
        refuses();
        return 0;
      });
      byHandler.deferred().addErrback([&](const BrokenDeferred&) {
        trace += "handler,";
        refuses();
        return 0;
      });
      byTrigger.deferred().addErrback([&](const BrokenDeferred&) {
        trace += "trigger,";
        refuses();
        return 0;
      });
      byThreadCall.deferred().addErrback([&](const BrokenDeferred&) {
        trace += "call from thread,";
        refuses();
        return 0;
      });
      outlives = reactor.callLater(0s, [r = std::move(byTimer)] { r.callback(1); });
      reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown,
                                    [r = std::move(byTrigger)] { r.callback(1); });
      reactor.callFromThread([r = std::move(byThreadCall)] { r.callback(1); });
      auto timer = std::make_shared<boost::asio::steady_timer>(detail::implOf(reactor).context, 1h);
      timer->async_wait([timer, r = std::move(byHandler)](boost::system::error_code) { (void)r; });
    }
    CHECK(trace == "closed,timer,trigger,call from thread,handler,");
    CHECK(refused == 5);
    CHECK_FALSE(outlives.active());
    CHECK_NOTHROW(outlives.reset(1s));
    CHECK_NOTHROW(outlives.cancel());
  }

  TEST_CASE("a thread's call that ~Reactor drops may make others") {
    int dropped = 0;
    {
      Reactor reactor;
      for (int i = 0; i < 3; ++i) {
        reactor.callFromThread([end = AtEnd([&] {
                                  for (int j = 0; j < 10; ++j)
                                    reactor.callFromThread([end = AtEnd([&] { ++dropped; })] {});
                                })] {});
      }
    }
    CHECK(dropped == 30);
  }

  TEST_CASE("an errback of what a dropped call held may call") {
    bool called = false;
    {
      Reactor reactor;
      Resolver<int> answer;
      answer.deferred().addErrback([&](const BrokenDeferred&) {
        called = true;
        reactor.callFromThread([] {});
        return 0;
      });
      reactor.callFromThread([answer = std::make_unique<Resolver<int>>(std::move(answer))] { answer->callback(1); });
      reactor.callFromThread([] {});
    }
    CHECK(called);
  }

  TEST_CASE("triggers that are dropped, and what they held, may add and remove others") {
    Reactor reactor;
    const auto none = [] {};
    TriggerID other{};
    const auto atEnd = [&] {
      reactor.removeSystemEventTrigger(other);
      for (int i = 0; i < 100; ++i) reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, none);
    };
    const TriggerID first =
        reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [end = AtEnd(atEnd)] {});
    other = reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, none);
    reactor.removeSystemEventTrigger(first);
    CHECK_THROWS_AS(reactor.removeSystemEventTrigger(other), std::invalid_argument);
  }

  TEST_CASE("what is no function is refused where it is given") {
    Reactor reactor;
    void (*none)() = nullptr;
    CHECK_THROWS_AS(reactor.callLater(0s, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.callLater(0s, none), std::invalid_argument);
    CHECK_THROWS_AS(reactor.callLater(0s, std::function<void()>()), std::invalid_argument);
    CHECK_THROWS_AS(reactor.callFromThread(nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.callWhenRunning(nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.callInThread(nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.addSystemEventTrigger(Phase::during, SystemEvent::startup, none), std::invalid_argument);
    CHECK_THROWS_AS(
        reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, std::function<Deferred<void>()>()),
        std::invalid_argument);
    CHECK(reactor.getDelayedCalls().empty());
  }

  TEST_CASE("what is no factory, protocol or reader is refused where it is given") {
    Reactor reactor;
    CHECK_THROWS_AS(reactor.listenTCP(0, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.connectTCP("127.0.0.1", 1, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.listenUNIX("nowhere", nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.connectUNIX("nowhere", nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.listenUDP(0, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.listenMulticast(0, nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.spawnProcess(nullptr, "/bin/true"), std::invalid_argument);
    CHECK_THROWS_AS(reactor.addReader(nullptr), std::invalid_argument);
    CHECK_THROWS_AS(reactor.addWriter(nullptr), std::invalid_argument);
  }

  TEST_CASE("a lambda coroutine lives until it has ended, whoever calls it") {
    Reactor reactor;
    std::string seen;
    // Long enough to lie on the heap, where AddressSanitizer sees it go.
    const auto coroutine = [&](const std::string& name) {
      return [&reactor, &seen, name = name + std::string(100, ' ')]() -> Deferred<void> {
        co_await deferLater(reactor, 1ms);
        seen += name.substr(0, name.find(' ')) + ";";
      };
    };
    reactor.callWhenRunning(coroutine("waiting"));
    reactor.callWhenRunning([&] { reactor.callWhenRunning(coroutine("running")); });
    reactor.callLater(1ms, coroutine("later"));
    reactor.callFromThread(coroutine("thread"));
    reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, coroutine("trigger"));
    reactor.addSystemEventTrigger(Phase::during, SystemEvent::startup, coroutine("startup"));
    reactor.callLater(20ms, [&] { reactor.stop(); });
    reactor.run();
    for (const char* name : {"waiting;", "running;", "later;", "thread;", "trigger;", "startup;"}) {
      CHECK_MESSAGE(seen.find(name) != std::string::npos, name);
    }
  }

  TEST_CASE("iterate() waits for ever if it is told so") {
    Reactor reactor;
    bool called = false;
    reactor.callLater(2ms, [&] { called = true; });
    while (!called) reactor.iterate(Duration::max() - 1ns);
    CHECK(called);
  }
}
