#include <protocols/policies.hpp>

#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <protocols/basic.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <reactor/tls.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

const Address kPeer = IPv4Address{"10.0.0.2", 1000};

// Connections in memory to the protocols that a factory builds.
struct Connection {
  std::shared_ptr<AccumulatingProtocol> client = std::make_shared<AccumulatingProtocol>();
  IOPump pump;
  Connection(Factory& factory, const Address& peer = kPeer) : pump(client, factory.buildProtocol(peer)) {}
  void flush() { pump.flush(); }
};

struct Server : AccumulatingProtocol {};

// Builds Servers, and keeps the latest.
struct ServerFactory : Factory {
  std::shared_ptr<Server> latest;
  std::vector<std::shared_ptr<Server>> all;
  int started = 0, stopped = 0;
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    all.push_back(std::make_shared<Server>());
    return latest = all.back();
  }
  void startFactory() override { ++started; }
  void stopFactory() override { ++stopped; }
};

struct Source final : Producer {
  explicit Source(Transport& transport, bool streaming = true) : transport(transport) {
    transport.registerProducer(*this, streaming);
  }
  void pauseProducing() override { events += 'p'; }
  void resumeProducing() override { events += 'r'; }
  void stopProducing() override { events += 's'; }
  Transport& transport;
  std::string events;
};

std::string contentOf(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path).rdbuf();
  return content.str();
}

}  // namespace

TEST_CASE("TimeoutMixin: the limit runs from the latest reset, and is over with nullopt") {
  struct Login : LineReceiver, TimeoutMixin {
    explicit Login(Time& time) : TimeoutMixin(time) {}
    void connectionMade() override { setTimeout(30s); }
    void lineReceived(std::string_view) override { resetTimeout(); }
    void connectionLost(const Failure& reason) override { lost = reason; }
    std::optional<Failure> lost;
  };
  Clock clock;
  auto login = std::make_shared<Login>(clock);
  StringTransportWithDisconnection transport;
  login->makeConnection(transport);
  SUBCASE("it ends the connection") {
    clock.advance(29s);
    login->dataReceived("line\r\n");
    clock.advance(29s);
    CHECK_FALSE(login->lost);
    clock.advance(1s);
    REQUIRE(login->lost);
    CHECK(login->lost->check<TimeoutError>());
    login->resetTimeout();
  }
  SUBCASE("it is changed") {
    CHECK(login->setTimeout(5s) == 30s);
    clock.advance(5s);
    CHECK(login->lost);
  }
  SUBCASE("it is ended, and started again") {
    CHECK(login->setTimeout(std::nullopt) == 30s);
    login->resetTimeout();
    clock.advance(100s);
    CHECK_FALSE(login->lost);
    CHECK(login->setTimeout(1s) == std::nullopt);
    clock.advance(1s);
    CHECK(login->lost);
  }
  SUBCASE("the protocol goes before") {
    transport.loseConnection();
    login.reset();
  }
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("TimeoutMixin: timeoutConnection may do something else") {
  struct Pinger : Protocol, TimeoutMixin {
    explicit Pinger(Time& time) : TimeoutMixin(time) {}
    void timeoutConnection() override {
      ++timeouts;
      setTimeout(1s);
    }
    int timeouts = 0;
  };
  Clock clock;
  Pinger pinger(clock);
  pinger.setTimeout(1s);
  for (int i = 0; i < 3; ++i) clock.advance(1s);
  CHECK(pinger.timeouts == 3);
}

TEST_CASE("WrappingFactory: starts, stops and tells the factory that it wraps") {
  MemoryReactor reactor;
  struct Client : ClientFactory {
    std::string events;
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<Server>(); }
    void startFactory() override { events += "start "; }
    void stopFactory() override { events += "stop "; }
    void startedConnecting(Connector&) override { events += "connecting "; }
    void clientConnectionFailed(Connector&, const Failure&) override { events += "failed "; }
    void clientConnectionLost(Connector&, const Failure&) override { events += "lost "; }
  };
  const auto wrapped = std::make_shared<Client>();
  const std::shared_ptr<ClientFactory> factory = std::make_shared<TimeoutFactory>(wrapped, 1s, reactor);
  const auto refused = reactor.connectTCP("10.0.0.1", 80, factory);
  CHECK(wrapped->events == "start connecting ");
  refused->stopConnecting();
  reactor.advance(0s);
  CHECK(wrapped->events == "start connecting failed stop ");
}

TEST_CASE("ProtocolWrapper: the wrapped protocol is connected as without it") {
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto factory = std::make_shared<TimeoutFactory>(servers, 10s, clock);
  Connection c(*factory);
  Transport& transport = servers->latest->transport();
  CHECK(transport.getPeer() == c.pump.serverIO().getPeer());
  CHECK(transport.getHost() == c.pump.serverIO().getHost());
  CHECK(transport.lowerTransport() == &c.pump.serverIO());
  SUBCASE("data, and an end by the wrapped protocol") {
    c.client->transport().write("hello");
    transport.write("a");
    const std::string_view pieces[] = {"b", "c"};
    transport.writeSequence(pieces);
    c.flush();
    CHECK(servers->latest->data == "hello");
    CHECK(c.client->data == "abc");
    transport.loseConnection(std::runtime_error("enough"));
    CHECK(transport.disconnecting());
    c.flush();
    CHECK(servers->latest->closedReason->getErrorMessage() == "enough");
    CHECK(c.client->closedReason->check<ConnectionDone>());
  }
  SUBCASE("an end by the peer") {
    c.client->transport().abortConnection();
    c.flush();
    CHECK(servers->latest->closedReason->check<ConnectionLost>());
  }
  SUBCASE("abortConnection") {
    transport.abortConnection();
    c.flush();
    CHECK(servers->latest->closedReason->check<ConnectionAborted>());
  }
  SUBCASE("pausing") {
    transport.pauseProducing();
    c.client->transport().write("hello");
    c.flush();
    CHECK(servers->latest->data.empty());
    transport.resumeProducing();
    c.flush();
    CHECK(servers->latest->data == "hello");
    transport.loseConnection();
    c.flush();
  }
  SUBCASE("producers") {
    Source source(transport);
    transport.write(std::string(70000, 'x'));
    CHECK(source.events == "p");
    c.flush();
    CHECK(source.events == "pr");
    c.client->transport().loseConnection();
    c.flush();
    CHECK(source.events == "prs");
  }
  SUBCASE("drained, and half-closing") {
    transport.write(std::string(70000, 'x'));
    const auto drained = transport.drained();
    CHECK_FALSE(drained.called());
    c.flush();
    CHECK(drained.called());
    transport.loseWriteConnection();
    c.flush();
    CHECK(c.client->closedReason->check<ConnectionDone>());
  }
  CHECK(clock.getDelayedCalls().empty());
  CHECK_FALSE(servers->latest->connected());
  servers->latest->transport().write("x");  // inert
}

TEST_CASE("ProtocolWrapper: TCP's options are those of the transport below") {
  struct Below : StringTransport {
    void setTcpNoDelay(bool on) override { noDelay = on; }
    bool getTcpNoDelay() const override { return noDelay; }
    void setTcpKeepAlive(bool on) override { keepAlive = on; }
    bool getTcpKeepAlive() const override { return keepAlive; }
    bool noDelay = true, keepAlive = false;
  } below;
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto wrapper = std::make_shared<TimeoutFactory>(servers, 10s, clock)->buildProtocol({});
  wrapper->makeConnection(below);
  Transport& transport = servers->latest->transport();
  CHECK(transport.getTcpNoDelay());
  CHECK_FALSE(transport.getTcpKeepAlive());
  transport.setTcpNoDelay(false);
  transport.setTcpKeepAlive(true);
  CHECK_FALSE(below.noDelay);
  CHECK(below.keepAlive);
}

TEST_CASE("ProtocolWrapper: what the wrapped protocol throws ends the connection with it") {
  LogCapture capture;
  struct Bad : Server {
    void dataReceived(std::string_view) override { throw std::domain_error("bad"); }
  };
  auto bad = std::make_shared<Bad>();
  Clock clock;
  Connection c(*std::make_shared<TimeoutFactory>(makeFactory([&] { return bad; }), 10s, clock));
  c.client->transport().write("x");
  c.flush();
  CHECK(bad->closedReason->check<std::domain_error>());
  CHECK(capture.flushLoggedErrors<std::domain_error>().size() == 1);
}

TEST_CASE("ProtocolWrapper: TLS below and above it") {
  struct Listener : Server, HandshakeListener {
    void handshakeCompleted() override { completed = TLSTransport::from(transport()) != nullptr; }
    bool completed = false;
  };
  auto server = std::make_shared<Listener>();
  auto client = std::make_shared<AccumulatingProtocol>();
  Clock clock;
  const auto& pki = test::testPKI();
  const TLSOptions serverOptions =
      optionsForServerTLS({.privateKey = pki.localhost.privateKey, .certificate = pki.localhost.certificate});
  const TLSOptions clientOptions = optionsForClientTLS("localhost", {.trustRoots = pki.authority.certificate});
  const auto timed = [&](std::shared_ptr<Factory> factory) {
    return std::make_shared<TimeoutFactory>(std::move(factory), 100s, clock);
  };
  const auto app = makeFactory([&] { return server; });
  std::shared_ptr<Factory> factory = timed(tlsFactory(serverOptions, timed(app), clock));
  IOPump pump(tlsFactory(clientOptions, makeFactory([&] { return client; }), clock)->buildProtocol({}),
              factory->buildProtocol(kPeer));
  const auto flush = [&] {
    do {
      clock.advance(0s);
    } while (pump.flush());
  };
  flush();
  CHECK(server->completed);
  client->transport().write("hello");
  flush();
  CHECK(server->data == "hello");
  server->transport().loseConnection();
  flush();
  CHECK(server->closed());
  CHECK(client->closedReason->check<ConnectionDone>());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("TimeoutFactory: ends what is idle, in either direction") {
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto factory = std::make_shared<TimeoutFactory>(servers, 10s, clock);
  Connection c(*factory);
  clock.advance(9s);
  c.client->transport().write("x");
  c.flush();
  clock.advance(9s);
  servers->latest->transport().write("y");
  clock.advance(9s);
  const std::string_view pieces[] = {"z"};
  servers->latest->transport().writeSequence(pieces);
  c.flush();
  clock.advance(9s);
  CHECK_FALSE(servers->latest->transport().disconnecting());
  SUBCASE("what is queued is sent") {
    clock.advance(1s);
    c.flush();
    CHECK(servers->latest->closedReason->check<TimeoutError>());
    CHECK(c.client->closedReason->check<ConnectionDone>());
  }
  SUBCASE("unless it cannot be") {
    c.client->transport().pauseProducing();
    servers->latest->transport().write("stuck");
    clock.advance(10s);
    c.flush();
    CHECK_FALSE(servers->latest->closed());
    clock.advance(10s);
    c.flush();
    CHECK(servers->latest->closedReason->check<TimeoutError>());
    CHECK(c.client->closedReason->check<ConnectionLost>());
  }
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("ThrottlingFactory: reading stops for as long as it takes to be within the limit") {
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto factory = std::make_shared<ThrottlingFactory>(servers, ThrottlingLimits{.readLimit = 10}, clock);
  Connection a(*factory);
  Connection b(*factory);
  const auto say = [](Connection& c, const std::string& text) {
    c.client->transport().write(text);
    c.flush();
  };
  say(a, "0123456789");
  clock.advance(1s);
  say(a, "0123456789");
  say(b, "01234");
  CHECK(servers->all[0]->data.size() == 20);
  clock.advance(1s);  // 15 bytes in this second: half a second's wait
  say(a, "x");
  say(b, "y");
  Connection c(*factory);
  say(c, "z");
  CHECK(servers->all[0]->data.size() == 20);
  CHECK(servers->all[1]->data.size() == 5);
  CHECK(servers->all[2]->data.empty());
  servers->all[1]->transport().pauseProducing();  // by itself
  clock.advance(499ms);
  a.flush();
  CHECK(servers->all[0]->data.size() == 20);
  clock.advance(1ms);
  for (Connection* connection : {&a, &b, &c}) connection->flush();
  CHECK(servers->all[0]->data.size() == 21);
  CHECK(servers->all[1]->data.size() == 5);
  CHECK(servers->all[2]->data == "z");
  servers->all[1]->transport().resumeProducing();
  b.flush();
  CHECK(servers->all[1]->data.size() == 6);
  for (Connection* connection : {&a, &b, &c}) {
    connection->client->transport().loseConnection();
    connection->flush();
  }
  CHECK(clock.getDelayedCalls().empty());
  CHECK(factory->connectionCount() == 0);
}

TEST_CASE("ThrottlingFactory: producers are paused while too much is written") {
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto factory = std::make_shared<ThrottlingFactory>(servers, ThrottlingLimits{.writeLimit = 100000}, clock);
  Connection c(*factory);
  Transport& transport = servers->latest->transport();
  SUBCASE("push: by the factory and by the transport, and resumed when neither holds it up") {
    Source source(transport);
    transport.write(std::string(60000, 'x'));
    transport.write(std::string(60000, 'x'));
    CHECK(source.events == "p");
    c.flush();
    CHECK(source.events == "pr");
    clock.advance(1s);
    CHECK(source.events == "prp");
    transport.write(std::string(70000, 'x'));  // the transport is full as well
    clock.advance(200ms);
    CHECK(source.events == "prp");
    c.flush();
    CHECK(source.events == "prpr");
    CHECK_THROWS_AS(Source(transport, false), std::logic_error);
    transport.unregisterProducer();
  }
  SUBCASE("pull: asked later") {
    Source source(transport, false);
    CHECK(source.events == "r");
    transport.write(std::string(200000, 'x'));
    clock.advance(1s);
    c.flush();
    CHECK(source.events == "r");
    clock.advance(1s);
    CHECK(source.events == "rr");
    transport.unregisterProducer();
  }
  SUBCASE("one that comes while it is throttled is paused at once") {
    transport.write(std::string(200000, 'x'));
    c.flush();
    clock.advance(1s);
    Source source(transport);
    CHECK(source.events == "p");
    clock.advance(1s);
    CHECK(source.events == "pr");
    c.client->transport().abortConnection();
    c.flush();
    CHECK(source.events == "prs");
  }
  servers->latest->transport().loseConnection();
  c.flush();
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("ThrottlingFactory: a limit of connections; limits that make no sense") {
  const auto servers = std::make_shared<ServerFactory>();
  Clock clock;
  const auto factory = std::make_shared<ThrottlingFactory>(servers, ThrottlingLimits{.maxConnectionCount = 1}, clock);
  {
    Connection c(*factory);
    CHECK(factory->buildProtocol(kPeer) == nullptr);
  }  // dropped without a connectionLost
  CHECK(factory->buildProtocol(kPeer) != nullptr);
  CHECK_THROWS_AS(ThrottlingFactory(servers, ThrottlingLimits{.readLimit = 0}, clock), std::invalid_argument);
}

TEST_CASE("LimitConnectionsByPeer: counts by address") {
  const auto servers = std::make_shared<ServerFactory>();
  const auto factory = std::make_shared<LimitConnectionsByPeer>(servers, 2);
  const Address other = IPv6Address{"fe80::1", 5};
  Connection a(*factory);
  Connection b(*factory, IPv4Address{"10.0.0.2", 2000});
  CHECK(factory->buildProtocol(IPv4Address{"10.0.0.2", 3000}) == nullptr);
  Connection c(*factory, other);
  a.client->transport().loseConnection();
  a.flush();
  Connection d(*factory);
  CHECK(factory->buildProtocol(kPeer) == nullptr);
  CHECK(factory->buildProtocol(other) != nullptr);
}

TEST_CASE("LimitTotalConnectionsFactory: what is too many is closed, or told so") {
  const auto servers = std::make_shared<ServerFactory>();
  struct Sorry : Protocol {
    void connectionMade() override {
      transport().write("too many\r\n");
      transport().loseConnection();
    }
  };
  std::shared_ptr<Factory> overflow;
  SUBCASE("closed") {}
  SUBCASE("told so") {
    overflow = forProtocol<Sorry>();
  }
  const auto factory = std::make_shared<LimitTotalConnectionsFactory>(servers, 1, overflow);
  {
    Connection first(*factory);
    CHECK(factory->connectionCount() == 1);
    if (overflow) {
      Connection second(*factory);
      second.flush();
      CHECK(second.client->data == "too many\r\n");
      CHECK(second.client->closed());
    } else {
      CHECK(factory->buildProtocol(kPeer) == nullptr);
    }
    CHECK(factory->connectionCount() == 1);
    first.client->transport().loseConnection();
    first.flush();
  }
  CHECK(factory->connectionCount() == 0);
  CHECK(servers->all.size() == 1);
}

TEST_CASE("TrafficLoggingFactory: a file for each connection") {
  test::TemporaryDirectory directory;
  const std::string prefix = directory.path() + "/log";
  const auto servers = std::make_shared<ServerFactory>();
  const auto factory = std::make_shared<TrafficLoggingFactory>(servers, prefix, 8);
  {
    Connection a(*factory);
    Connection b(*factory);
    a.client->transport().write("GET\t/\r\n");
    a.flush();
    servers->all[0]->transport().write("\"\\\x01\xff");
    servers->all[0]->transport().write("0123456789");
    servers->all[0]->transport().loseConnection();
    a.flush();
  }
  CHECK(contentOf(prefix + "-1") ==
        "*\n"
        "C 1: \"GET\\t/\\r\\n\"\n"
        "S 1: \"\\\"\\\\\\x01\\xff\"\n"
        "S 1: \"01234567\"<... elided>\n"
        "S 1: *\n"
        "C 1: Connection was closed cleanly.\n");
  CHECK(contentOf(prefix + "-2") == "*\n");
  const auto nowhere = std::make_shared<TrafficLoggingFactory>(servers, directory.path() + "/none/log");
  CHECK_THROWS_AS(nowhere->buildProtocol(kPeer), std::system_error);
}
