#include <reactor/client_service.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct Fixture {
  MemoryReactor reactor;
  std::vector<std::shared_ptr<AccumulatingProtocol>> built;
  std::shared_ptr<ClientService> service;

  explicit Fixture(ClientServiceOptions options = {}) {
    if (!options.prepareConnection) {
      options.retryPolicy = [](int attempt) { return Duration(std::chrono::seconds(attempt)); };
    }
    service = std::make_shared<ClientService>(std::make_shared<TCP4ClientEndpoint>("10.0.0.1", 80, reactor),
                                              makeFactory([this] {
                                                built.push_back(std::make_shared<AccumulatingProtocol>());
                                                return built.back();
                                              }),
                                              std::move(options), reactor);
  }
  void serve() { reactor.listenTCP(80, forProtocol<Protocol>()); }
  Duration untilRetry() {
    const auto calls = reactor.getDelayedCalls();
    REQUIRE(calls.size() == 1);
    return calls.front().getTime() - reactor.seconds();
  }
  void failOnce() {
    REQUIRE(reactor.failOnce());
    reactor.advance(0s);
  }
  void stop() {
    auto stopping = service->stopService();
    reactor.flush();
    successResultOf(stopping);
    CHECK(reactor.getDelayedCalls().empty());
    CHECK(reactor.tcpClients().empty());
    CHECK(reactor.connections().empty());
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "ClientService: connects when started, once") {
  CHECK(reactor.tcpClients().empty());
  auto early = service->whenConnected();
  service->startService();
  service->startService();
  CHECK(reactor.tcpClients().size() == 1);
  serve();
  reactor.flush();
  CHECK(successResultOf(early) == built.at(0));
  CHECK(successResultOf(service->whenConnected()) == built.at(0));
  stop();
  CHECK(built.at(0)->closedReason->check<ConnectionDone>());
}

TEST_CASE_FIXTURE(Fixture, "ClientService: tries again after each failure, as the policy says; a success starts anew") {
  service->startService();
  auto waiting = service->whenConnected();
  for (const Duration expected : {1s, 2s, 3s}) {
    failOnce();
    CHECK(untilRetry() == expected);
    reactor.advance(expected);
    CHECK(reactor.tcpClients().size() == 1);
  }
  assertNoResult(waiting);
  serve();
  reactor.flush();
  CHECK(successResultOf(waiting) == built.at(0));
  built.at(0)->transport().abortConnection();
  reactor.flush();
  auto next = service->whenConnected();
  CHECK(untilRetry() == 1s);
  reactor.advance(1s);
  reactor.flush();
  CHECK(successResultOf(next) == built.at(1));
  stop();
}

TEST_CASE_FIXTURE(Fixture, "ClientService: failAfterFailures") {
  service->startService();
  auto first = service->whenConnected(1);
  auto second = service->whenConnected(2);
  auto patient = service->whenConnected();
  failOnce();
  failureResultOf<ConnectionRefusedError>(first);
  assertNoResult(second);
  reactor.advance(1s);
  failOnce();
  failureResultOf<ConnectionRefusedError>(second);
  assertNoResult(patient);
  CHECK_THROWS_AS(service->whenConnected(0), std::invalid_argument);
  stop();
  failureResultOf<CancelledError>(patient);
}

TEST_CASE_FIXTURE(Fixture, "ClientService: stopped in each state, and started again") {
  std::optional<Deferred<std::shared_ptr<Protocol>>> waiting;
  SUBCASE("before it was started") {}
  SUBCASE("connecting") {
    service->startService();
    waiting = service->whenConnected();
  }
  SUBCASE("waiting") {
    service->startService();
    waiting = service->whenConnected();
    failOnce();
  }
  SUBCASE("connected") {
    serve();
    service->startService();
    reactor.flush();
  }
  stop();
  if (waiting) failureResultOf<CancelledError>(*waiting);
  failureResultOf<CancelledError>(service->whenConnected());
  successResultOf(service->stopService());
  service->startService();
  auto again = service->whenConnected();
  if (reactor.tcpServers().empty()) serve();
  reactor.flush();
  CHECK(successResultOf(again) == built.back());
  stop();
}

TEST_CASE_FIXTURE(Fixture, "ClientService: started again while it stops") {
  serve();
  service->startService();
  reactor.flush();
  auto stopping = service->stopService();
  auto alsoStopping = service->stopService();
  auto next = service->whenConnected();
  service->startService();
  assertNoResult(stopping);
  reactor.flush();
  successResultOf(stopping);
  successResultOf(alsoStopping);
  CHECK(built.size() == 2);
  CHECK(successResultOf(next) == built.at(1));
  stop();
}

TEST_CASE("ClientService: prepareConnection") {
  std::optional<Resolver<void>> prepared;
  std::shared_ptr<Protocol> given;
  Fixture f({.retryPolicy = [](int) { return Duration(7s); },
             .prepareConnection =
                 [&](std::shared_ptr<Protocol> protocol) {
                   given = std::move(protocol);
                   return prepared.emplace().deferred();
                 }});
  f.serve();
  f.service->startService();
  auto waiting = f.service->whenConnected();
  f.reactor.flush();
  assertNoResult(waiting);
  CHECK(given == f.built.at(0));
  SUBCASE("succeeds") {
    prepared->callback();
    CHECK(successResultOf(waiting) == f.built.at(0));
  }
  SUBCASE("fails: the connection is lost, and made again later") {
    prepared->errback(std::runtime_error("no login"));
    f.reactor.flush();
    CHECK(f.built.at(0)->closed());
    assertNoResult(waiting);
    f.reactor.advance(7s);
    f.reactor.flush();
    prepared->callback();
    CHECK(successResultOf(waiting) == f.built.at(1));
  }
  SUBCASE("the connection is lost meanwhile") {
    f.built.at(0)->transport().abortConnection();
    f.reactor.flush();
    prepared->callback();
    assertNoResult(waiting);
    f.reactor.advance(7s);
    f.reactor.flush();
    prepared->callback();
    CHECK(successResultOf(waiting) == f.built.at(1));
  }
  SUBCASE("is stopped meanwhile") {
    auto stopping = f.service->stopService();
    f.reactor.flush();
    successResultOf(stopping);
    failureResultOf<CancelledError>(waiting);
    CHECK(f.built.at(0)->closed());
  }
  given.reset();
  f.stop();
}

TEST_CASE_FIXTURE(Fixture, "ClientService: a server that closes at once is not hammered") {
  struct Flap : Protocol {
    void connectionMade() override { transport().loseConnection(); }
  };
  reactor.listenTCP(80, forProtocol<Flap>());
  service->startService();
  for (int i = 0; i < 5; ++i) {
    reactor.flush();
    CHECK(built.size() == static_cast<std::size_t>(i + 1));
    CHECK(untilRetry() == 1s);
    reactor.advance(1s);
  }
  stop();
}

TEST_CASE_FIXTURE(Fixture, "ClientService: a server that hangs costs an attempt its timeout, and a retry") {
  service->startService();
  auto patient = service->whenConnected();
  auto waiting = service->whenConnected(2);
  for (int attempt = 1; attempt <= 2; ++attempt) {
    CHECK(reactor.tcpClients().size() == 1);
    assertNoResult(waiting);
    reactor.advance(30s);
    CHECK(reactor.tcpClients().empty());
    CHECK(untilRetry() == std::chrono::seconds(attempt));
    reactor.advance(std::chrono::seconds(attempt));
  }
  failureResultOf<ConnectTimeoutError>(waiting);
  SUBCASE("it is stopped in an attempt") {
    stop();
    failureResultOf<CancelledError>(patient);
  }
  SUBCASE("the server comes back") {
    serve();
    reactor.flush();
    CHECK(successResultOf(patient) == built.at(0));
    stop();
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "ClientService: a server that flaps: each success counts failures anew, one attempt at a time") {
  auto port = reactor.listenTCP(80, forProtocol<Protocol>());
  service->startService();
  for (int round = 0; round < 20; ++round) {
    reactor.flush();
    auto connected = service->whenConnected();
    CHECK(successResultOf(connected) == built.at(static_cast<std::size_t>(round)));
    CHECK(reactor.connections().size() == 1);
    port->stopListening();
    reactor.connections().front()->serverIO().protocol()->transport().abortConnection();
    reactor.flush();
    for (const Duration expected : {1s, 2s, 3s}) {
      CHECK(untilRetry() == expected);
      CHECK(reactor.connections().empty());
      reactor.advance(expected);
      CHECK(reactor.tcpClients().size() == 1);
      if (expected != 3s) reactor.flush();  // refused
    }
    port = reactor.listenTCP(80, forProtocol<Protocol>());
  }
  stop();
}

TEST_CASE_FIXTURE(Fixture,
                  "ClientService: refused for a week, it keeps to the policy, and waits that were cancelled go") {
  service->startService();
  for (int attempt = 1; attempt <= 1000; ++attempt) {
    auto waiting = service->whenConnected();
    waiting.cancel();
    failureResultOf<CancelledError>(waiting);
    failOnce();
    CHECK(untilRetry() == std::chrono::seconds(attempt));
    reactor.advance(std::chrono::seconds(attempt));
  }
  stop();
}

TEST_CASE_FIXTURE(Fixture, "ClientService: stopped, started and stopped again before it is disconnected") {
  serve();
  service->startService();
  reactor.flush();
  auto first = service->stopService();
  service->startService();
  auto next = service->whenConnected();
  auto second = service->stopService();
  reactor.flush();
  successResultOf(first);
  successResultOf(second);
  failureResultOf<CancelledError>(next);
  CHECK(built.size() == 1);
  stop();
}

TEST_CASE("ClientService: prepareConnection that throws is a failed attempt each time") {
  int prepared = 0;
  Fixture f({.retryPolicy = [](int attempt) { return Duration(std::chrono::seconds(attempt)); },
             .prepareConnection = [&](std::shared_ptr<Protocol>) -> Deferred<void> {
               ++prepared;
               throw std::runtime_error("no login");
             }});
  f.serve();
  f.service->startService();
  auto waiting = f.service->whenConnected(2);
  f.reactor.flush();
  assertNoResult(waiting);
  CHECK(f.untilRetry() == 1s);
  f.reactor.advance(1s);
  f.reactor.flush();
  failureResultOf<std::runtime_error>(waiting);
  CHECK(f.untilRetry() == 2s);
  CHECK(prepared == 2);
  CHECK(f.built.at(1)->closed());
  f.stop();
}

TEST_CASE("ClientService: a retryPolicy that throws is logged, and ends the retries until it is started again") {
  LogCapture log;
  MemoryReactor reactor;
  bool bad = false;
  const auto service = std::make_shared<ClientService>(
      std::make_shared<TCP4ClientEndpoint>("10.0.0.1", 80, reactor), forProtocol<Protocol>(),
      ClientServiceOptions{.retryPolicy =
                               [&](int) {
                                 if (bad) throw std::runtime_error("no policy");
                                 return Duration(1s);
                               }},
      reactor);
  service->startService();
  reactor.failOnce();
  reactor.advance(1s);
  bad = true;
  reactor.failOnce();
  reactor.advance(0s);
  CHECK(log.flushLoggedErrors<std::runtime_error>().size() == 1);
  CHECK(reactor.getDelayedCalls().empty());
  successResultOf(service->stopService());
  service->startService();
  CHECK(reactor.tcpClients().size() == 1);
  successResultOf(service->stopService());
}

TEST_CASE("ClientService: an endpoint that throws is a failed attempt") {
  struct Bad final : StreamClientEndpoint {
    Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory>, std::source_location) override {
      ++calls;
      throw std::runtime_error("no endpoint");
    }
    int calls = 0;
  };
  Clock clock;
  const auto endpoint = std::make_shared<Bad>();
  const auto service = std::make_shared<ClientService>(
      endpoint, forProtocol<Protocol>(), ClientServiceOptions{.retryPolicy = [](int) { return Duration(1s); }}, clock);
  service->startService();
  auto waiting = service->whenConnected(1);
  clock.advance(1s);
  failureResultOf<std::runtime_error>(waiting);
  CHECK(endpoint->calls == 2);
  successResultOf(service->stopService());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("ClientService: dropped while it runs, it leaves nothing behind") {
  Fixture f;
  f.service->startService();
  SUBCASE("connecting") {}
  SUBCASE("waiting") {
    f.failOnce();
  }
  SUBCASE("connected") {
    f.serve();
    f.reactor.flush();
  }
  f.service.reset();
  f.reactor.flush();
  CHECK(f.reactor.getDelayedCalls().empty());
  CHECK(f.reactor.tcpClients().empty());
  CHECK(f.reactor.connections().empty());
}

TEST_CASE("backoffPolicy: grows by the factor to the greatest delay, with the jitter added") {
  const auto exact = backoffPolicy(1s, 60s, 1.5, 0s);
  CHECK(exact(1) == 1500ms);
  CHECK(exact(2) == 2250ms);
  CHECK(exact(3) == 3375ms);
  CHECK(exact(10) > 57s);
  CHECK(exact(11) == 60s);
  CHECK(exact(1'000'000) == 60s);
  CHECK(backoffPolicy(1s, 60s, 1e10, 0s)(1000) == 60s);
  const auto usual = backoffPolicy();
  for (int i = 0; i < 100; ++i) {
    CHECK(usual(1) >= 1500ms);
    CHECK(usual(1) <= 2500ms);
  }
}
