// Endpoints over MemoryReactor, whose time and network stand still until a test moves them.
#include <reactor/endpoints.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <test/support/made_at.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

using Connected = std::shared_ptr<Protocol>;

std::shared_ptr<Factory> accumulating() {
  return forProtocol<AccumulatingProtocol>();
}

std::vector<std::string> hostsTried(const MemoryReactor& reactor) {
  std::vector<std::string> hosts;
  for (const auto& client : reactor.tcpClients()) hosts.push_back(client.host);
  return hosts;
}

// Who fired, and with what, of a Deferred that the test keeps.
struct Outcome {
  Connected protocol;
  std::optional<Failure> failure;
  bool pending() const { return !protocol && !failure; }
};
Deferred<void> watch(Deferred<Connected> d, Outcome& outcome) {
  return std::move(d).addCallbacks([&outcome](Connected p) { outcome.protocol = p; },
                                   [&outcome](const Failure& f) { outcome.failure = f; });
}

using Hosts = std::vector<std::string>;

}  // namespace

TEST_CASE("TCP4ClientEndpoint connects as it was told, and gives the protocol after connectionMade") {
  MemoryReactor reactor;
  auto server = std::make_shared<AccumulatingProtocol>();
  reactor.listenTCP(80, makeFactory([&] { return server; }));
  TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor, 7s, "10.0.0.9");
  auto d = endpoint.connect(accumulating());
  REQUIRE(reactor.tcpClients().size() == 1);
  CHECK(reactor.tcpClients()[0].host == "10.0.0.5");
  CHECK(reactor.tcpClients()[0].port == 80);
  CHECK(reactor.tcpClients()[0].timeout == 7s);
  CHECK(reactor.tcpClients()[0].bindAddress == "10.0.0.9");
  assertNoResult(d);
  reactor.succeedOnce();
  auto protocol = std::dynamic_pointer_cast<AccumulatingProtocol>(successResultOf(d));
  REQUIRE(protocol);
  CHECK(protocol->made);
  CHECK(protocol->transport().protocol() == protocol.get());

  // The transport feeds the user's protocol from now on.
  server->transport().write("hello");
  reactor.flush();
  CHECK(protocol->data == "hello");
  server->transport().loseConnection();
  reactor.flush();
  CHECK(protocol->closed());
}

TEST_CASE("an endpoint fails with the reason of the attempt") {
  MemoryReactor reactor;
  TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor, 7s);
  auto d = endpoint.connect(accumulating());
  SUBCASE("refused") {
    reactor.failOnce();
    failureResultOf<ConnectionRefusedError>(d);
  }
  SUBCASE("its limit") {
    reactor.advance(7s);
    failureResultOf<ConnectTimeoutError>(d);
  }
  SUBCASE("cancelled") {
    d.cancel();
    failureResultOf<ConnectingCancelledError>(d);
    CHECK(reactor.tcpClients().empty());
  }
}

TEST_CASE("an endpoint fails with NoProtocol, or with what buildProtocol threw") {
  LogCapture logged;
  MemoryReactor reactor;
  reactor.listenTCP(80, accumulating());
  TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor);
  auto none = endpoint.connect(makeFactory([] { return Connected(); }));
  reactor.flush();
  failureResultOf<NoProtocol>(none);
  auto throws = endpoint.connect(makeFactory([]() -> Connected { throw std::range_error("no"); }));
  reactor.flush();
  failureResultOf<std::range_error>(throws);
  CHECK(logged.flushLoggedErrors().empty());
}

TEST_CASE("an endpoint fails with what connectionMade throws, and the connection ends") {
  struct Throws : AccumulatingProtocol {
    void connectionMade() override { throw std::range_error("no"); }
  };
  LogCapture logged;
  Reactor reactor;
  auto port = reactor.listenTCP(0, accumulating(), 50, "127.0.0.1");
  Outcome outcome;
  auto client = std::make_shared<Throws>();
  auto d = watch(TCP4ClientEndpoint("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, reactor)
                     .connect(makeFactory([client] { return client; })),
                 outcome);
  while (!client->closed()) reactor.iterate(1s);
  CHECK(outcome.failure->check<std::range_error>());
  CHECK(client->closedReason->check<std::range_error>());
  CHECK(logged.flushLoggedErrors<std::range_error>().size() == 1);
}

TEST_CASE("an endpoint starts and stops the factory, and may be used twice and be gone") {
  struct Counting : Factory {
    Connected buildProtocol(const Address&) override { return std::make_shared<AccumulatingProtocol>(); }
    void startFactory() override { ++started; }
    void stopFactory() override { ++stopped; }
    int started = 0, stopped = 0;
  };
  MemoryReactor reactor;
  reactor.listenTCP(80, accumulating());
  auto factory = std::make_shared<Counting>();
  std::optional<TCP4ClientEndpoint> endpoint(std::in_place, "10.0.0.5", 80, reactor);
  auto first = endpoint->connect(factory);
  auto second = endpoint->connect(factory);
  endpoint.reset();
  CHECK(factory->started == 1);
  reactor.flush();
  auto one = successResultOf(first), two = successResultOf(second);
  CHECK(one != two);
  CHECK(factory->stopped == 0);
  one->transport().loseConnection();
  two->transport().loseConnection();
  reactor.flush();
  CHECK(factory->stopped == 1);
}

namespace {

struct Watched : Factory {
  Connected buildProtocol(const Address&) override {
    if (onBuild) onBuild();
    return protocol = std::make_shared<Told>(*this);
  }
  void startFactory() override {
    if (onStart) onStart();
  }
  void stopFactory() override {
    ++stopped;
    if (onStop) onStop();
  }
  struct Told : AccumulatingProtocol {
    explicit Told(Watched& factory) : factory(factory) {}
    void connectionMade() override {
      AccumulatingProtocol::connectionMade();
      if (factory.onMade) factory.onMade();
    }
    Watched& factory;
  };
  std::function<void()> onBuild, onStart, onStop, onMade;
  std::shared_ptr<AccumulatingProtocol> protocol;
  int stopped = 0;
};

}  // namespace

TEST_CASE("an endpoint's Deferred that is cancelled by its factory or protocol fails, and the connection is closed") {
  auto factory = std::make_shared<Watched>();
  auto server = std::make_shared<AccumulatingProtocol>();
  Canceller canceller;
  SUBCASE("in buildProtocol") {
    factory->onBuild = [&] { canceller.cancel(); };
  }
  SUBCASE("in connectionMade") {
    factory->onMade = [&] { canceller.cancel(); };
  }
  SUBCASE("in buildProtocol, which throws then") {
    factory->onBuild = [&] {
      canceller.cancel();
      throw std::range_error("no");
    };
  }
  const auto cancelled = [&](StreamClientEndpoint& endpoint, auto run) {
    Outcome outcome;
    auto d = endpoint.connect(factory);
    canceller = d.canceller();
    auto watched = watch(std::move(d), outcome);
    run();
    REQUIRE(outcome.failure);
    CHECK(outcome.failure->check<ConnectingCancelledError>());
    CHECK(factory->stopped == 1);
  };
  LogCapture logged;
  {
    Reactor reactor;
    auto port = reactor.listenTCP(0, makeFactory([&] { return server; }), 50, "127.0.0.1");
    TCP4ClientEndpoint endpoint("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, reactor);
    cancelled(endpoint, [&] {
      while (!server->closed() || factory->stopped == 0) reactor.iterate(1s);
    });
  }
  factory->stopped = 0;
  MemoryReactor memory;
  memory.addName("example.com", {"10.0.0.5"});
  server = std::make_shared<AccumulatingProtocol>();
  memory.listenTCP(80, makeFactory([&] { return server; }));
  HostnameEndpoint endpoint("example.com", 80, memory);
  cancelled(endpoint, [&] { memory.flush(); });
  CHECK(memory.connections().empty());
}

TEST_CASE("what startFactory throws fails the Deferred") {
  auto factory = std::make_shared<Watched>();
  factory->onStart = [] { throw std::range_error("no"); };
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.1", "10.0.0.2"});
  failureResultOf<std::range_error>(TCP4ClientEndpoint("10.0.0.5", 80, reactor).connect(factory));
  failureResultOf<std::range_error>(HostnameEndpoint("example.com", 80, reactor).connect(factory));
  CHECK(reactor.getDelayedCalls().empty());
  failureResultOf<std::range_error>(TCP4ServerEndpoint(80, "", reactor).listen(factory));
}

TEST_CASE("a factory may cancel its endpoint's Deferred in stopFactory, and destroy the endpoint in buildProtocol") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.1"});
  reactor.listenTCP(80, accumulating());
  auto factory = std::make_shared<Watched>();
  std::optional<HostnameEndpoint> endpoint(std::in_place, "example.com", 80, reactor);
  factory->onBuild = [&] { endpoint.reset(); };
  Canceller canceller;
  Outcome outcome;
  auto d = endpoint->connect(factory);
  canceller = d.canceller();
  auto watched = watch(std::move(d), outcome);
  SUBCASE("it connects") {
    reactor.flush();
    CHECK_FALSE(endpoint);
    CHECK(outcome.protocol == factory->protocol);
  }
  SUBCASE("it is refused") {
    factory->onStop = [&] { canceller.cancel(); };
    reactor.failOnce();
    CHECK(outcome.failure->check<ConnectionRefusedError>());
    CHECK(factory->stopped == 1);
  }
  factory->onStop = nullptr;
}

TEST_CASE("a null factory, and a port that does not fit, are refused at the call") {
  MemoryReactor reactor;
  TCP4ClientEndpoint client("10.0.0.5", 80, reactor);
  CHECK_THROWS_AS(client.connect(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(connectProtocol(client, std::shared_ptr<Protocol>()), std::invalid_argument);
  CHECK_THROWS_AS(HostnameEndpoint("example.com", 80, reactor).connect(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(TCP6ClientEndpoint("example.com", 80, reactor).connect(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(UNIXClientEndpoint("/run/x", reactor).connect(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(TCP4ServerEndpoint(80, "", reactor).listen(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(TCP6ServerEndpoint(80, "localhost", reactor).listen(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(UNIXServerEndpoint("/run/x", reactor).listen(nullptr), std::invalid_argument);
  const int tooMuch = std::stoi("99999");
  CHECK_THROWS_AS(TCP4ClientEndpoint("10.0.0.5", tooMuch, reactor), std::invalid_argument);
  CHECK_THROWS_AS(HostnameEndpoint("example.com", -1, reactor), std::invalid_argument);
  CHECK_THROWS_AS(TCP6ServerEndpoint(tooMuch, "::", reactor), std::invalid_argument);
}

TEST_CASE("connectProtocol gives the very protocol, with its type") {
  MemoryReactor reactor;
  reactor.listenTCP(80, accumulating());
  TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor);
  auto mine = std::make_shared<AccumulatingProtocol>();
  Deferred<std::shared_ptr<AccumulatingProtocol>> d = connectProtocol(endpoint, mine);
  reactor.flush();
  CHECK(successResultOf(d) == mine);
  CHECK(mine->connected());
}

TEST_CASE("TCP4ServerEndpoint listens, or fails as listenTCP does") {
  MemoryReactor reactor;
  TCP4ServerEndpoint endpoint(80, "10.0.0.5", reactor, 7);
  auto port = successResultOf(endpoint.listen(accumulating()));
  CHECK(port->getHost() == Address(IPv4Address{"10.0.0.5", 80}));
  CHECK(reactor.tcpServers()[0].backlog == 7);
  failureResultOf<CannotListenError>(endpoint.listen(accumulating()));
  port->stopListening();
}

// ---- HostnameEndpoint

TEST_CASE("HostnameEndpoint: one address behaves as TCP4ClientEndpoint") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.5"});
  reactor.listenTCP(80, accumulating());
  HostnameEndpoint endpoint("example.com", 80, reactor, 7s, "10.0.0.9");
  auto d = endpoint.connect(accumulating());
  REQUIRE(hostsTried(reactor) == Hosts{"10.0.0.5"});
  CHECK(reactor.tcpClients()[0].timeout == 7s);
  CHECK(reactor.tcpClients()[0].bindAddress == "10.0.0.9");
  CHECK(reactor.getDelayedCalls().empty());
  reactor.flush();
  CHECK(successResultOf(d)->connected());
}

TEST_CASE("HostnameEndpoint: a single refused address is reported at once") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.5"});
  auto d = HostnameEndpoint("example.com", 80, reactor).connect(accumulating());
  reactor.failOnce();
  failureResultOf<ConnectionRefusedError>(d);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("HostnameEndpoint: literals are not looked up, unknown names fail with DNSLookupError") {
  MemoryReactor reactor;
  auto v4 = HostnameEndpoint("10.0.0.5", 80, reactor).connect(accumulating());
  auto v6 = HostnameEndpoint("fd00::5", 80, reactor).connect(accumulating());
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.5", "fd00::5"});
  v4.cancel();
  v6.cancel();
  failureResultOf<ConnectingCancelledError>(v4);
  failureResultOf<ConnectingCancelledError>(v6);
  failureResultOf<DNSLookupError>(HostnameEndpoint("nowhere.example", 80, reactor).connect(accumulating()));
  reactor.addName("empty.example", {});
  failureResultOf<DNSLookupError>(HostnameEndpoint("empty.example", 80, reactor).connect(accumulating()));
}

TEST_CASE("HostnameEndpoint: the families take turns; each address gets its 250 ms, the earlier ones go on") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2", "10.0.0.3"});
  Outcome outcome;
  auto d = watch(HostnameEndpoint("example.com", 80, reactor).connect(accumulating()), outcome);
  CHECK(hostsTried(reactor) == Hosts{"fd00::1"});
  reactor.advance(249ms);
  CHECK(hostsTried(reactor).size() == 1);
  reactor.advance(1ms);
  CHECK(hostsTried(reactor) == Hosts{"fd00::1", "10.0.0.1"});
  reactor.advance(250ms);
  reactor.advance(250ms);
  reactor.advance(250ms);
  CHECK(hostsTried(reactor) == Hosts{"fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "10.0.0.3"});
  CHECK(reactor.getDelayedCalls().empty());
  CHECK(outcome.pending());

  SUBCASE("the first to connect wins, and the others are given up") {
    reactor.listenTCP(80, accumulating(), 50, "10.0.0.2");
    reactor.succeedOnce();
    REQUIRE(outcome.protocol);
    CHECK(outcome.protocol->transport().getPeer() == Address(IPv4Address{"10.0.0.2", 80}));
    CHECK(hostsTried(reactor).empty());
  }
  SUBCASE("all fail: the last failure, and only then") {
    for (int i = 0; i < 4; ++i) reactor.failOnce(NoRouteError("no route"));
    CHECK(outcome.pending());
    reactor.failOnce(ConnectionRefusedError("refused"));
    CHECK(outcome.failure->check<ConnectionRefusedError>());
  }
  SUBCASE("cancelled: all attempts end") {
    d.cancel();
    CHECK(outcome.failure->check<ConnectingCancelledError>());
    CHECK(hostsTried(reactor).empty());
    CHECK(reactor.getDelayedCalls().empty());
  }
  SUBCASE("each attempt has its own limit") {
    reactor.advance(30s);
    CHECK(outcome.failure->check<ConnectTimeoutError>());
  }
}

TEST_CASE("HostnameEndpoint: a failure starts the next attempt at once, and its delay anew") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.1", "10.0.0.2", "10.0.0.3"});
  Outcome outcome;
  auto d = watch(HostnameEndpoint("example.com", 80, reactor, 30s, "", 100ms).connect(accumulating()), outcome);
  reactor.advance(60ms);
  reactor.failOnce();
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.2"});
  reactor.advance(99ms);
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.2"});
  reactor.advance(1ms);
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.2", "10.0.0.3"});
  reactor.failOnce();
  CHECK(outcome.pending());
  reactor.failOnce();
  CHECK(outcome.failure->check<ConnectionRefusedError>());
}

TEST_CASE("HostnameEndpoint: cancelled while an attempt waits for its turn, and while the name is looked up") {
  MemoryReactor memory;
  memory.addName("example.com", {"10.0.0.1", "10.0.0.2"});
  auto d = HostnameEndpoint("example.com", 80, memory).connect(accumulating());
  CHECK(memory.getDelayedCalls().size() == 1);
  d.cancel();
  failureResultOf<ConnectingCancelledError>(d);
  CHECK(memory.getDelayedCalls().empty());
  CHECK(memory.tcpClients().empty());

  Reactor reactor;
  auto lookup = HostnameEndpoint("no-such-host.example", 80, reactor).connect(accumulating());
  lookup.cancel();
  failureResultOf<ConnectingCancelledError>(lookup);
}

TEST_CASE("HostnameEndpoint: a factory that refuses one address is asked again for the next") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.1", "10.0.0.2"});
  reactor.listenTCP(80, accumulating());
  int asked = 0;
  auto d = HostnameEndpoint("example.com", 80, reactor).connect(makeFactory([&]() -> Connected {
    return ++asked == 1 ? nullptr : std::make_shared<AccumulatingProtocol>();
  }));
  reactor.flush();
  CHECK(successResultOf(d)->connected());
  CHECK(asked == 2);
}

namespace {

// One whose name server is the test.
class AskedReactor final : public MemoryReactor {
 public:
  Deferred<void> resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                 std::source_location where) override {
    asked_ = name;
    found_ = std::move(found);
    return result_.emplace(where).deferred();
  }
  void found(const std::vector<std::string>& addresses) {
    Addresses all;
    for (const auto& address : addresses) {
      all.push_back(isIPAddress(address) ? Address(IPv4Address(address)) : Address(IPv6Address(address)));
    }
    found_(std::move(all));
  }
  const Resolver<void>& lookUp() const { return *result_; }

 private:
  std::string asked_;
  UniqueFunction<void(Addresses)> found_;
  std::optional<Resolver<void>> result_;
};

}  // namespace

TEST_CASE("HostnameEndpoint begins with what is found first; what is found later joins in its turn") {
  AskedReactor reactor;
  Outcome outcome;
  auto d = watch(HostnameEndpoint("example.com", 80, reactor).connect(accumulating()), outcome);
  CHECK(hostsTried(reactor).empty());
  reactor.found({"10.0.0.1", "10.0.0.2"});
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.1"});
  reactor.advance(100ms);
  reactor.found({"fd00::1", "fd00::2"});
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.1"});
  reactor.advance(150ms);
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.1", "fd00::1"});
  reactor.lookUp().callback();
  reactor.advance(250ms);
  reactor.advance(250ms);
  CHECK(hostsTried(reactor) == Hosts{"10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"});
  SUBCASE("one connects") {
    reactor.listenTCP(80, accumulating(), 50, "fd00::2");
    reactor.succeedOnce();
    CHECK(outcome.protocol);
  }
  SUBCASE("all fail") {
    while (reactor.failOnce()) {
    }
    CHECK(outcome.failure->check<ConnectionRefusedError>());
  }
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("HostnameEndpoint: addresses found when none is left to try are tried at once, or in their turn") {
  AskedReactor reactor;
  Outcome outcome;
  auto d = watch(HostnameEndpoint("example.com", 80, reactor).connect(accumulating()), outcome);
  reactor.found({"10.0.0.1"});
  SUBCASE("the first has failed") {
    reactor.failOnce();
    CHECK(outcome.pending());
    reactor.found({"fd00::1"});
    CHECK(hostsTried(reactor) == Hosts{"fd00::1"});
    reactor.lookUp().callback();
    reactor.failOnce();
    CHECK(outcome.failure->check<ConnectionRefusedError>());
  }
  SUBCASE("the first has had its 250 ms") {
    reactor.advance(300ms);
    reactor.found({"fd00::1"});
    reactor.advance(0ms);
    CHECK(hostsTried(reactor) == Hosts{"10.0.0.1", "fd00::1"});
  }
  SUBCASE("the look-up ends without more") {
    reactor.failOnce(NoRouteError("no route"));
    CHECK(outcome.pending());
    reactor.lookUp().callback();
    CHECK(outcome.failure->check<NoRouteError>());
  }
}

TEST_CASE("HostnameEndpoint: the limit of the look-up") {
  AskedReactor reactor;
  Outcome outcome;
  auto d = watch(HostnameEndpoint("example.com", 80, reactor, 7s).connect(accumulating()), outcome);
  SUBCASE("nothing was found") {
    reactor.advance(7s);
    CHECK(outcome.failure->check<ConnectTimeoutError>());
    CHECK(reactor.lookUp().called());  // cancelled
  }
  SUBCASE("something was: it does without the rest") {
    reactor.found({"10.0.0.1"});
    reactor.failOnce();
    CHECK(outcome.pending());
    reactor.advance(7s);
    CHECK(reactor.lookUp().called());
    CHECK(outcome.failure->check<ConnectionRefusedError>());
  }
  SUBCASE("it fails") {
    reactor.lookUp().errback(DNSLookupError("no such name"));
    CHECK(outcome.failure->check<DNSLookupError>());
  }
  SUBCASE("cancelled") {
    d.cancel();
    CHECK(reactor.lookUp().called());
    CHECK(outcome.failure->check<ConnectingCancelledError>());
  }
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("TCP6ClientEndpoint waits for an IPv6 address") {
  AskedReactor reactor;
  Outcome outcome;
  auto d = watch(TCP6ClientEndpoint("example.com", 80, reactor).connect(accumulating()), outcome);
  reactor.found({"10.0.0.1"});
  CHECK(hostsTried(reactor).empty());
  SUBCASE("there is one") {
    reactor.found({"fd00::1"});
    CHECK(hostsTried(reactor) == Hosts{"fd00::1"});
  }
  SUBCASE("there is none") {
    reactor.lookUp().callback();
    CHECK(outcome.failure->check<DNSLookupError>());
    CHECK(outcome.failure->getErrorMessage().find("example.com has no IPv6 address") != std::string::npos);
  }
}

TEST_CASE("server endpoints listen at names: of its own family, where it has one") {
  MemoryReactor reactor;
  reactor.addName("here", {"10.0.0.2", "fd00::2"});
  reactor.addName("old", {"10.0.0.3"});
  CHECK(successResultOf(TCP4ServerEndpoint(80, "here", reactor).listen(accumulating()))->getHost() ==
        Address(IPv4Address{"10.0.0.2", 80}));
  CHECK(successResultOf(TCP6ServerEndpoint(80, "here", reactor).listen(accumulating()))->getHost() ==
        Address(IPv6Address{"fd00::2", 80}));
  failureResultOf<CannotListenError>(TCP6ServerEndpoint(80, "old", reactor).listen(accumulating()));
  failureResultOf<CannotListenError>(TCP6ServerEndpoint(80, "nowhere", reactor).listen(accumulating()));
  failureResultOf<CannotListenError>(TCP4ServerEndpoint(80, "nowhere", reactor).listen(accumulating()));
}

TEST_CASE("reports of endpoints' failures name the user's line") {
  MemoryReactor r;
  test::MadeAt made;
  const auto check = [&](auto start) {
    const std::string place = start();
    r.flush();
    CHECK(made.flush() == Hosts{place});
  };
  constexpr auto here = test::MadeAt::placeOf;
  const auto f = accumulating();
  TCP4ClientEndpoint v4("10.0.0.1", 1, r);
  TCP6ClientEndpoint v6("fd00::1", 1, r), v6Name("x.example", 1, r);
  HostnameEndpoint name("x.example", 1, r);
  UNIXClientEndpoint path("/run/x", r);
  TCP4ServerEndpoint v4Server(1, "x.example", r);
  TCP6ServerEndpoint v6Server(1, "x.example", r);
  check([&] { return v4.connect(f), here(std::source_location::current()); });
  check([&] { return v6.connect(f), here(std::source_location::current()); });
  check([&] { return v6Name.connect(f), here(std::source_location::current()); });
  check([&] { return name.connect(f), here(std::source_location::current()); });
  check([&] { return path.connect(f), here(std::source_location::current()); });
  check([&] { return v4Server.listen(f), here(std::source_location::current()); });
  check([&] { return v6Server.listen(f), here(std::source_location::current()); });
  check([&] { return connectProtocol(v4, std::make_shared<Protocol>()), here(std::source_location::current()); });
}

TEST_CASE("endpoints over real sockets") {
  Reactor reactor;
  auto server = std::make_shared<AccumulatingProtocol>();
  auto port = successResultOf(TCP4ServerEndpoint(0, "127.0.0.1", reactor).listen(makeFactory([&] { return server; })));
  const auto number = std::get<IPv4Address>(port->getHost()).port;
  Outcome outcome;
  auto d = watch(HostnameEndpoint("localhost", number, reactor).connect(accumulating()), outcome);
  while (outcome.pending() || !server->made) reactor.iterate(1s);
  REQUIRE(outcome.protocol);
  outcome.protocol->transport().write("over the wire");
  outcome.protocol->transport().loseConnection();
  while (!server->closed()) reactor.iterate(1s);
  CHECK(server->data == "over the wire");
}

// ---- the other families

TEST_CASE("TCP6 endpoints: the first IPv6 address of a name") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"10.0.0.1", "fd00::1", "fd00::2"});
  reactor.addName("old.example", {"10.0.0.1"});
  auto port = successResultOf(TCP6ServerEndpoint(80, "fd00::1", reactor, 7).listen(accumulating()));
  CHECK(port->getHost() == Address(IPv6Address{"fd00::1", 80}));
  CHECK(reactor.tcpServers()[0].backlog == 7);
  auto d = TCP6ClientEndpoint("example.com", 80, reactor, 7s, "fd00::9").connect(accumulating());
  REQUIRE(hostsTried(reactor) == Hosts{"fd00::1"});
  CHECK(reactor.tcpClients()[0].timeout == 7s);
  CHECK(reactor.tcpClients()[0].bindAddress == "fd00::9");
  reactor.flush();
  CHECK(successResultOf(d)->connected());
  auto cancelled = TCP6ClientEndpoint("fd00::3", 80, reactor).connect(accumulating());
  CHECK(hostsTried(reactor) == Hosts{"fd00::3"});
  cancelled.cancel();
  failureResultOf<ConnectingCancelledError>(cancelled);
  failureResultOf<DNSLookupError>(TCP6ClientEndpoint("old.example", 80, reactor).connect(accumulating()));
  failureResultOf<DNSLookupError>(TCP6ClientEndpoint("10.0.0.1", 80, reactor).connect(accumulating()));
  CHECK(successResultOf(TCP6ServerEndpoint(81, "::", reactor).listen(accumulating()))->getHost() ==
        Address(IPv6Address{"::", 81}));
}

TEST_CASE("TCP6ClientEndpoint: cancelled while the name is looked up") {
  Reactor reactor;
  auto d = TCP6ClientEndpoint("no-such-host.example", 80, reactor).connect(accumulating());
  d.cancel();
  failureResultOf<ConnectingCancelledError>(d);
}

TEST_CASE("UNIX endpoints, in memory") {
  MemoryReactor reactor;
  UNIXServerEndpoint server("/run/x", reactor, 7, 0600, true);
  auto port = successResultOf(server.listen(accumulating()));
  CHECK(port->getHost() == Address(UNIXAddress{"/run/x"}));
  REQUIRE(reactor.unixServers().size() == 1);
  CHECK(reactor.unixServers()[0].backlog == 7);
  CHECK(reactor.unixServers()[0].mode == 0600);
  CHECK(reactor.unixServers()[0].wantPID);
  failureResultOf<CannotListenError>(server.listen(accumulating()));
  UNIXClientEndpoint client("/run/x", reactor, 7s, true);
  auto d = client.connect(accumulating());
  REQUIRE(reactor.unixClients().size() == 1);
  CHECK(reactor.unixClients()[0].address == "/run/x");
  CHECK(reactor.unixClients()[0].timeout == 7s);
  CHECK(reactor.unixClients()[0].checkPID);
  reactor.flush();
  auto protocol = successResultOf(d);
  CHECK(protocol->transport().getPeer() == Address(UNIXAddress{"/run/x"}));
  CHECK(protocol->transport().getHost() == Address(UNIXAddress{}));
  auto late = client.connect(accumulating());
  reactor.advance(7s);
  failureResultOf<ConnectTimeoutError>(late);
  port->stopListening();
  auto gone = client.connect(accumulating());
  reactor.flush();
  failureResultOf<BadFileError>(gone);
}

TEST_CASE("UNIX endpoints and IPv6 over real sockets") {
  test::TemporaryDirectory directory;
  Reactor reactor;
  auto server = std::make_shared<AccumulatingProtocol>();
  const auto serving = makeFactory([&] { return server; });
  Outcome outcome;
  std::shared_ptr<ListeningPort> port;
  SUBCASE("UNIX") {
    port = successResultOf(UNIXServerEndpoint(directory.path() + "/x", reactor).listen(serving));
    watch(UNIXClientEndpoint(directory.path() + "/x", reactor).connect(accumulating()), outcome);
  }
  SUBCASE("IPv6") {
    port = successResultOf(TCP6ServerEndpoint(0, "::1", reactor).listen(serving));
    const auto number = std::get<IPv6Address>(port->getHost()).port;
    watch(TCP6ClientEndpoint("::1", number, reactor).connect(accumulating()), outcome);
  }
  while (outcome.pending() || !server->made) reactor.iterate(1s);
  REQUIRE(outcome.protocol);
  outcome.protocol->transport().write("over the wire");
  outcome.protocol->transport().loseConnection();
  while (!server->closed()) reactor.iterate(1s);
  CHECK(server->data == "over the wire");
}
