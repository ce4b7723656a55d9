#include <reactor/testing/memory_reactor.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/tls.hpp>
#include <test/support/certificates.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

using Probe = AccumulatingProtocol;

struct Echo final : Protocol {
  void dataReceived(std::string_view data) override { transport().write(data); }
};

// Writes down what is called, and keeps the last of each.
struct ProbeClientFactory : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override {
    calls.push_back("buildProtocol " + describe(peer));
    protocol = std::make_shared<Probe>();
    return protocol;
  }
  void startFactory() override { calls.push_back("startFactory"); }
  void stopFactory() override { calls.push_back("stopFactory"); }
  void startedConnecting(Connector& connector) override {
    calls.push_back("startedConnecting " + describe(connector.getDestination()));
  }
  void clientConnectionFailed(Connector& connector, const Failure& why) override {
    calls.push_back("clientConnectionFailed");
    reason = why;
    if (retry) retry = false, connector.connect();
  }
  void clientConnectionLost(Connector& connector, const Failure& why) override {
    CHECK(protocol->closed());
    calls.push_back("clientConnectionLost");
    reason = why;
    if (retry) retry = false, connector.connect();
  }
  std::vector<std::string> calls;
  std::shared_ptr<Probe> protocol;
  std::optional<Failure> reason;
  bool retry = false;
};

struct Refusing final : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return nullptr; }
};

using Calls = std::vector<std::string>;

}  // namespace

TEST_CASE("MemoryReactor::connectTCP: records the attempt, and the connector knows its destination") {
  MemoryReactor reactor;
  auto factory = std::make_shared<ProbeClientFactory>();
  auto connector = reactor.connectTCP("test.example.com", 8321, factory, 5s, "10.9.9.9");
  CHECK(connector->getDestination() == Address(HostnameAddress{"test.example.com", 8321}));
  CHECK(factory->calls == Calls{"startFactory", "startedConnecting test.example.com:8321"});
  const auto clients = reactor.tcpClients();
  REQUIRE(clients.size() == 1);
  CHECK(clients[0].host == "test.example.com");
  CHECK(clients[0].port == 8321);
  CHECK(clients[0].factory == factory);
  CHECK(clients[0].timeout == 5s);
  CHECK(clients[0].bindAddress == "10.9.9.9");

  CHECK(reactor.connectTCP("10.0.0.2", 80, factory)->getDestination() == Address(IPv4Address{"10.0.0.2", 80}));
  CHECK(reactor.connectTCP("::1", 80, factory)->getDestination() == Address(IPv6Address{"::1", 80}));
}

TEST_CASE("MemoryReactor::listenTCP: records the server, and the port knows its address") {
  MemoryReactor reactor;
  auto factory = forProtocol<Echo>();
  auto port = reactor.listenTCP(8242, factory, 7, "10.0.0.2");
  CHECK(port->getHost() == Address(IPv4Address{"10.0.0.2", 8242}));
  CHECK(factory->numPorts() == 1);
  const auto servers = reactor.tcpServers();
  REQUIRE(servers.size() == 1);
  CHECK(servers[0].port == 8242);
  CHECK(servers[0].factory == factory);
  CHECK(servers[0].backlog == 7);
  CHECK(servers[0].interface == "10.0.0.2");

  CHECK(reactor.listenTCP(1, factory)->getHost() == Address(IPv4Address{"0.0.0.0", 1}));
  CHECK(reactor.listenTCP(2, factory, 50, "::1")->getHost() == Address(IPv6Address{"::1", 2}));
  CHECK(factory->numPorts() == 3);
  successResultOf(port->stopListening());
  successResultOf(port->stopListening());
  CHECK(factory->numPorts() == 2);
  CHECK(reactor.tcpServers().size() == 2);
}

TEST_CASE("MemoryReactor::listenTCP: port 0 gives a free one; a taken one is refused") {
  MemoryReactor reactor;
  auto factory = forProtocol<Echo>();
  auto first = reactor.listenTCP(0, factory);
  auto second = reactor.listenTCP(0, factory);
  CHECK(first->getHost() != second->getHost());
  CHECK(std::get<IPv4Address>(first->getHost()).port >= 49152);

  auto port = reactor.listenTCP(80, factory, 50, "10.0.0.2");
  reactor.listenTCP(80, factory, 50, "10.0.0.3");
  CHECK_THROWS_AS(reactor.listenTCP(80, factory, 50, "10.0.0.2"), CannotListenError);
  CHECK_THROWS_AS(reactor.listenTCP(80, factory), CannotListenError);
  port->stopListening();
  reactor.listenTCP(80, factory, 50, "10.0.0.2");
}

TEST_CASE("MemoryReactor: a port's interface may be a name that it knows; ports and factories are checked") {
  MemoryReactor reactor;
  reactor.addName("here", {"10.0.0.2"});
  auto factory = forProtocol<Echo>();
  CHECK(reactor.listenTCP(80, factory, 50, "here")->getHost() == Address(IPv4Address{"10.0.0.2", 80}));
  CHECK(reactor.listenTCP(80, factory, 50, "localhost")->getHost() == Address(IPv4Address{"127.0.0.1", 80}));
  CHECK(reactor.tcpServers()[0].interface == "here");
  CHECK_THROWS_AS(reactor.listenTCP(80, factory, 50, "10.0.0.2"), CannotListenError);
  CHECK_THROWS_AS(reactor.listenTCP(80, factory, 50, "nowhere"), CannotListenError);
  CHECK_THROWS_AS(reactor.listenTCP(std::stoi("99999"), factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.listenUDP(-1, std::make_shared<DatagramProtocol>()), std::invalid_argument);
  CHECK_THROWS_AS(reactor.listenTCP(80, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(reactor.listenUNIX("/run/x", nullptr), std::invalid_argument);
  CHECK_THROWS_AS(reactor.connectTCP("here", 80, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(reactor.connectUNIX("/run/x", nullptr), std::invalid_argument);
}

TEST_CASE("MemoryReactor: nothing connects by itself; flush connects and exchanges until all is quiet") {
  MemoryReactor reactor;
  reactor.listenTCP(80, forProtocol<Echo>());
  auto factory = std::make_shared<ProbeClientFactory>();
  auto connector = reactor.connectTCP("10.0.0.5", 80, factory);
  CHECK_FALSE(factory->protocol);
  CHECK(reactor.flush());
  REQUIRE(factory->protocol);
  CHECK(factory->protocol->made);
  CHECK(factory->protocol->transport().getPeer() == Address(IPv4Address{"10.0.0.5", 80}));
  CHECK(reactor.tcpClients().empty());
  REQUIRE(reactor.connections().size() == 1);
  CHECK(reactor.connections()[0]->serverIO().getHost() == Address(IPv4Address{"10.0.0.5", 80}));
  CHECK_FALSE(reactor.flush());

  factory->protocol->transport().write("hello");
  CHECK(reactor.flush());
  CHECK(factory->protocol->data == "hello");

  connector->disconnect();
  CHECK(reactor.flush());
  CHECK(reactor.connections().empty());
  CHECK(factory->reason->check<ConnectionDone>());
  CHECK(factory->calls == Calls{"startFactory", "startedConnecting 10.0.0.5:80", "buildProtocol 10.0.0.5:80",
                                "clientConnectionLost", "stopFactory"});
}

TEST_CASE("MemoryReactor::flush: nobody listens: ConnectionRefusedError; an unknown name: DNSLookupError") {
  MemoryReactor reactor;
  reactor.listenTCP(80, forProtocol<Echo>(), 50, "10.0.0.1");
  auto refused = std::make_shared<ProbeClientFactory>();
  auto elsewhere = std::make_shared<ProbeClientFactory>();
  auto unknown = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 81, refused);
  reactor.connectTCP("10.0.0.2", 80, elsewhere);
  reactor.connectTCP("no.such.name", 80, unknown);
  CHECK(reactor.flush());
  CHECK(refused->reason->check<ConnectionRefusedError>());
  CHECK(elsewhere->reason->check<ConnectionRefusedError>());
  CHECK(unknown->reason->check<DNSLookupError>());
  CHECK(unknown->calls ==
        Calls{"startFactory", "startedConnecting no.such.name:80", "clientConnectionFailed", "stopFactory"});
}

TEST_CASE("MemoryReactor: names") {
  MemoryReactor reactor;
  reactor.addName("example.com", {"fd00::5", "10.0.0.5"});
  CHECK(successResultOf(reactor.resolve("example.com")) ==
        std::vector<Address>{IPv6Address{"fd00::5"}, IPv4Address{"10.0.0.5"}});
  CHECK(successResultOf(reactor.resolve("10.1.1.1")) == std::vector<Address>{IPv4Address{"10.1.1.1"}});
  CHECK(successResultOf(reactor.resolve("::1")) == std::vector<Address>{IPv6Address{"::1"}});
  CHECK(successResultOf(reactor.resolve("localhost")) == std::vector<Address>{IPv4Address{"127.0.0.1"}});
  failureResultOf<DNSLookupError>(reactor.resolve("no.such.name"));
  CHECK_THROWS_AS(reactor.addName("x", {"example.com"}), std::invalid_argument);

  reactor.listenTCP(80, forProtocol<Echo>());
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("example.com", 80, factory);
  reactor.flush();
  CHECK(factory->protocol->transport().getPeer() == Address(IPv6Address{"fd00::5", 80}));
}

TEST_CASE("MemoryReactor::succeedOnce: connects the oldest attempt that somebody listens for") {
  MemoryReactor reactor;
  CHECK(reactor.succeedOnce() == nullptr);
  auto first = std::make_shared<ProbeClientFactory>(), second = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 81, first);
  reactor.connectTCP("10.0.0.1", 80, second);
  CHECK(reactor.succeedOnce() == nullptr);
  reactor.listenTCP(80, forProtocol<Echo>());
  auto pump = reactor.succeedOnce();
  REQUIRE(pump);
  CHECK_FALSE(first->protocol);
  REQUIRE(second->protocol);
  second->protocol->transport().write("x");
  pump->flush();
  CHECK(second->protocol->data == "x");
  CHECK(reactor.succeedOnce() == nullptr);
}

TEST_CASE("MemoryReactor::failOnce: fails the oldest attempt") {
  MemoryReactor reactor;
  CHECK_FALSE(reactor.failOnce());
  auto first = std::make_shared<ProbeClientFactory>(), second = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, first);
  reactor.connectTCP("10.0.0.1", 80, second);
  CHECK(reactor.failOnce());
  CHECK(first->reason->check<ConnectionRefusedError>());
  CHECK_FALSE(second->reason);
  CHECK(reactor.failOnce(NoRouteError("no route")));
  CHECK(second->reason->check<NoRouteError>());
  CHECK(reactor.tcpClients().empty());
}

TEST_CASE("MemoryReactor: an attempt that waits past its timeout fails with ConnectTimeoutError") {
  MemoryReactor reactor;
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory, 10s);
  CHECK(reactor.getDelayedCalls().empty());
  reactor.advance(9s);
  CHECK_FALSE(factory->reason);
  reactor.advance(1s);
  CHECK(factory->reason->check<ConnectTimeoutError>());
  CHECK(reactor.tcpClients().empty());
}

TEST_CASE("MemoryReactor: attempts that wait when it goes fail, and nothing starts any more") {
  std::optional<MemoryReactor> reactor(std::in_place);
  auto factory = std::make_shared<ProbeClientFactory>();
  factory->retry = true;
  LogCapture log;
  reactor->connectTCP("10.0.0.2", 80, factory);
  reactor.reset();
  CHECK(factory->reason->check<ConnectError>());
  CHECK(log.flushLoggedErrors<ReactorNotRunning>().size() == 1);  // of the hook that connects again
}

TEST_CASE("MemoryReactor: a timeout of 0 is none") {
  MemoryReactor reactor;
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory, 0s);
  reactor.advance(24h);
  CHECK(reactor.tcpClients().size() == 1);
}

TEST_CASE("MemoryReactor: a connection that was made does not time out") {
  MemoryReactor reactor;
  reactor.listenTCP(80, forProtocol<Echo>());
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory, 10s);
  reactor.flush();
  reactor.advance(1h);
  CHECK(factory->protocol->connected());
}

TEST_CASE("Connector: stopConnecting and disconnect end an attempt with UserError") {
  MemoryReactor reactor;
  auto factory = std::make_shared<ProbeClientFactory>();
  auto connector = reactor.connectTCP("10.0.0.1", 80, factory);
  connector->stopConnecting();
  CHECK(factory->reason->check<UserError>());
  CHECK(factory->numPorts() == 0);
  CHECK_THROWS_AS(connector->stopConnecting(), NotConnectingError);
  connector->disconnect();

  factory->reason.reset();
  connector->connect();
  CHECK_THROWS_AS(connector->connect(), std::logic_error);
  connector->disconnect();
  CHECK(factory->reason->check<UserError>());
  CHECK(reactor.tcpClients().empty());
}

TEST_CASE("Connector: a factory that connects again is not stopped in between") {
  MemoryReactor reactor;
  auto factory = std::make_shared<ProbeClientFactory>();
  factory->retry = true;
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.failOnce();
  CHECK(reactor.tcpClients().size() == 1);
  reactor.listenTCP(80, forProtocol<Echo>());
  reactor.flush();
  factory->retry = true;
  factory->protocol->transport().abortConnection();
  reactor.flush();
  CHECK(factory->protocol->connected());
  CHECK(factory->calls == Calls{"startFactory", "startedConnecting 10.0.0.1:80", "clientConnectionFailed",
                                "startedConnecting 10.0.0.1:80", "buildProtocol 10.0.0.1:80", "clientConnectionLost",
                                "startedConnecting 10.0.0.1:80", "buildProtocol 10.0.0.1:80"});
}

TEST_CASE("Connector: a factory may keep it to connect again later") {
  struct Patient final : ProbeClientFactory {
    explicit Patient(Time& time) : time(time) {}
    void clientConnectionFailed(Connector& connector, const Failure&) override {
      time.callLater(5s, [kept = connector.shared_from_this()] { kept->connect(); });
    }
    Time& time;
  };
  MemoryReactor reactor;
  auto factory = std::make_shared<Patient>(reactor);
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  CHECK(reactor.tcpClients().empty());
  reactor.listenTCP(80, forProtocol<Echo>());
  reactor.advance(5s);
  reactor.flush();
  REQUIRE(factory->protocol);
  CHECK(factory->protocol->connected());
  CHECK(factory->numPorts() == 1);
}

TEST_CASE("MemoryReactor: a client that tries for ever is reported") {
  struct Stubborn final : ClientFactory {
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return nullptr; }
    void clientConnectionFailed(Connector& connector, const Failure&) override { connector.connect(); }
  };
  MemoryReactor reactor;
  reactor.connectTCP("10.0.0.1", 80, std::make_shared<Stubborn>());
  CHECK_THROWS_AS(reactor.flush(), std::runtime_error);
}

TEST_CASE("MemoryReactor: a factory that refuses drops the connection") {
  MemoryReactor reactor;
  reactor.listenTCP(80, makeFactory([] { return std::shared_ptr<Protocol>(); }));
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  CHECK(factory->protocol->made);
  CHECK(factory->reason->check<ConnectionDone>());

  auto server = std::make_shared<Probe>();
  reactor.listenTCP(81, makeFactory([&] { return server; }));
  reactor.connectTCP("10.0.0.1", 81, std::make_shared<Refusing>());
  reactor.flush();
  CHECK(server->closedReason->check<ConnectionDone>());
  CHECK(reactor.connections().empty());
}

TEST_CASE("MemoryReactor: what buildProtocol throws is logged, and refuses") {
  LogCapture log;
  MemoryReactor reactor;
  reactor.listenTCP(80, makeFactory([]() -> std::shared_ptr<Protocol> { throw std::range_error("x"); }));
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  CHECK(factory->reason->check<ConnectionDone>());
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
}

TEST_CASE("MemoryReactor: what a client's buildProtocol throws fails the attempt") {
  LogCapture log;
  struct Broken final : ProbeClientFactory {
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { throw std::range_error("x"); }
  };
  MemoryReactor reactor;
  auto server = std::make_shared<Probe>();
  reactor.listenTCP(80, makeFactory([&] { return server; }));
  auto factory = std::make_shared<Broken>();
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  CHECK(factory->calls ==
        Calls{"startFactory", "startedConnecting 10.0.0.1:80", "clientConnectionFailed", "stopFactory"});
  CHECK(factory->reason->check<std::range_error>());
  CHECK(server->closedReason->check<ConnectionDone>());
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
}

TEST_CASE("MemoryReactor: the server sees the address that the client is bound to") {
  MemoryReactor reactor;
  Address peer;
  reactor.listenTCP(80, makeFactory([&](const Address& address) {
                      peer = address;
                      return std::make_shared<Echo>();
                    }));
  reactor.connectTCP("10.0.0.1", 80, std::make_shared<ProbeClientFactory>(), 30s, "10.9.9.9");
  reactor.flush();
  CHECK(std::get<IPv4Address>(peer).host == "10.9.9.9");
  CHECK(std::get<IPv4Address>(peer).port >= 49152);
}

TEST_CASE("MemoryReactor: setPieceSize holds for all connections") {
  MemoryReactor reactor;
  reactor.setPieceSize(1);
  int deliveries = 0;
  struct Counting final : Protocol {
    explicit Counting(int& n) : n(n) {}
    void dataReceived(std::string_view) override { ++n; }
    int& n;
  };
  reactor.listenTCP(80, makeFactory([&] { return std::make_shared<Counting>(deliveries); }));
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", 80, factory);
  reactor.flush();
  factory->protocol->transport().write(std::string(3000, 'x'));
  reactor.flush();
  CHECK(deliveries == 3000);
}

TEST_CASE("MemoryReactor: time stands still until advance") {
  MemoryReactor reactor;
  int calls = 0;
  reactor.callLater(5s, [&] { ++calls; });
  CHECK(reactor.getDelayedCalls().size() == 1);
  CHECK(std::string(reactor.getDelayedCalls()[0].where().file_name()).ends_with("memory_reactor_test.cpp"));
  reactor.advance(4s);
  CHECK(calls == 0);
  reactor.advance(1s);
  CHECK(calls == 1);
  CHECK(reactor.seconds() == 5s);
}

TEST_CASE("MemoryReactor::flush runs the calls that are due, and no others") {
  MemoryReactor reactor;
  reactor.listenTCP(80, forProtocol<Echo>());
  auto factory = std::make_shared<ProbeClientFactory>();
  int later = 0;
  reactor.callLater(0s, [&] { reactor.connectTCP("10.0.0.1", 80, factory); });
  reactor.callLater(1ns, [&] { ++later; });
  CHECK(reactor.flush());
  CHECK(factory->protocol);
  CHECK(later == 0);
  CHECK(reactor.seconds() == 0s);
}

TEST_CASE("MemoryReactor: ports, connectors and protocols that outlive it are inert") {
  auto factory = std::make_shared<ProbeClientFactory>();
  std::shared_ptr<ListeningPort> port;
  std::shared_ptr<Connector> waiting, connected;
  {
    MemoryReactor reactor;
    port = reactor.listenTCP(80, forProtocol<Echo>());
    connected = reactor.connectTCP("10.0.0.1", 80, factory);
    reactor.flush();
    waiting = reactor.connectTCP("10.0.0.1", 80, std::make_shared<ProbeClientFactory>());
  }
  successResultOf(port->stopListening());
  connected->disconnect();
  waiting->disconnect();
  CHECK_THROWS_AS(waiting->connect(), ReactorNotRunning);
  CHECK_FALSE(factory->protocol->connected());
}

TEST_CASE("MemoryReactor: listenSSL and connectSSL are recorded, and speak TLS") {
  MemoryReactor reactor;
  const auto& pki = test::testPKI();
  const auto options =
      optionsForServerTLS({.privateKey = pki.localhost.privateKey, .certificate = pki.localhost.certificate});
  const auto trust = optionsForClientTLS("localhost", {.trustRoots = pki.authority.certificate});
  const auto echo = forProtocol<Echo>();
  auto port = reactor.listenSSL(443, echo, options, 7);
  CHECK(port->getHost() == Address(IPv4Address{"0.0.0.0", 443}));
  REQUIRE(reactor.sslServers().size() == 1);
  CHECK(reactor.sslServers()[0].factory == echo);
  CHECK(reactor.sslServers()[0].backlog == 7);
  CHECK(reactor.tcpServers().empty());
  CHECK_THROWS_AS(reactor.listenTCP(443, echo), CannotListenError);
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.connectSSL("localhost", 443, factory, trust, 5s, "10.9.9.9");
  REQUIRE(reactor.sslClients().size() == 1);
  CHECK(reactor.sslClients()[0].factory == factory);
  CHECK(reactor.sslClients()[0].options.hostname() == "localhost");
  CHECK(reactor.sslClients()[0].bindAddress == "10.9.9.9");
  CHECK(reactor.tcpClients().empty());
  reactor.flush();
  CHECK(TLSTransport::from(factory->protocol->transport()));
  factory->protocol->transport().write("secret");
  reactor.flush();
  CHECK(factory->protocol->data == "secret");
  factory->protocol->transport().loseConnection();
  reactor.flush();
  CHECK(factory->reason->check<ConnectionDone>());
  CHECK(reactor.getDelayedCalls().empty());
}

namespace {

const Address kUDPPeer = IPv4Address{"10.0.0.9", 9};

struct UDPProbe final : DatagramProtocol {
  void stopProtocol() override { stopped = true; }
  void datagramReceived(std::string_view data, const Address& from) override {
    got.push_back({std::string(data), from});
    if (data == "throw") throw std::range_error("x");
    if (data == "ping") transport().write("pong", from);
  }
  std::vector<Datagram> got;
  bool stopped = false;
};

}  // namespace

TEST_CASE("MemoryReactor::listenUDP: recorded; a datagram is delivered, and what was sent is seen") {
  MemoryReactor reactor;
  auto probe = std::make_shared<UDPProbe>();
  auto port = reactor.listenUDP(53, probe, "10.0.0.2", 512);
  REQUIRE(reactor.udpPorts().size() == 1);
  const auto record = reactor.udpPorts()[0];
  CHECK(record.port == 53);
  CHECK(record.protocol == probe);
  CHECK(record.interface == "10.0.0.2");
  CHECK(record.maxPacketSize == 512);
  CHECK(port->getHost() == Address(IPv4Address{"10.0.0.2", 53}));
  record.transport->deliver("ping", kUDPPeer);
  CHECK(probe->got == std::vector<Datagram>{{"ping", kUDPPeer}});
  CHECK(record.transport->written() == std::vector<Datagram>{{"pong", kUDPPeer}});
  CHECK_FALSE(reactor.flush());  // nobody is there

  CHECK_THROWS_AS(reactor.listenUDP(53, std::make_shared<UDPProbe>()), CannotListenError);
  CHECK_THROWS_AS(reactor.listenUDP(54, std::make_shared<UDPProbe>(), "example.com"), InvalidAddressError);
  CHECK_THROWS_AS(reactor.listenUDP(55, probe), std::logic_error);
  CHECK(reactor.udpPorts().size() == 1);
  CHECK(std::get<IPv4Address>(reactor.listenUDP(0, std::make_shared<UDPProbe>())->getHost()).port >= 49152);

  auto stopping = port->stopListening();
  assertNoResult(stopping);
  CHECK_FALSE(probe->stopped);
  CHECK(reactor.flush());
  successResultOf(stopping);
  CHECK(probe->stopped);
  successResultOf(port->stopListening());
  reactor.listenUDP(53, probe);
}

TEST_CASE("MemoryReactor: datagrams between its ports") {
  MemoryReactor reactor;
  LogCapture log;
  auto server = std::make_shared<UDPProbe>(), client = std::make_shared<UDPProbe>();
  reactor.listenUDP(53, server, "", 4);
  auto port = reactor.listenUDP(1000, client, "10.0.0.7");
  port->connect("10.0.0.2", 53);
  port->write("ping");
  port->write("too long");
  CHECK(server->got.empty());
  CHECK(reactor.flush());
  const Address from = IPv4Address{"10.0.0.7", 1000};
  CHECK(server->got == std::vector<Datagram>{{"ping", from}, {"too ", from}});
  // The answer came from the server's own address, which is not the one that the client is connected to.
  CHECK(client->got.empty());
  server->transport().write("throw", from);
  reactor.flush();
  CHECK(log.flushLoggedErrors<std::range_error>().empty());

  auto other = std::make_shared<UDPProbe>();
  reactor.listenUDP(2000, other);
  server->transport().write("throw", IPv4Address{"10.0.0.3", 2000});
  reactor.flush();
  CHECK(other->got == std::vector<Datagram>{{"throw", IPv4Address{"10.0.0.1", 53}}});
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
}

TEST_CASE("MemoryReactor: multicast and broadcast") {
  MemoryReactor reactor;
  auto a = std::make_shared<UDPProbe>(), b = std::make_shared<UDPProbe>(), c = std::make_shared<UDPProbe>();
  reactor.listenMulticast(9, a, "", 8192, true);
  reactor.listenMulticast(9, b, "", 8192, true);
  CHECK_THROWS_AS(reactor.listenMulticast(9, c), CannotListenError);
  reactor.listenUDP(10, c);
  successResultOf(a->transport().joinGroup("224.0.0.9"));
  successResultOf(b->transport().joinGroup("224.0.0.9"));
  const auto say = [&](const std::string& text, const std::string& to) {
    a->transport().write(text, IPv4Address{to, 9});
    reactor.flush();
  };
  say("one", "224.0.0.9");
  a->transport().setLoopbackMode(false);
  say("two", "224.0.0.9");
  successResultOf(b->transport().leaveGroup("224.0.0.9"));
  say("three", "224.0.0.9");
  CHECK(a->got.size() == 1);
  CHECK(b->got.size() == 2);
  a->transport().setBroadcastAllowed(true);
  say("four", "<broadcast>");
  CHECK(b->got.size() == 3);
  CHECK(c->got.empty());
}

TEST_CASE("MemoryReactor: adopted sockets are recorded, and lead to their protocols") {
  MemoryReactor reactor;
  const auto echo = forProtocol<Echo>();
  auto port = reactor.adoptStreamPort(3, AF_INET, echo);
  auto unix = reactor.adoptStreamPort(4, AF_UNIX, echo);
  auto udp = reactor.adoptDatagramPort(5, AF_INET6, std::make_shared<UDPProbe>());
  CHECK_THROWS_AS(reactor.adoptStreamPort(6, AF_NETLINK, echo), UnsupportedAddressFamily);
  CHECK_THROWS_AS(reactor.adoptDatagramPort(6, AF_UNIX, std::make_shared<UDPProbe>()), UnsupportedAddressFamily);
  REQUIRE(reactor.adoptedPorts().size() == 3);
  CHECK(reactor.adoptedPorts()[0].fd == 3);
  CHECK(reactor.adoptedPorts()[0].factory == echo);
  CHECK(reactor.adoptedPorts()[1].family == AF_UNIX);
  CHECK(reactor.adoptedPorts()[2].protocol == reactor.udpPorts()[0].protocol);
  CHECK(reactor.tcpServers().empty());

  auto client = std::make_shared<ProbeClientFactory>(), local = std::make_shared<ProbeClientFactory>();
  reactor.connectTCP("10.0.0.1", std::get<IPv4Address>(port->getHost()).port, client);
  reactor.connectUNIX(std::get<UNIXAddress>(unix->getHost()).name, local);
  reactor.flush();
  CHECK(client->protocol->made);
  CHECK(local->protocol->made);
  CHECK(std::get<IPv6Address>(udp->getHost()).host == "::");
}

TEST_CASE("MemoryReactor::adoptStreamConnection: the test is the other end") {
  MemoryReactor reactor;
  auto protocol = reactor.adoptStreamConnection(7, AF_INET, forProtocol<Echo>());
  CHECK(protocol->connected());
  CHECK(reactor.adoptStreamConnection(8, AF_UNIX, std::make_shared<Refusing>()) == nullptr);
  CHECK_THROWS_AS(reactor.adoptStreamConnection(9, AF_NETLINK, forProtocol<Echo>()), UnsupportedAddressFamily);
  REQUIRE(reactor.adoptedStreamConnections().size() == 2);
  CHECK(reactor.adoptedStreamConnections()[0].fd == 7);
  REQUIRE(reactor.connections().size() == 1);
  auto* client = dynamic_cast<Probe*>(reactor.connections()[0]->clientIO().protocol());
  REQUIRE(client);
  client->transport().write("x");
  reactor.flush();
  CHECK(client->data == "x");
}

TEST_CASE("MemoryReactor: startup and shutdown") {
  MemoryReactor reactor;
  Calls calls;
  const auto note = [&](const char* what) { return [&calls, what] { calls.push_back(what); }; };
  reactor.callWhenRunning(note("running"));
  reactor.addSystemEventTrigger(Phase::before, SystemEvent::startup, note("before startup"));
  CHECK(reactor.triggers(Phase::after, SystemEvent::startup) == 1);
  CHECK_FALSE(reactor.running());
  CHECK_THROWS_AS(reactor.stop(), ReactorNotRunning);
  reactor.run();
  CHECK(reactor.running());
  CHECK_THROWS_AS(reactor.run(), ReactorAlreadyRunning);
  reactor.callWhenRunning(note("at once"));
  CHECK(calls == Calls{"before startup", "running", "at once"});
  CHECK(reactor.triggers(Phase::after, SystemEvent::startup) == 0);

  calls.clear();
  Resolver<void> saved;
  reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&] { return saved.deferred(); });
  reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, note("during"));
  reactor.addSystemEventTrigger(Phase::after, SystemEvent::shutdown, note("after"));
  const auto removed = reactor.addSystemEventTrigger(Phase::during, SystemEvent::shutdown, note("removed"));
  reactor.removeSystemEventTrigger(removed);
  CHECK_THROWS_AS(reactor.removeSystemEventTrigger(removed), std::invalid_argument);
  auto server = std::make_shared<Probe>(), client = std::make_shared<Probe>();
  auto pump = reactor.connect(client, server);
  reactor.listenTCP(80, forProtocol<Echo>());
  auto datagrams = std::make_shared<UDPProbe>();
  reactor.listenUDP(80, datagrams);
  reactor.stop();
  CHECK_THROWS_AS(reactor.stop(), ReactorNotRunning);
  CHECK(reactor.running());
  reactor.flush();
  CHECK(reactor.running());
  CHECK(client->connected());
  saved.callback();
  CHECK_FALSE(reactor.running());
  CHECK(calls == Calls{"during", "after"});
  reactor.flush();
  CHECK(client->closedReason->check<ConnectionLost>());
  CHECK(server->closedReason->check<ConnectionLost>());
  CHECK(reactor.tcpServers().empty());
  CHECK(datagrams->stopped);

  reactor.callWhenRunning(note("again"));
  reactor.run();
  CHECK(calls.back() == "again");
}

TEST_CASE("MemoryReactor::pump: moves the clock, and flushes after each step") {
  MemoryReactor reactor;
  reactor.listenTCP(80, forProtocol<Echo>());
  auto factory = std::make_shared<ProbeClientFactory>();
  reactor.callLater(1s, [&] { reactor.connectTCP("10.0.0.1", 80, factory); });
  reactor.callLater(2s, [&] { factory->protocol->transport().write("x"); });
  reactor.pump({1s, 1s});
  CHECK(reactor.seconds() == 2s);
  CHECK(factory->protocol->data == "x");
}

TEST_CASE("RaisingMemoryReactor: throws what it was given, and works as a MemoryReactor otherwise") {
  const auto& pki = test::testPKI();
  const auto trust = optionsForClientTLS("localhost", {.trustRoots = pki.authority.certificate});
  auto factory = std::make_shared<ProbeClientFactory>();
  RaisingMemoryReactor listening(CannotListenError("", 80, EACCES));
  CHECK_THROWS_AS(listening.listenTCP(80, factory), CannotListenError);
  CHECK_THROWS_AS(listening.listenSSL(80, factory, trust), CannotListenError);
  CHECK_THROWS_AS(listening.listenUNIX("/run/x", factory), CannotListenError);
  CHECK_THROWS_AS(listening.listenUDP(80, std::make_shared<UDPProbe>()), CannotListenError);
  CHECK_THROWS_AS(listening.adoptStreamPort(3, AF_INET, factory), CannotListenError);
  CHECK_THROWS_AS(listening.adoptDatagramPort(3, AF_INET, std::make_shared<UDPProbe>()), CannotListenError);
  listening.connectTCP("10.0.0.1", 80, factory);
  CHECK(listening.tcpClients().size() == 1);
  listening.failOnce();

  RaisingMemoryReactor connecting({}, std::domain_error("no"));
  CHECK_THROWS_AS(connecting.connectTCP("10.0.0.1", 80, factory), std::domain_error);
  CHECK_THROWS_AS(connecting.connectSSL("10.0.0.1", 80, factory, trust), std::domain_error);
  CHECK_THROWS_AS(connecting.connectUNIX("/run/x", factory), std::domain_error);
  CHECK_THROWS_AS(connecting.adoptStreamConnection(3, AF_INET, factory), std::domain_error);
  connecting.listenTCP(80, factory);
  CHECK(connecting.tcpServers().size() == 1);
  CHECK(connecting.tcpClients().empty());

  failureResultOf<CannotListenError>(TCP4ServerEndpoint(80, "", listening).listen(factory));
}
