#include <reactor/reconnecting.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct Client : ReconnectingClientFactory {
  explicit Client(Time& time) : ReconnectingClientFactory(time) { jitter = 0; }
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    if (resets) resetDelay();
    return latest = std::make_shared<AccumulatingProtocol>();
  }
  std::shared_ptr<AccumulatingProtocol> latest;
  bool resets = true;
};

// How long it is until the next attempt.
Duration waitOf(MemoryReactor& reactor) {
  const auto calls = reactor.getDelayedCalls();
  REQUIRE(calls.size() == 1);
  return calls.front().getTime() - reactor.seconds();
}

}  // namespace

TEST_CASE("ReconnectingClientFactory: delays grow by the factor up to the greatest") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->factor = 2;
  factory->maxDelay = 5s;
  reactor.connectTCP("10.0.0.1", 80, factory);
  for (const Duration expected : {1s, 2s, 4s, 5s, 5s}) {
    REQUIRE(reactor.failOnce());
    reactor.advance(0s);
    CHECK(waitOf(reactor) == expected);
    reactor.advance(expected - 1ms);
    CHECK(reactor.tcpClients().empty());
    reactor.advance(1ms);
    CHECK(reactor.tcpClients().size() == 1);
  }
  CHECK(factory->retries() == 5);
  factory->stopTrying();
  reactor.advance(0s);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("ReconnectingClientFactory: a server that closes at once is tried without a pause only if it is said good") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->factor = 3;
  struct Flap : Protocol {
    void connectionMade() override { transport().loseConnection(); }
  };
  reactor.listenTCP(80, forProtocol<Flap>());
  std::vector<Duration> expected;
  SUBCASE("resetDelay") {
    expected = {1s, 1s, 1s};
  }
  SUBCASE("without") {
    factory->resets = false;
    expected = {1s, 3s, 9s};
  }
  reactor.connectTCP("10.0.0.1", 80, factory);
  for (const Duration wait : expected) {
    reactor.flush();
    CHECK(factory->latest->closed());
    CHECK(waitOf(reactor) == wait);
    reactor.advance(wait);
  }
  factory->stopTrying();
  reactor.flush();
}

TEST_CASE("ReconnectingClientFactory: a server that hangs ends in the attempt's timeout, and is tried again") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  reactor.connectTCP("10.0.0.1", 80, factory, 30s);
  reactor.advance(30s);
  reactor.advance(1s);
  CHECK(reactor.tcpClients().size() == 1);
  CHECK(factory->retries() == 1);
  factory->stopTrying();
  reactor.advance(0s);
}

TEST_CASE(
    "ReconnectingClientFactory: a server that flaps: a connection that is said good starts anew, one attempt at a "
    "time") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->factor = 2;
  auto port = reactor.listenTCP(80, forProtocol<Protocol>());
  reactor.connectTCP("10.0.0.1", 80, factory);
  for (int round = 0; round < 20; ++round) {
    reactor.flush();
    REQUIRE(reactor.connections().size() == 1);
    CHECK(factory->retries() == 0);
    port->stopListening();
    reactor.connections().front()->serverIO().protocol()->transport().abortConnection();
    reactor.flush();
    CHECK(factory->latest->closed());
    for (const Duration expected : {1s, 2s, 4s}) {
      CHECK(waitOf(reactor) == expected);
      CHECK(reactor.connections().empty());
      reactor.advance(expected);
      CHECK(reactor.tcpClients().size() == 1);
      if (expected != 4s) reactor.flush();  // refused
    }
    port = reactor.listenTCP(80, forProtocol<Protocol>());
  }
  factory->stopTrying();
  reactor.flush();
}

TEST_CASE("ReconnectingClientFactory: stopTrying while it is connected: not again when the connection is lost") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  reactor.listenTCP(80, forProtocol<Protocol>());
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  REQUIRE(factory->latest->connected());
  factory->stopTrying();
  CHECK(factory->latest->connected());
  factory->latest->transport().loseConnection();
  reactor.flush();
  CHECK(factory->latest->closed());
  CHECK(reactor.tcpClients().empty());
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("ReconnectingClientFactory: maxRetries in a row") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->maxRetries = 2;
  reactor.connectTCP("10.0.0.1", 80, factory);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(reactor.failOnce());
    reactor.advance(10s);
  }
  CHECK(reactor.tcpClients().empty());
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("ReconnectingClientFactory: stopTrying ends the attempt or the wait; resetDelay takes it back") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  const auto connector = reactor.connectTCP("10.0.0.1", 80, factory);
  SUBCASE("in an attempt") {}
  SUBCASE("while it waits") {
    reactor.failOnce();
    reactor.advance(0s);
    CHECK(reactor.getDelayedCalls().size() == 1);
  }
  factory->stopTrying();
  reactor.advance(100s);
  CHECK(reactor.tcpClients().empty());
  CHECK(reactor.getDelayedCalls().empty());
  factory->resetDelay();
  factory->retry(*connector);
  CHECK(waitOf(reactor) == 1s);
  factory->stopTrying();
}

TEST_CASE("ReconnectingClientFactory: the jitter spreads the delays about the exact one") {
  MemoryReactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->jitter = 0.1;
  const auto connector = reactor.connectTCP("10.0.0.1", 80, factory);
  int below = 0;
  int differ = 0;
  Duration last = 0s;
  for (int i = 0; i < 1000; ++i) {
    factory->resetDelay();
    factory->retry(*connector);
    const Duration wait = waitOf(reactor);
    CHECK(wait > 200ms);
    CHECK(wait < 1800ms);
    below += wait < 1s;
    differ += wait != last;
    last = wait;
  }
  CHECK(differ > 990);
  CHECK(below > 400);
  CHECK(below < 600);
  factory->stopTrying();
  reactor.advance(0s);
}

TEST_CASE("ReconnectingClientFactory: over sockets; a reactor that is destroyed ends it silently") {
  Reactor reactor;
  const auto factory = std::make_shared<Client>(reactor);
  factory->initialDelay = 1ms;
  struct Flap : Protocol {
    void connectionMade() override { transport().loseConnection(); }
  };
  int served = 0;
  const auto port = reactor.listenTCP(0, makeFactory([&]() -> std::shared_ptr<Protocol> {
                                        if (++served < 3) return std::make_shared<Flap>();
                                        return std::make_shared<AccumulatingProtocol>();
                                      }),
                                      50, "127.0.0.1");
  reactor.connectTCP("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, factory);
  test::runUntil(reactor, [&] { return served == 3 && factory->latest && factory->latest->connected(); });
}
