// TCP over real sockets on 127.0.0.1: the order of events, the reasons of losses, back-pressure, lifetimes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/resources.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using torsion::test::runUntil;
using torsion::test::spin;

namespace {

using Log = std::vector<std::string>;

std::string nameOf(const Failure& reason) {
  if (reason.check<ConnectionAborted>()) return "ConnectionAborted";
  if (reason.check<ConnectionLost>()) return "ConnectionLost";
  if (reason.check<ConnectionDone>()) return "ConnectionDone";
  if (reason.check<ConnectionRefusedError>()) return "ConnectionRefusedError";
  if (reason.check<ConnectTimeoutError>()) return "ConnectTimeoutError";
  if (reason.check<UserError>()) return "UserError";
  if (reason.check<ConnectBindError>()) return "ConnectBindError";
  if (reason.check<DNSLookupError>()) return "DNSLookupError";
  return reason.getErrorMessage();
}

struct Script {
  std::function<void(Protocol&)> made = [](Protocol&) {};
  std::function<void(Protocol&, std::string_view)> received = [](Protocol&, std::string_view) {};
  std::function<void(Protocol&)> lost = [](Protocol&) {};
};

struct Scripted : Protocol {
  Scripted(std::string name, Log& log, Script script) : name(std::move(name)), log(log), script(std::move(script)) {}
  void connectionMade() override {
    log.push_back(name + " made");
    script.made(*this);
  }
  void dataReceived(std::string_view data) override {
    if (data.size() < 20) log.push_back(name + " data " + std::string(data));
    bytes += data.size();
    script.received(*this, data);
  }
  void connectionLost(const Failure& reason) override {
    log.push_back(name + " lost " + nameOf(reason));
    over = true;
    script.lost(*this);
  }
  std::string name;
  Log& log;
  Script script;
  std::size_t bytes = 0;
  bool over = false;
};

struct HalfScripted : Scripted, HalfCloseableProtocol {
  using Scripted::Scripted;
  void readConnectionLost() override {
    log.push_back(name + " read lost");
    readLost(*this);
  }
  void writeConnectionLost() override {
    log.push_back(name + " write lost");
    writeLost(*this);
  }
  std::function<void(Protocol&)> readLost = [](Protocol&) {};
  std::function<void(Protocol&)> writeLost = [](Protocol&) {};
};

template <class Base>
struct LoggingFactory : Base {
  LoggingFactory(std::string name, Log& log, std::function<std::shared_ptr<Protocol>()> build)
      : name(std::move(name)), log(log), build(std::move(build)) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    log.push_back(name + " buildProtocol");
    return build();
  }
  void startFactory() override { log.push_back(name + " startFactory"); }
  void stopFactory() override { log.push_back(name + " stopFactory"); }
  std::string name;
  Log& log;
  std::function<std::shared_ptr<Protocol>()> build;
};

struct LoggingClientFactory : LoggingFactory<ClientFactory> {
  using LoggingFactory::LoggingFactory;
  void startedConnecting(Connector&) override { log.push_back(name + " startedConnecting"); }
  void clientConnectionFailed(Connector& connector, const Failure& reason) override {
    log.push_back(name + " failed " + nameOf(reason));
    text = reason.getErrorMessage();
    over = true;
    if (again) std::exchange(again, nullptr)(connector);
  }
  void clientConnectionLost(Connector& connector, const Failure& reason) override {
    log.push_back(name + " lost " + nameOf(reason));
    over = true;
    if (again) std::exchange(again, nullptr)(connector);
  }
  bool over = false;
  std::string text;
  std::function<void(Connector&)> again;
};

std::uint16_t portOf(const ListeningPort& port) {
  return std::get<IPv4Address>(port.getHost()).port;
}

// A server and a client on one reactor, each with a script.
struct Pair {
  Script server, client;
  LogCapture logged;
  Log log;
  Reactor reactor;
  std::shared_ptr<ListeningPort> port;
  std::shared_ptr<Scripted> serverProtocol, clientProtocol;
  std::shared_ptr<LoggingClientFactory> factory;
  std::shared_ptr<Connector> connector;
  bool halfCloseable = false;

  template <class P>
  auto maker(std::shared_ptr<Scripted>& kept, const char* name, Script& script) {
    return [&kept, name, &script, this] { return kept = std::make_shared<P>(name, log, script); };
  }
  void connect() {
    if (halfCloseable) {
      port = reactor.listenTCP(0, makeFactory(maker<HalfScripted>(serverProtocol, "srv", server)), 50, "127.0.0.1");
    } else {
      port = reactor.listenTCP(0, makeFactory(maker<Scripted>(serverProtocol, "srv", server)), 50, "127.0.0.1");
    }
    factory = std::make_shared<LoggingClientFactory>("cf", log, maker<Scripted>(clientProtocol, "cli", client));
    connector = reactor.connectTCP("127.0.0.1", portOf(*port), factory);
  }
  void connectAndWait() {
    connect();
    runUntil(reactor, [&] { return serverProtocol && clientProtocol; });
  }
  void runUntilOver() {
    runUntil(reactor, [&] { return factory->over && (!serverProtocol || serverProtocol->over); });
  }
  void run() {
    connect();
    runUntilOver();
  }
  std::size_t errors() { return logged.flushLoggedErrors().size(); }
  ~Pair() { CHECK(errors() == 0); }
};

void lose(Protocol& p) {
  p.transport().loseConnection();
}
void say(Protocol& p) {
  p.transport().write("x");
}

struct Push final : Producer {
  explicit Push(Transport& transport, std::size_t total) : transport(transport), left(total) {}
  void go() {
    paused = false;
    while (!paused && left > 0) {
      const std::size_t n = std::min<std::size_t>(left, 10000);
      left -= n;
      transport.write(std::string(n, 'x'));
    }
    if (left == 0 && !done) {
      done = true;
      transport.unregisterProducer();
    }
  }
  void pauseProducing() override {
    ++pauses;
    paused = true;
  }
  void resumeProducing() override {
    ++resumes;
    go();
  }
  void stopProducing() override { stopped = true; }
  Transport& transport;
  std::size_t left;
  int pauses = 0, resumes = 0;
  bool paused = false, stopped = false, done = false;
};

struct Pull final : Producer {
  explicit Pull(Transport& transport) : transport(transport) {}
  void pauseProducing() override {}
  void resumeProducing() override {
    if (++asked > 3) {
      transport.unregisterProducer();
      transport.loseConnection();
    } else {
      transport.write("y");
    }
  }
  void stopProducing() override { stopped = true; }
  Transport& transport;
  int asked = 0;
  bool stopped = false;
};

}  // namespace

// ---- the order of events and the reasons of losses, as Twisted has them

TEST_CASE("loseConnection: what was written arrives, and both sides get ConnectionDone") {
  Pair t;
  t.client.made = say;
  t.server.received = [](Protocol& p, std::string_view) {
    p.transport().write("bye");
    p.transport().loseConnection();
  };
  t.connect();
  CHECK(t.log == Log{"cf startFactory", "cf startedConnecting"});
  t.runUntilOver();
  CHECK(t.log == Log{"cf startFactory", "cf startedConnecting", "srv made", "cf buildProtocol", "cli made",
                     "srv data x", "srv lost ConnectionDone", "cli data bye", "cli lost ConnectionDone",
                     "cf lost ConnectionDone", "cf stopFactory"});
}

TEST_CASE("loseConnection with a reason: this side's connectionLost and factory get it, the peer ConnectionDone") {
  Pair t;
  t.client.made = say;
  t.client.received = [](Protocol& p, std::string_view) {
    p.transport().write("bye");
    p.transport().loseConnection(std::runtime_error("had enough"));
    p.transport().loseConnection(std::runtime_error("not this one"));
  };
  t.server.made = say;
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost had enough") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf lost had enough") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "srv data bye") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionDone") == 1);
}

TEST_CASE("a client that loses its connection at once") {
  Pair t;
  t.client.made = lose;
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionDone") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf lost ConnectionDone") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf stopFactory") == 1);
}

TEST_CASE("abortConnection: ConnectionAborted here, ConnectionLost there, and nothing that was queued arrives") {
  Pair t;
  t.client.made = say;
  t.server.received = [](Protocol& p, std::string_view) {
    p.transport().write("never sent");
    p.transport().abortConnection();
    CHECK(p.transport().disconnecting());
  };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionAborted") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionLost") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli data never sent") == 0);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf stopFactory") == 1);
}

TEST_CASE("abortConnection after loseConnection aborts; the second call of either does nothing") {
  Pair t;
  t.client.made = say;
  t.server.received = [](Protocol& p, std::string_view) {
    p.transport().loseConnection();
    p.transport().abortConnection();
    p.transport().abortConnection();
    p.transport().loseConnection();
    p.transport().write("ignored");
  };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionAborted") == 1);
}

TEST_CASE("what dataReceived throws is logged and ends that connection with it; the peer gets ConnectionDone") {
  Pair t;
  t.client.made = say;
  t.server.received = [](Protocol&, std::string_view) { throw std::runtime_error("boom"); };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost boom") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionDone") == 1);
  CHECK(t.errors() == 1);
}

TEST_CASE("what connectionMade throws is logged and ends the connection with it") {
  Pair t;
  t.server.made = [](Protocol&) { throw std::runtime_error("boom"); };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost boom") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionDone") == 1);
  CHECK(t.errors() == 1);
}

TEST_CASE("what connectionLost throws is logged, and the factory still hears of the loss") {
  Pair t;
  t.client.made = lose;
  t.client.lost = [](Protocol&) { throw std::runtime_error("boom"); };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "cf lost ConnectionDone") == 1);
  CHECK(t.errors() == 1);
}

TEST_CASE("connectionLost comes on a later turn than loseConnection, abortConnection and a failing method") {
  Pair t;
  bool inside = false;
  int calls = 0;
  t.client.made = say;
  t.client.lost = t.server.lost = [&](Protocol&) {
    CHECK_FALSE(inside);
    ++calls;
  };
  SUBCASE("loseConnection") {
    t.server.received = [&](Protocol& p, std::string_view) {
      inside = true;
      p.transport().loseConnection();
      inside = false;
    };
  }
  SUBCASE("abortConnection") {
    t.server.received = [&](Protocol& p, std::string_view) {
      inside = true;
      p.transport().abortConnection();
      inside = false;
    };
  }
  SUBCASE("the last thing that holds the protocol is let go") {
    t.server.received = [&](Protocol& p, std::string_view) {
      inside = true;
      t.serverProtocol = nullptr;
      p.transport().abortConnection();
      p.transport().write("still here");
      inside = false;
    };
  }
  t.connect();
  runUntil(t.reactor, [&] { return calls == 2; });
}

TEST_CASE("a refused connection: ConnectionRefusedError that names the place") {
  LogCapture logged;
  Log log;
  Reactor reactor;
  auto port = reactor.listenTCP(0, forProtocol<Protocol>(), 50, "127.0.0.1");
  const auto number = portOf(*port);
  port->stopListening();
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  auto connector = reactor.connectTCP("127.0.0.1", number, factory);
  CHECK(log == Log{"cf startFactory", "cf startedConnecting"});
  runUntil(reactor, [&] { return factory->over; });
  CHECK(log == Log{"cf startFactory", "cf startedConnecting", "cf failed ConnectionRefusedError", "cf stopFactory"});
  CHECK(factory->text.find("127.0.0.1:" + std::to_string(number)) != std::string::npos);
  CHECK(logged.flushLoggedErrors().empty());
}

TEST_CASE("stopConnecting: UserError, once; then NotConnectingError") {
  Pair t;
  t.connect();
  t.connector->stopConnecting();
  CHECK(t.log == Log{"cf startFactory", "cf startedConnecting", "cf failed UserError", "cf stopFactory"});
  CHECK_THROWS_AS(t.connector->stopConnecting(), NotConnectingError);
  t.connector->disconnect();
  spin(t.reactor);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf failed UserError") == 1);
  CHECK_FALSE(t.clientProtocol);
}

TEST_CASE("a name that does not exist: DNSLookupError, on a later turn") {
  Log log;
  Reactor reactor;
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  reactor.connectTCP("no-such-host.invalid", 80, factory);
  CHECK_FALSE(factory->over);
  runUntil(reactor, [&] { return factory->over; });
  CHECK(log == Log{"cf startFactory", "cf startedConnecting", "cf failed DNSLookupError", "cf stopFactory"});
}

TEST_CASE("connectTCP takes names") {
  Pair t;
  t.client.made = lose;
  t.port = t.reactor.listenTCP(0, makeFactory(t.maker<Scripted>(t.serverProtocol, "srv", t.server)), 50, "127.0.0.1");
  t.factory = std::make_shared<LoggingClientFactory>("cf", t.log, t.maker<Scripted>(t.clientProtocol, "cli", t.client));
  t.connector = t.reactor.connectTCP("localhost", portOf(*t.port), t.factory);
  CHECK(t.connector->getDestination() == Address(HostnameAddress{"localhost", portOf(*t.port)}));
  t.runUntilOver();
  CHECK(std::count(t.log.begin(), t.log.end(), "cf stopFactory") == 1);
}

TEST_CASE("buildProtocol gives null: the connection is dropped on either side") {
  LogCapture logged;
  Log log;
  Reactor reactor;
  std::shared_ptr<Scripted> client;
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [&]() -> std::shared_ptr<Protocol> {
    return client = std::make_shared<Scripted>("cli", log, Script());
  });
  SUBCASE("the server's") {
    auto port = reactor.listenTCP(0, makeFactory([] { return std::shared_ptr<Protocol>(); }), 50, "127.0.0.1");
    reactor.connectTCP("127.0.0.1", portOf(*port), factory);
    runUntil(reactor, [&] { return factory->over; });
    CHECK(client->over);
    CHECK(logged.flushLoggedErrors().empty());
  }
  SUBCASE("the server's throws: logged") {
    auto port = reactor.listenTCP(0, makeFactory([]() -> std::shared_ptr<Protocol> { throw std::runtime_error("no"); }),
                                  50, "127.0.0.1");
    reactor.connectTCP("127.0.0.1", portOf(*port), factory);
    runUntil(reactor, [&] { return factory->over; });
    CHECK(client->over);
    CHECK(logged.flushLoggedErrors().size() == 1);
  }
  SUBCASE("the client's") {
    factory->build = [] { return nullptr; };
    auto port = reactor.listenTCP(0, forProtocol<Protocol>(), 50, "127.0.0.1");
    reactor.connectTCP("127.0.0.1", portOf(*port), factory);
    runUntil(reactor, [&] { return factory->over; });
    CHECK(log == Log{"cf startFactory", "cf startedConnecting", "cf buildProtocol", "cf lost ConnectionDone",
                     "cf stopFactory"});
  }
  SUBCASE("the client's throws: logged, and the attempt has failed with it") {
    factory->build = []() -> std::shared_ptr<Protocol> { throw std::runtime_error("no"); };
    auto port = reactor.listenTCP(0, forProtocol<Protocol>(), 50, "127.0.0.1");
    reactor.connectTCP("127.0.0.1", portOf(*port), factory);
    runUntil(reactor, [&] { return factory->over; });
    CHECK(log == Log{"cf startFactory", "cf startedConnecting", "cf buildProtocol", "cf failed no", "cf stopFactory"});
    CHECK(logged.flushLoggedErrors().size() == 1);
  }
}

TEST_CASE("shutdown: every connection gets ConnectionLost, and ports close") {
  Pair t;
  t.connectAndWait();
  t.reactor.callWhenRunning([&] { t.reactor.stop(); });
  t.reactor.run(false);
  CHECK(t.serverProtocol->over);
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionLost") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionLost") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf stopFactory") == 1);
}

TEST_CASE("an attempt under way when the reactor stops fails") {
  Pair t;
  t.connect();
  t.reactor.callWhenRunning([&] { t.reactor.stop(); });
  t.reactor.run(false);
  CHECK(t.factory->over);
}

// ---- connectors

TEST_CASE("a connector connects again from either hook, without stopping its factory between") {
  Pair t;
  t.client.made = lose;
  t.connect();
  t.factory->again = [](Connector& connector) { connector.connect(); };
  runUntil(t.reactor, [&] { return t.log.back() == "cf stopFactory"; });
  CHECK(std::count(t.log.begin(), t.log.end(), "cli made") == 2);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf startFactory") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf startedConnecting") == 2);

  t.log.clear();
  t.factory->over = false;
  t.port->stopListening();
  t.connector->connect();
  t.factory->again = [](Connector& connector) { connector.connect(); };
  runUntil(t.reactor, [&] { return t.log.back() == "cf stopFactory"; });
  CHECK(std::count(t.log.begin(), t.log.end(), "cf failed ConnectionRefusedError") == 2);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf startFactory") == 1);
}

TEST_CASE("connect throws while there is an attempt or a connection; disconnect ends either") {
  Pair t;
  t.connect();
  CHECK_THROWS_AS(t.connector->connect(), std::logic_error);
  SUBCASE("attempt") {
    t.connector->disconnect();
    CHECK(t.log[2] == "cf failed UserError");
  }
  SUBCASE("connection") {
    runUntil(t.reactor, [&] { return t.serverProtocol && t.clientProtocol; });
    CHECK_THROWS_AS(t.connector->connect(), std::logic_error);
    CHECK_THROWS_AS(t.connector->stopConnecting(), NotConnectingError);
    t.connector->disconnect();
    t.runUntilOver();
    CHECK(std::count(t.log.begin(), t.log.end(), "cf lost ConnectionDone") == 1);
  }
}

namespace {

// A listening socket that answers no further connection: its backlog is full.
struct DeafServer {
  DeafServer() {
    fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(fd, 0) == 0);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    for (int& filler : fillers) {
      filler = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      (void)::connect(filler, reinterpret_cast<sockaddr*>(&address), size);
    }
  }
  ~DeafServer() {
    ::close(fd);
    for (const int filler : fillers) ::close(filler);
  }
  std::uint16_t port() const { return ntohs(address.sin_port); }
  int fd;
  int fillers[3];
  sockaddr_in address{};
};

}  // namespace

TEST_CASE("the limit of an attempt: ConnectTimeoutError") {
  DeafServer server;
  Log log;
  Reactor reactor;
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  reactor.connectTCP("127.0.0.1", server.port(), factory, 20ms);
  runUntil(reactor, [&] { return factory->over; });
  CHECK(log[2] == "cf failed ConnectTimeoutError");
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("stopConnecting of an attempt that waits for an answer, and one that the reactor ends") {
  DeafServer server;
  Log log;
  auto reactor = std::make_unique<Reactor>();
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  auto connector = reactor->connectTCP("127.0.0.1", server.port(), factory);
  spin(*reactor);
  CHECK(reactor->getDelayedCalls().size() == 1);
  SUBCASE("stopConnecting") {
    connector->stopConnecting();
    CHECK(log[2] == "cf failed UserError");
    CHECK(reactor->getDelayedCalls().empty());
  }
  SUBCASE("~Reactor") {
    reactor.reset();
    CHECK(log.size() == 4);
    CHECK(log[3] == "cf stopFactory");
    CHECK_THROWS_AS(connector->connect(), ReactorNotRunning);
    CHECK_THROWS_AS(connector->stopConnecting(), NotConnectingError);
    connector->disconnect();
  }
}

TEST_CASE("bindAddress is the local address; one that is not ours fails with ConnectBindError") {
  Pair t;
  t.client.made = lose;
  t.port = t.reactor.listenTCP(0, makeFactory(t.maker<Scripted>(t.serverProtocol, "srv", t.server)), 50, "127.0.0.1");
  t.factory = std::make_shared<LoggingClientFactory>("cf", t.log, t.maker<Scripted>(t.clientProtocol, "cli", t.client));
  SUBCASE("ours") {
    std::string peer;
    t.server.made = [&](Protocol& p) { peer = std::get<IPv4Address>(p.transport().getPeer()).host; };
    t.reactor.connectTCP("127.0.0.1", portOf(*t.port), t.factory, 30s, "127.0.0.5");
    t.runUntilOver();
    CHECK(peer == "127.0.0.5");
  }
  SUBCASE("not ours") {
    t.reactor.connectTCP("127.0.0.1", portOf(*t.port), t.factory, 30s, "192.0.2.1");
    t.runUntilOver();
    CHECK(t.log[2] == "cf failed ConnectBindError");
  }
}

// ---- ports

TEST_CASE("a port that is taken, or an address that is not ours: CannotListenError at once") {
  Log log;
  Reactor reactor;
  auto factory = std::make_shared<LoggingFactory<Factory>>("f", log, [] { return nullptr; });
  auto port = reactor.listenTCP(0, factory, 50, "127.0.0.1");
  CHECK_THROWS_AS(reactor.listenTCP(portOf(*port), factory, 50, "127.0.0.1"), CannotListenError);
  CHECK_THROWS_AS(reactor.listenTCP(0, factory, 50, "192.0.2.1"), CannotListenError);
  CHECK_THROWS_AS(reactor.listenTCP(0, factory, 50, "not an address"), CannotListenError);
  CHECK(log == Log{"f startFactory"});
}

TEST_CASE("a port listens at a name's address; a name that is none is told so") {
  Reactor reactor;
  const auto factory = makeFactory([] { return std::shared_ptr<Protocol>(); });
  auto port = reactor.listenTCP(0, factory, 50, "localhost");
  CHECK(std::get<IPv4Address>(port->getHost()).host == "127.0.0.1");
  for (const char* none : {"no-such-name.invalid", "www.example.com", "a b"}) {
    try {
      reactor.listenTCP(80, factory, 50, none);
      FAIL("it listens");
    } catch (const CannotListenError& e) {
      CHECK(e.interface == none);
      CHECK(e.port == 80);
      CHECK(std::string(e.what()).find("no address and no name of /etc/hosts") != std::string::npos);
    }
  }
}

TEST_CASE("a client may connect from a name's address") {
  struct Client final : ClientFactory {
    std::shared_ptr<Protocol> buildProtocol(const Address&) override {
      connected = true;
      return nullptr;
    }
    void clientConnectionFailed(Connector&, const Failure& reason) override { failure = reason; }
    bool connected = false;
    std::optional<Failure> failure;
  };
  Reactor reactor;
  auto port = reactor.listenTCP(0, makeFactory([] { return std::shared_ptr<Protocol>(); }), 50, "127.0.0.1");
  auto client = std::make_shared<Client>();
  reactor.connectTCP("127.0.0.1", portOf(*port), client, 30s, "localhost");
  runUntil(reactor, [&] { return client->connected; });
  reactor.connectTCP("127.0.0.1", portOf(*port), client, 30s, "no-such-name.invalid");
  runUntil(reactor, [&] { return client->failure.has_value(); });
  CHECK(client->failure->check<ConnectBindError>());
}

TEST_CASE("ports that do not fit, and factories that are null, are refused at the call") {
  Reactor reactor;
  const auto factory = makeFactory([] { return std::shared_ptr<Protocol>(); });
  Log log;
  const auto client = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  CHECK_THROWS_AS(reactor.listenTCP(std::stoi("99999"), factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.listenTCP(-1, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.connectTCP("127.0.0.1", std::stoi("99999"), client), std::invalid_argument);
  CHECK_THROWS_AS(reactor.listenTCP(0, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(reactor.connectTCP("127.0.0.1", 1, nullptr), std::invalid_argument);
}

TEST_CASE("a limit without end does not overflow") {
  Log log;
  Reactor reactor;
  auto port = reactor.listenTCP(0, makeFactory([] { return std::shared_ptr<Protocol>(); }), 50, "127.0.0.1");
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [] { return nullptr; });
  reactor.connectTCP("127.0.0.1", portOf(*port), factory, Duration::max());
  runUntil(reactor, [&] { return factory->over; });
  CHECK(log ==
        Log{"cf startFactory", "cf startedConnecting", "cf buildProtocol", "cf lost ConnectionDone", "cf stopFactory"});
}

TEST_CASE("a factory starts with its first port and stops with its last; the port can be used again") {
  Log log;
  Reactor reactor;
  auto factory = std::make_shared<LoggingFactory<Factory>>("f", log, [] { return nullptr; });
  auto first = reactor.listenTCP(0, factory, 50, "127.0.0.1");
  auto second = reactor.listenTCP(0, factory, 50, "127.0.0.1");
  CHECK(portOf(*first) != portOf(*second));
  bool stopped = false;
  first->stopListening().addCallback([&] { stopped = true; });
  first->stopListening();
  spin(reactor);
  CHECK(stopped);
  CHECK(log == Log{"f startFactory"});
  second->stopListening();
  CHECK(log == Log{"f startFactory", "f stopFactory"});
  CHECK(portOf(*first) != 0);
  auto again = reactor.listenTCP(portOf(*first), factory, 50, "127.0.0.1");
  CHECK(portOf(*again) == portOf(*first));
}

TEST_CASE("stopListening leaves the connections, also from within one's connectionMade") {
  Pair t;
  t.server.made = [&](Protocol&) { t.port->stopListening(); };
  t.server.received = [](Protocol& p, std::string_view) { p.transport().write("echo"); };
  t.client.made = say;
  t.client.received = [](Protocol& p, std::string_view) { p.transport().loseConnection(); };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "cli data echo") == 1);
}

TEST_CASE("a dropped handle does not stop its port") {
  Pair t;
  t.client.made = lose;
  std::uint16_t number = 0;
  t.connect();
  number = portOf(*t.port);
  t.port.reset();
  t.runUntilOver();
  CHECK(number != 0);
  CHECK(std::count(t.log.begin(), t.log.end(), "cf stopFactory") == 1);
}

TEST_CASE("addresses and options of both ends") {
  Pair t;
  t.connectAndWait();
  Transport& client = t.clientProtocol->transport();
  Transport& server = t.serverProtocol->transport();
  CHECK(client.getPeer() == t.port->getHost());
  CHECK(server.getHost() == t.port->getHost());
  CHECK(server.getPeer() == client.getHost());
  CHECK(t.connector->getDestination() == client.getPeer());
  for (Transport* transport : {&client, &server}) {
    CHECK(transport->getTcpNoDelay());
    transport->setTcpNoDelay(false);
    CHECK_FALSE(transport->getTcpNoDelay());
    CHECK_FALSE(transport->getTcpKeepAlive());
    transport->setTcpKeepAlive(true);
    CHECK(transport->getTcpKeepAlive());
  }
}

namespace {

// This process's socket between two ports.
int socketBetween(std::uint16_t local, std::uint16_t remote) {
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_in here{}, there{};
    socklen_t hereSize = sizeof here, thereSize = sizeof there;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &hereSize) == 0 && here.sin_port == htons(local) &&
        ::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &thereSize) == 0 && there.sin_port == htons(remote)) {
      return fd;
    }
  }
  return -1;
}

}  // namespace

TEST_CASE("a client's socket has TCP_NODELAY before it sends more than one small segment") {
  Pair t;
  std::size_t first = 1;
  bool onAfterFirst = false;
  SUBCASE("a small first write") {}
  SUBCASE("a large first write") {
    first = 5000;
    onAfterFirst = true;
  }
  t.connectAndWait();
  Transport& client = t.clientProtocol->transport();
  const int fd = socketBetween(std::get<IPv4Address>(client.getHost()).port, portOf(*t.port));
  const auto isOn = [fd] {
    int value = 0;
    socklen_t size = sizeof value;
    REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0);
    return value != 0;
  };
  client.write(std::string(first, 'x'));
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes == first; });
  CHECK(client.getTcpNoDelay());
  CHECK(isOn() == onAfterFirst);
  client.write("y");
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes == first + 1; });
  CHECK(isOn());
  client.setTcpNoDelay(false);
  client.write("z");
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes == first + 2; });
  CHECK_FALSE(isOn());
}

namespace {

struct SpeaksFirst final : LoggingClientFactory {
  using LoggingClientFactory::LoggingClientFactory;
  bool clientSpeaksFirst() const noexcept override { return true; }
};

// The fields of linux/tcp.h's tcp_info that netinet/tcp.h's has not, or not by the same name.
std::uint32_t tcpInfo(int fd, std::size_t offset) {
  std::array<std::uint32_t, 64> info{};
  socklen_t size = sizeof info;
  REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.data(), &size) == 0);
  REQUIRE(size > offset);
  return info[offset / sizeof(std::uint32_t)];
}
constexpr std::size_t kUnacked = 24, kSegsIn = 140;

struct Packets {
  std::uint32_t toServer = 0;  // when the client's first byte is there
  std::uint32_t unacked = 0;   // of what the server has sent, when the client has it
};
template <class F>
Packets packetsOf() {
  Pair t;
  Packets packets;
  int fd = -1;
  t.client.made = say;
  t.server.received = [&](Protocol& p, std::string_view) {
    fd = socketBetween(portOf(*t.port), std::get<IPv4Address>(p.transport().getPeer()).port);
    packets.toServer = tcpInfo(fd, kSegsIn);
    p.transport().write("y");
  };
  t.port = t.reactor.listenTCP(0, makeFactory(t.maker<Scripted>(t.serverProtocol, "srv", t.server)), 50, "127.0.0.1");
  t.factory = std::make_shared<F>("cf", t.log, t.maker<Scripted>(t.clientProtocol, "cli", t.client));
  t.connector = t.reactor.connectTCP("127.0.0.1", portOf(*t.port), t.factory);
  runUntil(t.reactor, [&] { return t.clientProtocol && t.clientProtocol->bytes == 1; });
  packets.unacked = tcpInfo(fd, kUnacked);
  t.connector->disconnect();
  t.runUntilOver();
  return packets;
}

}  // namespace

TEST_CASE("a client that speaks first takes a packet less to connect, and acknowledges answers as any other") {
  const Packets usual = packetsOf<LoggingClientFactory>();
  Packets fewer = packetsOf<SpeaksFirst>();
  // On a machine that stood still for 200 ms the kernel has not waited.
  for (int i = 0; i < 5 && fewer.toServer == usual.toServer; ++i) fewer = packetsOf<SpeaksFirst>();
  CHECK(fewer.toServer == usual.toServer - 1);
  CHECK(usual.unacked == 0);
  CHECK(fewer.unacked == 0);
}

TEST_CASE("bytes that arrive together with the end of the stream are given before it") {
  Pair t;
  t.server.made = [](Protocol& p) {
    p.transport().write("bye");
    p.transport().loseConnection();
  };
  bool pausedAtFirst = false;
  SUBCASE("while the client looks elsewhere") {}
  SUBCASE("while the client is paused") {
    pausedAtFirst = true;
  }
  t.client.made = [&](Protocol& p) {
    if (pausedAtFirst) p.transport().pauseProducing();
  };
  t.connect();
  runUntil(t.reactor, [&] { return t.serverProtocol && t.serverProtocol->over && t.clientProtocol; });
  spin(t.reactor);
  CHECK(t.clientProtocol->over != pausedAtFirst);
  if (pausedAtFirst) t.clientProtocol->transport().resumeProducing();
  t.runUntilOver();
  CHECK(t.clientProtocol->bytes == 3);
}

TEST_CASE("IPv6, where the machine has it") {
  Pair t;
  t.client.made = say;
  t.server.received = [](Protocol& p, std::string_view) { p.transport().loseConnection(); };
  try {
    t.port = t.reactor.listenTCP(0, makeFactory(t.maker<Scripted>(t.serverProtocol, "srv", t.server)), 50, "::1");
  } catch (const CannotListenError&) {
    MESSAGE("no IPv6 here");
    return;
  }
  const auto host = std::get<IPv6Address>(t.port->getHost());
  CHECK(host.host == "::1");
  t.factory = std::make_shared<LoggingClientFactory>("cf", t.log, t.maker<Scripted>(t.clientProtocol, "cli", t.client));
  t.connector = t.reactor.connectTCP("::1", host.port, t.factory);
  t.runUntilOver();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv data x") == 1);
}

TEST_CASE("out of file descriptors: connections are shed, other work goes on, and the port recovers") {
  LogCapture logged;
  Log log;
  Reactor reactor;
  int accepted = 0;
  auto port = reactor.listenTCP(0, makeFactory([&] {
                                  ++accepted;
                                  return std::make_shared<Protocol>();
                                }),
                                50, "127.0.0.1");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(portOf(*port));
  auto connectBlocking = [&] {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    return fd;
  };
  // The client's sockets come first, then what is left is used up.
  const int clients[] = {connectBlocking(), connectBlocking(), connectBlocking()};
  std::optional<torsion::test::NoDescriptors> none(std::in_place);

  auto closedByPeer = [](int fd) {
    char byte;
    return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
  };
  bool ticked = false;
  reactor.callLater(1ms, [&] { ticked = true; });
  runUntil(reactor, [&] { return ticked && std::all_of(std::begin(clients), std::end(clients), closedByPeer); });
  CHECK(accepted == 0);
  CHECK(logged.events().size() == 1);

  none.reset();
  const int late = connectBlocking();
  runUntil(reactor, [&] { return accepted == 1; });
  ::close(late);
  for (const int fd : clients) ::close(fd);
}

// ---- writing

TEST_CASE("writes are joined and keep their order, whatever their size and wherever they are made") {
  Pair t;
  std::string expected, received;
  auto put = [&](Protocol& p, std::size_t size) {
    std::string piece(size, static_cast<char>('a' + expected.size() % 26));
    p.transport().write(piece);
    expected += piece;
  };
  t.client.received = [&](Protocol&, std::string_view data) { received += data; };
  t.server.made = [&](Protocol& p) {
    put(p, 10);
    put(p, 100000);  // with something queued
    put(p, 10);
  };
  t.server.received = [&](Protocol& p, std::string_view) {
    put(p, 5000000);  // more than the kernel takes at once
    put(p, 10);
    const std::string_view pieces[] = {"one", "", "two", "three"};
    p.transport().writeSequence(pieces);
    expected += "onetwothree";
    p.transport().write("");
  };
  t.client.made = say;
  t.connectAndWait();
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes == 1; });
  put(*t.serverProtocol, 20000);  // outside of a call
  put(*t.serverProtocol, 7);
  t.serverProtocol->transport().loseConnection();
  t.serverProtocol->transport().write("too late");
  t.runUntilOver();
  CHECK(received.size() == expected.size());
  CHECK((received == expected));
}

TEST_CASE("a push producer is paused above 64 KiB and resumed when the queue is empty") {
  Pair t;
  std::unique_ptr<Push> producer;
  t.server.made = [&](Protocol& p) {
    producer = std::make_unique<Push>(p.transport(), 400000);
    p.transport().registerProducer(*producer, true);
    CHECK_THROWS_AS(p.transport().registerProducer(*producer, true), std::logic_error);
    producer->go();
    p.transport().loseConnection();  // waits for the producer to unregister
    CHECK(producer->pauses == 1);
    CHECK(producer->left == 400000 - 70000);
  };
  t.run();
  CHECK(t.clientProtocol->bytes == 400000);
  CHECK(producer->pauses == 5);
  CHECK(producer->resumes == 5);
  CHECK_FALSE(producer->stopped);
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionDone") == 1);
}

TEST_CASE("a peer that does not read: a producer that obeys stops, and memory stays where it is") {
  constexpr std::size_t kTotal = 200 << 20;
  Pair pair;
  pair.client.made = [](Protocol& p) { p.transport().pauseProducing(); };
  pair.connectAndWait();
  const std::size_t before = test::memoryInUse();
  Push push(pair.serverProtocol->transport(), kTotal);
  pair.serverProtocol->transport().registerProducer(push, true);
  push.go();
  std::size_t most = 0;
  const auto turn = [&] {
    spin(pair.reactor, 1);
    most = std::max(most, test::memoryInUse() - before);
  };
  for (int i = 0; i < 200; ++i) turn();
  CHECK(push.paused);
  const std::size_t stalled = push.left;
  CHECK(stalled > kTotal / 4 * 3);  // the rest is in the kernel, and 64 KiB here
  for (int i = 0; i < 200; ++i) turn();
  CHECK(push.left == stalled);
  // When the peer reads, all of it comes.
  pair.clientProtocol->transport().resumeProducing();
  runUntil(pair.reactor, [&] {
    turn();
    return pair.clientProtocol->bytes == kTotal;
  });
  CHECK(most < 512 * 1024);
  CHECK(push.done);
  lose(*pair.serverProtocol);
  pair.runUntilOver();
}

TEST_CASE("a pull producer is asked when it registers and whenever the queue is empty") {
  Pair t;
  std::unique_ptr<Pull> producer;
  t.server.made = [&](Protocol& p) {
    producer = std::make_unique<Pull>(p.transport());
    p.transport().registerProducer(*producer, false);
    CHECK(producer->asked == 1);
  };
  t.run();
  CHECK(producer->asked == 4);
  CHECK(t.clientProtocol->bytes == 3);
}

TEST_CASE("a producer is stopped before connectionLost, or at once when it registers too late") {
  Pair t;
  std::unique_ptr<Push> producer;
  t.server.made = [&](Protocol& p) {
    producer = std::make_unique<Push>(p.transport(), 100);
    p.transport().registerProducer(*producer, true);
    p.transport().abortConnection();
    CHECK_FALSE(producer->stopped);
  };
  t.server.lost = [&](Protocol& p) {
    CHECK(producer->stopped);
    Push late(p.transport(), 1);
    p.transport().registerProducer(late, true);
    CHECK(late.stopped);
  };
  t.run();
}

TEST_CASE("what a producer throws is logged and ends the connection") {
  struct Bad : Producer {
    void pauseProducing() override { throw std::runtime_error("bad pause"); }
    void resumeProducing() override {}
    void stopProducing() override {}
  } bad;
  Pair t;
  t.server.made = [&](Protocol& p) {
    p.transport().registerProducer(bad, true);
    p.transport().write(std::string(100000, 'x'));
  };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost bad pause") == 1);
  CHECK(t.errors() == 1);
}

TEST_CASE("drained fires at once below 64 KiB, else when the peer has read, and fails if the connection ends first") {
  Pair t;
  t.connectAndWait();
  Transport& server = t.serverProtocol->transport();
  bool fired = false;
  server.drained().addCallback([&] { fired = true; });
  CHECK(fired);

  t.clientProtocol->transport().pauseProducing();
  server.write(std::string(20000000, 'x'));
  bool later = false;
  std::string failed;
  server.drained().addCallback([&] { later = true; });
  auto cancelled = server.drained();
  cancelled.addErrback([](const CancelledError&) {});
  cancelled.cancel();
  spin(t.reactor, 50);
  CHECK_FALSE(later);
  SUBCASE("the peer reads") {
    t.clientProtocol->transport().resumeProducing();
    runUntil(t.reactor, [&] { return t.clientProtocol->bytes == 20000000; });
    CHECK(later);
  }
  SUBCASE("the connection ends") {
    server.drained().addErrback([&](const Failure& f) { failed = nameOf(f); });
    server.abortConnection();
    server.drained().addErrback([](const ConnectionAborted&) {});
    t.clientProtocol->transport().resumeProducing();
    t.runUntilOver();
    CHECK(failed == "ConnectionAborted");
    CHECK(t.errors() == 1);  // the wait above that had no errback
  }
}

TEST_CASE("the write limit ends a connection whose peer does not read") {
  Pair t;
  t.connectAndWait();
  t.clientProtocol->transport().pauseProducing();
  t.serverProtocol->transport().setWriteLimit(100000);
  t.serverProtocol->transport().write(std::string(100000, 'x'));
  CHECK_FALSE(t.serverProtocol->transport().disconnecting());
  spin(t.reactor);
  runUntil(t.reactor, [&] {
    t.serverProtocol->transport().write(std::string(100000, 'x'));
    return t.serverProtocol->over;
  });
  t.clientProtocol->transport().resumeProducing();
  t.runUntilOver();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionLost") == 1);
}

// ---- reading

TEST_CASE("pauseProducing stops dataReceived at once, resumeProducing starts it, in any order and number") {
  Pair t;
  t.client.made = [](Protocol& p) { p.transport().write(std::string(300000, 'x')); };
  t.server.received = [](Protocol& p, std::string_view) {
    p.transport().pauseProducing();
    p.transport().resumeProducing();
    p.transport().pauseProducing();
  };
  t.connectAndWait();
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes > 0; });
  const std::size_t first = t.serverProtocol->bytes;
  CHECK(first <= 72 * 1024);
  spin(t.reactor, 50);
  CHECK(t.serverProtocol->bytes == first);
  t.serverProtocol->script.received = [](Protocol&, std::string_view) {};
  t.serverProtocol->transport().resumeProducing();
  t.serverProtocol->transport().resumeProducing();
  runUntil(t.reactor, [&] { return t.serverProtocol->bytes == 300000; });
}

TEST_CASE("a paused connection hears of its end when it resumes; loseConnection stops reading") {
  Pair t;
  t.connectAndWait();
  SUBCASE("paused") {
    t.serverProtocol->transport().pauseProducing();
    t.clientProtocol->transport().loseConnection();
    runUntil(t.reactor, [&] { return t.factory->over; });
    spin(t.reactor);
    CHECK_FALSE(t.serverProtocol->over);
    t.serverProtocol->transport().resumeProducing();
    t.runUntilOver();
  }
  SUBCASE("losing") {
    // Its output cannot leave, so that it stays in this state.
    t.clientProtocol->transport().pauseProducing();
    t.serverProtocol->transport().write(std::string(20000000, 'x'));
    t.serverProtocol->transport().loseConnection();
    t.clientProtocol->transport().write("not read");
    spin(t.reactor, 50);
    CHECK(t.serverProtocol->bytes == 0);
    CHECK_FALSE(t.serverProtocol->over);
    t.clientProtocol->transport().resumeProducing();
    t.runUntilOver();
    CHECK(t.serverProtocol->bytes == 0);
  }
}

// ---- half-close

TEST_CASE("loseWriteConnection: a peer without HalfCloseableProtocol gets ConnectionDone") {
  Pair t;
  t.client.made = [](Protocol& p) {
    p.transport().write("last");
    p.transport().loseWriteConnection();
    p.transport().write("ignored");
  };
  t.run();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv data last") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionDone") == 1);
  CHECK(std::count(t.log.begin(), t.log.end(), "cli lost ConnectionDone") == 1);
}

TEST_CASE("a HalfCloseableProtocol writes on after the peer's end of file, and hears of its own") {
  Pair t;
  t.halfCloseable = true;
  t.client.made = [](Protocol& p) { p.transport().loseWriteConnection(); };
  t.connectAndWait();
  auto& half = dynamic_cast<HalfScripted&>(*t.serverProtocol);
  half.readLost = [](Protocol& p) { p.transport().write("still here"); };
  runUntil(t.reactor, [&] { return t.clientProtocol->bytes == 10; });
  CHECK(std::count(t.log.begin(), t.log.end(), "srv read lost") == 1);
  CHECK_FALSE(half.over);
  SUBCASE("loseWriteConnection ends it, as both halves are closed then") {
    half.transport().loseWriteConnection();
    t.runUntilOver();
    CHECK(std::count(t.log.begin(), t.log.end(), "srv write lost") == 1);
  }
  SUBCASE("loseConnection ends it") {
    half.transport().loseConnection();
    t.runUntilOver();
    CHECK(std::count(t.log.begin(), t.log.end(), "srv write lost") == 0);
  }
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost ConnectionDone") == 1);
}

TEST_CASE("what readConnectionLost or writeConnectionLost throws is logged and ends the connection with it") {
  Pair t;
  t.halfCloseable = true;
  t.connectAndWait();
  auto& half = dynamic_cast<HalfScripted&>(*t.serverProtocol);
  half.readLost = half.writeLost = [](Protocol&) { throw std::runtime_error("boom"); };
  SUBCASE("readConnectionLost") {
    t.clientProtocol->transport().loseWriteConnection();
  }
  SUBCASE("writeConnectionLost") {
    half.transport().loseWriteConnection();
  }
  t.runUntilOver();
  CHECK(std::count(t.log.begin(), t.log.end(), "srv lost boom") == 1);
  CHECK(t.errors() == 1);
}

// ---- lifetimes

TEST_CASE("a protocol is kept until connectionLost has returned, and no longer") {
  struct Counted : Protocol {
    explicit Counted(int& alive) : alive(alive) { ++alive; }
    ~Counted() override { --alive; }
    int& alive;
  };
  int alive = 0;
  Log log;
  Reactor reactor;
  auto port = reactor.listenTCP(0, makeFactory([&] { return std::make_shared<Counted>(alive); }), 50, "127.0.0.1");
  std::shared_ptr<Scripted> client;
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [&]() -> std::shared_ptr<Protocol> {
    return client = std::make_shared<Scripted>("cli", log, Script());
  });
  reactor.connectTCP("127.0.0.1", portOf(*port), factory);
  runUntil(reactor, [&] { return client && alive == 1; });
  client->transport().loseConnection();
  runUntil(reactor, [&] { return factory->over && alive == 0; });
  CHECK_FALSE(client->connected());
  client->transport().write("x");
  client->transport().loseConnection();
}

TEST_CASE("a connection whose protocol has left it ends when bytes come") {
  Pair t;
  t.server.made = [](Protocol& p) { p.detachTransport(); };
  t.client.made = say;
  t.connect();
  runUntil(t.reactor, [&] { return t.factory->over; });
  CHECK(std::count(t.log.begin(), t.log.end(), "srv made") == 1);
  CHECK(t.log.back() == "cf stopFactory");
}

TEST_CASE("ports, connectors, protocols and transports outlive the reactor as inert things") {
  LogCapture logged;
  Log log;
  std::shared_ptr<ListeningPort> port;
  std::shared_ptr<Connector> connector;
  std::shared_ptr<Scripted> client, server;
  auto factory = std::make_shared<LoggingClientFactory>("cf", log, [&]() -> std::shared_ptr<Protocol> {
    return client = std::make_shared<Scripted>("cli", log, Script());
  });
  bool drainFailed = false;
  {
    Reactor reactor;
    port = reactor.listenTCP(0, makeFactory([&] { return server = std::make_shared<Scripted>("srv", log, Script()); }),
                             50, "127.0.0.1");
    connector = reactor.connectTCP("127.0.0.1", portOf(*port), factory);
    SUBCASE("with a connection that is idle") {
      runUntil(reactor, [&] { return client && server; });
    }
    SUBCASE("with output that cannot leave") {
      runUntil(reactor, [&] { return client && server; });
      client->transport().pauseProducing();
      server->transport().write(std::string(20000000, 'x'));
      server->transport().drained().addErrback([&](const ConnectionLost&) { drainFailed = true; });
      spin(reactor);
    }
    SUBCASE("with a loss that has not been told yet") {
      runUntil(reactor, [&] { return client && server; });
      server->transport().abortConnection();
      client->transport().loseConnection();
    }
    SUBCASE("with an attempt that has just begun") {}
  }
  CHECK(factory->over);
  CHECK(std::count(log.begin(), log.end(), "cf stopFactory") == 1);
  if (server) {
    CHECK(server->over);
    CHECK(client->over);
    client->transport().write("x");
    server->transport().abortConnection();
  }
  CHECK(portOf(*port) != 0);
  port->stopListening();
  CHECK_THROWS_AS(connector->connect(), ReactorNotRunning);
  connector->disconnect();
  CHECK(logged.flushLoggedErrors().empty());
}

TEST_CASE("a connector works again after its reactor has stopped and runs anew") {
  Pair t;
  t.connectAndWait();
  t.reactor.callWhenRunning([&] { t.reactor.stop(); });
  t.reactor.run(false);
  t.connect();
  t.clientProtocol = t.serverProtocol = nullptr;
  runUntil(t.reactor, [&] { return t.serverProtocol && t.clientProtocol; });
}
