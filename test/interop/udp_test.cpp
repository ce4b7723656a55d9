// UDP: our ports with Python Twisted's.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <reactor/udp.hpp>
#include <test/interop/interop.hpp>

using namespace torsion;
using namespace torsion::test;

namespace {

struct Datagrams : DatagramProtocol {
  void datagramReceived(std::string_view data, const Address& from) override {
    received.emplace_back(data);
    if (echo) transport().write(data, from);
  }
  void connectionRefused() override { ++refused; }
  bool echo = false;
  std::vector<std::string> received;
  int refused = 0;
};

struct Port {
  explicit Port(const std::string& interface)
      : port(reactor.listenUDP(0, protocol, interface)), number(std::to_string(portOf(port->getHost()))) {}
  std::string next() {
    runUntil(reactor, [&] { return !protocol->received.empty(); });
    std::string first = protocol->received.front();
    protocol->received.erase(protocol->received.begin());
    return first;
  }
  Reactor reactor;
  std::shared_ptr<Datagrams> protocol = std::make_shared<Datagrams>();
  std::shared_ptr<DatagramTransport> port;
  std::string number;
  Peer peer{reactor};
};

Address at(const std::string& host, std::uint16_t port) {
  return isIPv6Address(host) ? Address(IPv6Address{host, port}) : Address(IPv4Address{host, port});
}

}  // namespace

TEST_CASE("UDP: echo, over IPv4 and IPv6") {
  for (std::string host : {"127.0.0.1", "::1"}) {
    CAPTURE(host);
    Port ours(host);
    const std::uint16_t theirs = ours.peer.listen("listenUDP " + host);
    SUBCASE("theirs") {
      for (std::string text : {"first", "second"}) {
        ours.port->write(text, at(host, theirs));
        CHECK(ours.peer.hear() == "datagram " + text);
        CHECK(ours.next() == text);
      }
    }
    SUBCASE("ours") {
      Peer other(ours.reactor);  // whose port does not echo
      other.listen("listenUDP " + host + " no");
      ours.protocol->echo = true;
      for (std::string text : {"first", "second"}) {
        other.tell("send " + text + " " + host + " " + ours.number);
        CHECK(other.hear() == "datagram " + text);
        CHECK(ours.next() == text);
      }
    }
  }
}

TEST_CASE("UDP: connected ports") {
  Port ours("127.0.0.1");
  const std::uint16_t theirs = ours.peer.listen("listenUDP 127.0.0.1");
  SUBCASE("ours hears one peer alone") {
    ours.port->connect("127.0.0.1", theirs);
    Peer stranger(ours.reactor);
    stranger.listen("listenUDP 127.0.0.1 no");
    stranger.tell("send stranger 127.0.0.1 " + ours.number);
    stranger.tell("nothing");
    CHECK(stranger.hear() == "raised KeyError");  // it has sent
    ours.port->write("hello");
    CHECK(ours.peer.hear() == "datagram hello");
    CHECK(ours.next() == "hello");
  }
  SUBCASE("theirs hears ours") {
    ours.protocol->echo = true;
    ours.peer.tell("connectUDP 127.0.0.1 " + ours.number);
    ours.peer.tell("send hello");
    CHECK(ours.next() == "hello");
    CHECK(ours.peer.hear() == "datagram hello");
  }
}

TEST_CASE("UDP: a connected port finds nobody listening") {
  Port ours("127.0.0.1");
  const std::uint16_t theirs = ours.peer.listen("listenUDP 127.0.0.1");
  SUBCASE("there, and goes on") {
    ours.port->connect("127.0.0.1", theirs);
    ours.peer.tell("stopListening");
    CHECK(ours.peer.hear() == "closed");
    CHECK(ours.peer.hear() == "stopped");
    for (int i = 1; i <= 2; ++i) {
      ours.port->write("hello");
      runUntil(ours.reactor, [&] { return ours.protocol->refused == i; });
    }
  }
  SUBCASE("here") {
    ours.peer.tell("connectUDP 127.0.0.1 " + ours.number);
    bool stopped = false;
    ours.port->stopListening().addCallback([&] { stopped = true; });
    runUntil(ours.reactor, [&] { return stopped; });
    ours.peer.tell("send hello");
    CHECK(ours.peer.hear() == "closed");  // Twisted's epoll reactor closes its port
  }
}

TEST_CASE("UDP: multicast") {
  const std::string group = "239.1.2.3", interface = "127.0.0.1";
  Reactor reactor;
  Peer peer(reactor);
  const std::uint16_t theirs = peer.listen("listenMulticast " + group + " " + interface);
  auto protocol = std::make_shared<Datagrams>();
  auto port = reactor.listenMulticast(0, protocol);
  port->setOutgoingInterface(interface);
  bool joined = false;
  port->joinGroup(group, interface).addCallback([&] { joined = true; });
  REQUIRE(joined);
  const std::string number = std::to_string(portOf(port->getHost()));

  port->write("ours", IPv4Address{group, theirs});
  CHECK(peer.hear() == "datagram ours");
  peer.tell("send theirs " + group + " " + number);
  runUntil(reactor, [&] { return !protocol->received.empty(); });
  CHECK(protocol->received.back() == "theirs");

  // When both have left, they hear what is sent to their own addresses alone. (While one is a member Linux gives the
  // group's datagrams to the other, too.)
  bool left = false;
  port->leaveGroup(group, interface).addCallback([&] { left = true; });
  REQUIRE(left);
  peer.tell("leaveGroup " + group + " " + interface);
  CHECK(peer.hear() == "left");
  port->write("to the group", IPv4Address{group, theirs});
  port->write("to the port", IPv4Address{interface, theirs});
  CHECK(peer.hear() == "datagram to the port");
  peer.tell("send group " + group + " " + number);
  peer.tell("send port " + interface + " " + number);
  runUntil(reactor, [&] { return protocol->received.size() == 2; });
  CHECK(protocol->received.back() == "port");
}

TEST_CASE("UDP: broadcast") {
  const std::string everybody = "127.255.255.255";
  Port ours("");
  const std::uint16_t theirs = ours.peer.listen("listenUDP 0.0.0.0 no");
  ours.port->setBroadcastAllowed(true);
  ours.port->write("ours", IPv4Address{everybody, theirs});
  CHECK(ours.peer.hear() == "datagram ours");
  ours.peer.tell("send theirs " + everybody + " " + ours.number);
  CHECK(ours.peer.hear() == "raised PermissionError");
  ours.peer.tell("allowBroadcast");
  ours.peer.tell("send theirs " + everybody + " " + ours.number);
  CHECK(ours.next() == "theirs");
}
