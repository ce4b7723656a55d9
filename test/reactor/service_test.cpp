#include <reactor/service.hpp>

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

using Log = std::vector<std::string>;

struct Part : Service {
  Part(std::string called, Log& log) : called(std::move(called)), log(log) {}
  void startService() override {
    if (fails) throw std::runtime_error(called + " cannot start");
    Service::startService();
    log.push_back("start " + called);
  }
  Deferred<void> stopService() override {
    Service::stopService();
    log.push_back("stop " + called);
    return slow ? slow->deferred() : succeed();
  }
  std::string called;
  Log& log;
  bool fails = false;
  std::optional<Resolver<void>> slow;
};

struct Parts {
  Log log;
  std::shared_ptr<MultiService> all = std::make_shared<MultiService>();
  std::shared_ptr<Part> a = all->addService(std::make_shared<Part>("a", log));
  std::shared_ptr<Part> b = all->addService(std::make_shared<Part>("b", log));
  std::shared_ptr<Part> c = std::make_shared<Part>("c", log);
};

}  // namespace

TEST_CASE_FIXTURE(Parts, "MultiService: starts in order, stops in the reverse order and waits for all") {
  all->startService();
  CHECK(log == Log{"start a", "start b"});
  CHECK(a->running());
  b->slow.emplace();
  log.clear();
  auto stopping = all->stopService();
  CHECK(log == Log{"stop b", "stop a"});
  CHECK_FALSE(all->running());
  assertNoResult(stopping);
  b->slow->callback();
  successResultOf(stopping);
}

TEST_CASE_FIXTURE(Parts, "MultiService: one that cannot start stops those before it") {
  all->addService(c);
  b->fails = true;
  CHECK_THROWS_WITH(all->startService(), "b cannot start");
  CHECK(log == Log{"start a", "stop a"});
  CHECK_FALSE(all->running());
}

TEST_CASE_FIXTURE(Parts, "MultiService: an error in stopping is logged, and waits for nobody") {
  LogCapture capture;
  all->startService();
  a->slow.emplace();
  a->slow->errback(std::runtime_error("stuck"));
  successResultOf(all->stopService());
  CHECK(capture.flushLoggedErrors<std::runtime_error>().size() == 1);
}

TEST_CASE_FIXTURE(Parts, "MultiService: added to and removed from while it runs") {
  all->startService();
  log.clear();
  all->addService(c);
  CHECK(log == Log{"start c"});
  CHECK(c->parent() == all.get());
  CHECK_THROWS_AS(all->addService(c), std::logic_error);
  b->slow.emplace();
  auto removed = all->removeService(*b);
  CHECK(log.back() == "stop b");
  CHECK(b->parent() == nullptr);
  assertNoResult(removed);
  b->slow->callback();
  successResultOf(removed);
  CHECK_THROWS_AS(all->removeService(*b), std::logic_error);
  successResultOf(c->disownServiceParent());
  CHECK_THROWS_AS(c->disownServiceParent(), std::logic_error);
  const auto other = std::make_shared<MultiService>();
  a->setServiceParent(*other);
  CHECK(all->services().empty());
  CHECK(other->services().size() == 1);
}

TEST_CASE_FIXTURE(Parts, "MultiService: names") {
  c->setName("see");
  all->addService(c);
  CHECK(all->getServiceNamed("see") == c);
  CHECK_THROWS_AS(all->getServiceNamed("b"), std::out_of_range);
  CHECK_THROWS_AS(c->setName("other"), std::logic_error);
  const auto again = std::make_shared<Part>("again", log);
  again->setName("see");
  CHECK_THROWS_AS(all->addService(again), std::logic_error);
  successResultOf(all->removeService(*c));
  all->addService(again);
  all.reset();
  CHECK(again->parent() == nullptr);
}

TEST_CASE("TimerService: calls at once and every step, until it is stopped; and again when it is started again") {
  Clock clock;
  int calls = 0;
  const auto timer = std::make_shared<TimerService>(5s, [&] { ++calls; }, clock);
  timer->startService();
  CHECK(calls == 1);
  clock.advance(5s);
  CHECK(calls == 2);
  successResultOf(timer->stopService());
  clock.advance(5s);
  CHECK(calls == 2);
  timer->startService();
  CHECK(calls == 3);
  successResultOf(timer->stopService());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("TimerService: stops when the call under way has ended; an error ends the calls") {
  Clock clock;
  LogCapture capture;
  std::optional<Resolver<void>> call;
  const auto timer = std::make_shared<TimerService>(5s, [&] { return call.emplace().deferred(); }, clock);
  timer->startService();
  SUBCASE("stop") {
    auto stopping = timer->stopService();
    assertNoResult(stopping);
    call->callback();
    successResultOf(stopping);
  }
  SUBCASE("an error") {
    call->errback(std::domain_error("bad"));
    clock.advance(10s);
    CHECK(capture.flushLoggedErrors<std::domain_error>().size() == 1);
    successResultOf(timer->stopService());
  }
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("StreamServerEndpointService: listens while it runs") {
  MemoryReactor reactor;
  const auto service = std::make_shared<StreamServerEndpointService>(
      std::make_shared<TCP4ServerEndpoint>(80, "", reactor), forProtocol<Protocol>());
  service->startService();
  CHECK(reactor.tcpServers().size() == 1);
  CHECK(service->port() != nullptr);
  const auto other = std::make_shared<StreamServerEndpointService>(
      std::make_shared<TCP4ServerEndpoint>(80, "", reactor), forProtocol<Protocol>());
  CHECK_THROWS_AS(other->startService(), CannotListenError);
  CHECK_FALSE(other->running());
  successResultOf(service->stopService());
  CHECK(reactor.tcpServers().empty());
  CHECK(service->port() == nullptr);
  successResultOf(service->stopService());
}

TEST_CASE("StreamServerEndpointService: an endpoint that takes its time") {
  struct Slow : StreamServerEndpoint {
    Resolver<std::shared_ptr<ListeningPort>> resolver;
    Deferred<std::shared_ptr<ListeningPort>> listen(std::shared_ptr<Factory>, std::source_location) override {
      return resolver.deferred();
    }
  };
  LogCapture capture;
  const auto endpoint = std::make_shared<Slow>();
  const auto service = std::make_shared<StreamServerEndpointService>(endpoint, forProtocol<Protocol>());
  service->startService();
  SUBCASE("is cancelled") {
    successResultOf(service->stopService());
  }
  SUBCASE("fails later: that is logged") {
    endpoint->resolver.errback(CannotListenError("", 80, EADDRINUSE));
    CHECK(capture.flushLoggedErrors<CannotListenError>().size() == 1);
    successResultOf(service->stopService());
  }
}

TEST_CASE("runService: runs until the reactor is stopped, by a signal or by hand; exit status 0") {
  Reactor reactor;
  Log log;
  bool byHand = false;
  SUBCASE("by hand") {
    byHand = true;
  }
  SUBCASE("SIGTERM") {}
  const int status = runService(
      [&](Reactor& r) {
        r.callLater(0s, [&, byHand] {
          log.push_back("running");
          if (byHand) return reactor.stop();
          std::raise(SIGTERM);
        });
        return std::make_shared<Part>("a", log);
      },
      30s, reactor);
  CHECK(status == 0);
  CHECK(log == Log{"start a", "running", "stop a"});
}

TEST_CASE("runService: exit status 1, with a log, for what cannot start or does not stop") {
  LogCapture capture;
  Reactor reactor;
  Log log;
  const auto part = std::make_shared<Part>("a", log);
  const auto run = [&](Duration stopWithin) {
    return runService(
        [&](Reactor& r) {
          r.callLater(0s, [&r] { r.stop(); });
          return part;
        },
        stopWithin, reactor);
  };
  SUBCASE("it cannot be made") {
    const auto make = [](Reactor&) -> std::shared_ptr<Service> { throw std::domain_error("no configuration"); };
    CHECK(runService(make, 1s, reactor) == 1);
    CHECK(capture.flushLoggedErrors<std::domain_error>().size() == 1);
  }
  SUBCASE("it cannot start") {
    part->fails = true;
    const auto make = [&](Reactor&) { return part; };
    CHECK(runService(make, 1s, reactor) == 1);
    CHECK(log.empty());
    CHECK(capture.flushLoggedErrors<std::runtime_error>().size() == 1);
  }
  SUBCASE("it does not come to rest in time") {
    part->slow.emplace();
    CHECK(run(1ms) == 1);
    CHECK(capture.flushLoggedErrors<TimeoutError>().size() == 1);
  }
  SUBCASE("it fails in stopping") {
    part->slow.emplace();
    part->slow->errback(std::domain_error("stuck"));
    CHECK(run(30s) == 1);
    CHECK(capture.flushLoggedErrors<std::domain_error>().size() == 1);
  }
}

TEST_CASE("runService: systemd is told when it is ready and when it stops") {
  test::TemporaryDirectory directory;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = directory.path() + "/notify";
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const detail::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const auto told = [&] {
    char buffer[100];
    const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    return n < 0 ? "nothing" : std::string(buffer, static_cast<std::size_t>(n));
  };
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  Reactor reactor;
  Log log;
  const int status = runService(
      [&](Reactor& r) {
        r.callLater(0s, [&] {
          log.push_back(told());
          r.stop();
        });
        return std::make_shared<Service>();
      },
      30s, reactor);
  ::unsetenv("NOTIFY_SOCKET");
  log.push_back(told());
  log.push_back(told());
  CHECK(status == 0);
  CHECK(log == Log{"READY=1", "STOPPING=1", "nothing"});
}
