// Our ends with socat's and netcat's.
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <protocols/basic.hpp>
#include <reactor/tls.hpp>
#include <reactor/udp.hpp>
#include <test/interop/interop.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace torsion::test;

namespace {

/// Text of `size` bytes, in lines.
std::string text(std::size_t size) {
  std::mt19937 random(8);
  std::string all;
  while (all.size() < size) {
    all += random() % 40 == 0 ? "\r\n" : std::string(1, static_cast<char>(33 + random() % 94));
  }
  return all + "\r\n";
}
constexpr std::size_t kMuch = 1'000'000;

struct LineEcho : LineReceiver {
  void lineReceived(std::string_view line) override { sendLine(line); }
};

/// Answers when the other side has said all: as many bytes, turned round.
struct Reverser : HalfCloser {
  void readConnectionLost() override {
    HalfCloser::readConnectionLost();
    transport().write(std::string(received.rbegin(), received.rend()));
    transport().loseConnection();
  }
};

/// The port of a `socat -dd TCP-LISTEN:0,...`, which says so.
std::uint16_t portOf(Process& socat) {
  const std::string_view before = "listening on AF=2 127.0.0.1:";
  for (;;) {
    const std::string said = socat.waitFor(before);
    const std::size_t at = said.find(before) + before.size();
    if (said.find('\n', at) != std::string::npos) return static_cast<std::uint16_t>(std::stoi(said.substr(at)));
  }
}

std::string address(const std::shared_ptr<ListeningPort>& port) {
  return "127.0.0.1:" + std::to_string(test::portOf(port->getHost()));
}

/// Turns until the program has written `wanted`.
void expect(Reactor& reactor, const Process& program, const std::string& wanted) {
  std::size_t before = 0;
  for (std::size_t now = 0; now != wanted.size(); before = now) {
    runUntil(reactor, [&] { return (now = program.output().size()) != before || now == wanted.size(); });
  }
  CHECK(sum(program.output()) == sum(wanted));
}

std::shared_ptr<Recorder> connected(Reactor& reactor, std::shared_ptr<Recorder> protocol, std::uint16_t port,
                                    std::optional<TLSOptions> tls = std::nullopt) {
  std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(protocol);
  if (tls) factory = tlsFactory(*tls, factory, reactor);
  reactor.connectTCP("127.0.0.1", port, factory);
  runUntil(reactor, [&] { return protocol->connected(); });
  return protocol;
}

}  // namespace

TEST_CASE("socat: OPENSSL to our server of lines") {
  Reactor reactor;
  TemporaryDirectory directory;
  const auto& own = testPKI().localhost;
  const auto port =
      reactor.listenTCP(0,
                        tlsFactory(optionsForServerTLS({.privateKey = own.privateKey, .certificate = own.certificate}),
                                   forProtocol<LineEcho>(), reactor),
                        50, "127.0.0.1");
  const std::string sent = text(kMuch);
  const Process socat({"socat", "-t20", "-",
                       "OPENSSL:" + address(port) + ",verify=1,commonname=localhost,cafile=" +
                           directory.write("authority.pem", testPKI().authority.certificate)},
                      sent);
  expect(reactor, socat, sent);
}

TEST_CASE("socat: our client to OPENSSL-LISTEN, which sends all back") {
  Reactor reactor;
  TemporaryDirectory directory;
  Process socat({"socat", "-dd", "-t20",
                 "OPENSSL-LISTEN:0,bind=127.0.0.1,verify=0,cert=" +
                     directory.write("cert.pem", testPKI().localhost.certificate + testPKI().localhost.privateKey),
                 "EXEC:cat"});
  const auto client = connected(reactor, std::make_shared<Recorder>(), portOf(socat),
                                optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate}));
  const std::string sent = text(kMuch);
  client->transport().write(sent);
  runUntil(reactor, [&] { return client->received.size() == sent.size() || !client->lost.empty(); });
  CHECK(sum(client->received) == sum(sent));
  client->transport().loseConnection();
  runUntil(reactor, [&] { return !client->lost.empty(); });
  CHECK(client->lost == "ConnectionDone");
  CHECK(socat.wait() == 0);
}

TEST_CASE("socat: abstract UNIX sockets, both ways") {
  Reactor reactor;
  TemporaryDirectory directory;
  const std::string name = directory.path(), sent = text(kMuch);  // the name is nobody else's
  SUBCASE("to our server") {
    const auto port = reactor.listenUNIX('\0' + name, forProtocol<LineEcho>());
    const Process socat({"socat", "-t20", "-", "ABSTRACT-CONNECT:" + name}, sent);
    expect(reactor, socat, sent);
  }
  SUBCASE("from our client") {
    Process socat({"socat", "-dd", "ABSTRACT-LISTEN:" + name, "EXEC:cat"});
    socat.waitFor("listening on");
    auto client = std::make_shared<Recorder>();
    reactor.connectUNIX('\0' + name, std::make_shared<RecorderClientFactory>(client));
    runUntil(reactor, [&] { return client->connected(); });
    client->transport().write(sent);
    runUntil(reactor, [&] { return client->received.size() == sent.size(); });
    CHECK(sum(client->received) == sum(sent));
    client->transport().loseConnection();
    runUntil(reactor, [&] { return !client->lost.empty(); });
    CHECK(socat.wait() == 0);
  }
}

TEST_CASE("socat, nc: one side has said all, and the other answers then") {
  Reactor reactor;
  const std::string sent = text(kMuch);
  SUBCASE("they have") {
    const auto port = reactor.listenTCP(0, forProtocol<Reverser>(), 50, "127.0.0.1");
    std::vector<std::string> command;
    SUBCASE("socat") {
      command = {"socat", "-t20", "-", "TCP:" + address(port)};
    }
    SUBCASE("nc") {
      command = {"nc", "-N", "127.0.0.1", std::to_string(test::portOf(port->getHost()))};
    }
    Process program(command, sent);
    expect(reactor, program, std::string(sent.rbegin(), sent.rend()));
    CHECK(program.wait() == 0);
  }
  SUBCASE("we have") {
    Process socat({"socat", "-dd", "-t20", "TCP4-LISTEN:0,bind=127.0.0.1", "EXEC:sha256sum"});
    auto client = std::make_shared<HalfCloser>();
    connected(reactor, client, portOf(socat));
    client->transport().write(sent);
    client->transport().loseWriteConnection();
    runUntil(reactor, [&] { return client->readLost; });
    CHECK(client->writeLost);
    const std::string digest = sum(sent).substr(sum(sent).find(' ') + 1);
    CHECK(client->received.starts_with(digest));
    client->transport().loseConnection();
  }
}

TEST_CASE("socat: UDP multicast over IPv4 and IPv6, both ways") {
  struct Datagrams : DatagramProtocol {
    void datagramReceived(std::string_view data, const Address&) override { received += data; }
    std::string received;
  };
  bool v6 = false;
  SUBCASE("IPv4") {}
  SUBCASE("IPv6") {
    v6 = true;
  }
  // Linux routes no IPv6 multicast over the loopback.
  std::string interface = "127.0.0.1";
  if (v6) {
    interface.clear();
    std::ifstream file("/proc/net/if_inet6");
    for (std::string host, index, length, scope, flags, name;
         file >> host >> index >> length >> scope >> flags >> name;) {
      if (host.starts_with("fe80")) interface = name;
    }
    if (interface.empty()) {
      MESSAGE("there is no IPv6 here but on the loopback");
      return;
    }
  }
  const std::string group = v6 ? "ff12::7472" : "239.1.2.4";
  Reactor reactor;
  auto ours = std::make_shared<Datagrams>();
  const auto port = reactor.listenMulticast(0, ours, v6 ? "::" : "", 8192, true);
  const std::uint16_t number = test::portOf(port->getHost());
  const std::string at = ":" + std::to_string(number);
  port->setOutgoingInterface(interface);
  SUBCASE("to us") {
    bool joined = false;
    port->joinGroup(group, interface).addCallback([&] { joined = true; });
    REQUIRE(joined);
    const Process socat({"socat", "-u", "-",
                         v6 ? "UDP6-DATAGRAM:[" + group + "%" + interface + "]" + at
                            : "UDP4-DATAGRAM:" + group + at + ",ip-multicast-if=" + interface},
                        "hello");
    runUntil(reactor, [&] { return !ours->received.empty(); });
    CHECK(ours->received == "hello");
  }
  SUBCASE("from us") {
    // One that we have not joined, so that what comes there is not ours.
    Process socat(
        {"socat", "-dd", "-u",
         v6 ? "UDP6-RECV" + at + ",reuseaddr,ipv6-join-group=[" + group + "]:" + interface : "UDP4-RECV" + at + ",reuseaddr,ip-add-membership=" + group + ":" + interface,
         "-"});
    socat.waitFor("starting data transfer loop");
    port->write("hello", v6 ? Address(IPv6Address{group, number}) : Address(IPv4Address{group, number}));
    CHECK(socat.waitFor("hello").ends_with("hello"));
  }
}
