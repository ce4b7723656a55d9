// UDP over real sockets on the loopback.
#include <reactor/udp.hpp>

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <deferred/functions.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using torsion::test::runUntil;
using torsion::test::spin;

namespace {

using Log = std::vector<std::string>;

struct Recorder : DatagramProtocol {
  void startProtocol() override {
    log.push_back("start");
    if (onStart) onStart();
  }
  void stopProtocol() override {
    log.push_back("stop");
    if (onStop) onStop();
  }
  void datagramReceived(std::string_view data, const Address& address) override {
    log.emplace_back(data);
    from.push_back(address);
    if (onDatagram) onDatagram(data, address);
  }
  void connectionRefused() override {
    log.push_back("refused");
    if (onRefused) onRefused();
  }
  Log log;
  std::vector<Address> from;
  std::function<void()> onStart, onStop, onRefused;
  std::function<void(std::string_view, const Address&)> onDatagram;
};

// A reactor and a port on it.
struct Port {
  explicit Port(Reactor& reactor, const std::string& interface = "127.0.0.1", std::size_t maxPacketSize = 8192)
      : port(reactor.listenUDP(0, protocol, interface, maxPacketSize)) {}
  // The reactor stops its ports later, when what these refer to is gone.
  ~Port() {
    protocol->onStart = protocol->onStop = protocol->onRefused = nullptr;
    protocol->onDatagram = nullptr;
  }
  Address address() const { return port->getHost(); }
  const Log& log() const { return protocol->log; }
  std::shared_ptr<Recorder> protocol = std::make_shared<Recorder>();
  std::shared_ptr<DatagramTransport> port;
};

void runUntilLogged(Reactor& reactor, const Recorder& protocol, std::size_t entries) {
  runUntil(reactor, [&] { return protocol.log.size() >= entries; });
}

std::uint16_t portOf(const Address& address) {
  if (const auto* v6 = std::get_if<IPv6Address>(&address)) return v6->port;
  return std::get<IPv4Address>(address).port;
}
IPv4Address at(const char* host, const Address& port) {
  return {host, portOf(port)};
}
// An address of the loopback where nobody listens.
Address nobody(Reactor& reactor) {
  Port gone(reactor);
  const Address address = gone.address();
  gone.port->stopListening();
  spin(reactor);
  return address;
}

struct Throws {
  int error = 0;
  std::string text;
};
template <class E>
Throws thrownBy(const std::function<void()>& f) {
  try {
    f();
  } catch (const E& e) {
    if constexpr (std::is_base_of_v<std::system_error, E>) return {e.code().value(), e.what()};
    return {-1, e.what()};
  }
  return {};
}
// Some machines and containers have none.
bool hasIPv6() {
  const detail::UniqueFd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const bool has = fd && ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (!has) MESSAGE("no IPv6 here");
  return has;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("UDP: startProtocol before listenUDP returns; datagrams both ways, each with its sender") {
  Reactor reactor;
  Port server(reactor), client(reactor);
  CHECK(server.log() == Log{"start"});
  CHECK(&server.protocol->transport() == server.port.get());
  CHECK(server.port->protocol() == server.protocol.get());
  server.protocol->onDatagram = [&](std::string_view data, const Address& address) {
    server.port->write("echo " + std::string(data), address);
  };
  client.port->write("one", server.address());
  client.port->write("", server.address());
  client.port->write("three", server.address());
  runUntilLogged(reactor, *client.protocol, 4);
  CHECK(server.log() == Log{"start", "one", "", "three"});
  CHECK(client.log() == Log{"start", "echo one", "echo ", "echo three"});
  CHECK(server.protocol->from.front() == client.address());
  CHECK(client.protocol->from.front() == server.address());
}

TEST_CASE("UDP over IPv6; the port of all interfaces is of IPv4 too") {
  if (!hasIPv6()) return;
  Reactor reactor;
  Port server(reactor, "::"), v6(reactor, "::1"), v4(reactor);
  server.protocol->onDatagram = [&](std::string_view data, const Address& address) {
    server.port->write(data, address);
  };
  v6.port->write("six", IPv6Address{"::1", portOf(server.address())});
  v4.port->write("four", at("127.0.0.1", server.address()));
  runUntil(reactor, [&] { return v6.log().size() > 1 && v4.log().size() > 1; });
  CHECK(v6.log() == Log{"start", "six"});
  CHECK(v4.log() == Log{"start", "four"});
  CHECK(v6.protocol->from[0] == Address(IPv6Address{"::1", portOf(server.address())}));
  CHECK(std::get<IPv6Address>(server.protocol->from[1]).host == "::ffff:127.0.0.1");
}

TEST_CASE("UDP: what is longer than maxPacketSize loses its end") {
  Reactor reactor;
  Port sender(reactor), small(reactor, "127.0.0.1", 5), usual(reactor), large(reactor, "127.0.0.1", 1 << 20);
  for (const Port* to : {&small, &usual, &large}) sender.port->write(std::string(60000, 'x'), to->address());
  sender.port->write("next", small.address());
  runUntil(reactor, [&] { return small.log().size() == 3 && usual.log().size() == 2 && large.log().size() == 2; });
  CHECK(small.log() == Log{"start", "xxxxx", "next"});
  CHECK(usual.log()[1].size() == 8192);
  CHECK(large.log()[1].size() == 60000);
}

TEST_CASE("UDP: a burst gives others their turn") {
  Reactor reactor;
  Port busy(reactor), sender(reactor);
  for (int i = 0; i < 150; ++i) sender.port->write("x", busy.address());
  int turns = 0;
  std::size_t most = 0, before = 1;
  runUntil(reactor, [&] {
    most = std::max(most, busy.log().size() - before);
    before = busy.log().size();
    ++turns;
    return busy.log().size() == 151;
  });
  CHECK(most == 64);
}

TEST_CASE("UDP: writes that cannot be") {
  if (!hasIPv6()) return;
  Reactor reactor;
  Port v4(reactor), v6(reactor, "::1");
  const auto toV4 = [&](std::string_view data, const Address& to) {
    return [&, data, to] { v4.port->write(data, to); };
  };
  CHECK(has(thrownBy<InvalidAddressError>(toV4("x", HostnameAddress{"localhost", 1})).text, "localhost:1: takes IP"));
  CHECK(has(thrownBy<InvalidAddressError>(toV4("x", IPv4Address{"localhost", 1})).text, "Reactor::resolve"));
  CHECK_THROWS_AS(v4.port->write("x", Address()), InvalidAddressError);
  CHECK(has(thrownBy<InvalidAddressError>(toV4("x", IPv6Address{"::1", 1})).text, "not an IPv4 address"));
  CHECK_THROWS_AS(v6.port->write("x", IPv4Address{"127.0.0.1", 1}), InvalidAddressError);
  CHECK_THROWS_AS(v6.port->write("x", IPv4Address{"<broadcast>", 1}), InvalidAddressError);
  CHECK(has(thrownBy<MessageLengthError>(toV4(std::string(65508, 'x'), v4.address())).text, "65508 bytes"));
  CHECK(has(thrownBy<std::logic_error>([&] { v4.port->write("x"); }).text, "connect()"));
  CHECK(thrownBy<std::system_error>(toV4("x", IPv4Address{"127.0.0.1", 0})).error == EINVAL);
  v4.port->write(std::string(65507, 'x'), v4.address());
  runUntilLogged(reactor, *v4.protocol, 2);
}

// A filter of the kernel's, for this thread alone, answers sends of `size` bytes with `error`.
static bool failSendsOf(std::uint32_t size, int error) {
  std::array<sock_filter, 6> code{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, size, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{code.size(), code.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_CASE("UDP: a datagram for which the system has no room is dropped, and the next one goes") {
  bool filtered = false;
  Log log;
  std::thread([&] {
    Reactor reactor;
    Port sender(reactor), receiver(reactor), connected(reactor);
    connected.port->connect("127.0.0.1", portOf(receiver.address()));
    if (!failSendsOf(1001, EAGAIN) || !failSendsOf(1002, ENOBUFS) || !failSendsOf(1003, EHOSTUNREACH)) return;
    filtered = true;
    for (const std::size_t size : {1001, 1002}) {
      sender.port->write(std::string(size, 'x'), receiver.address());
      connected.port->write(std::string(size, 'x'));
    }
    CHECK_THROWS_AS(sender.port->write(std::string(1003, 'x'), receiver.address()), std::system_error);
    CHECK_THROWS_AS(connected.port->write(std::string(1003, 'x')), std::system_error);
    sender.port->write("next", receiver.address());
    connected.port->write("after");
    runUntilLogged(reactor, *receiver.protocol, 3);
    log = receiver.log();
  }).join();
  if (!filtered) return;  // a system without such filters
  CHECK(log == Log{"start", "next", "after"});
}

// ---- starting and stopping

TEST_CASE("stopListening: on a later turn stopProtocol, without a transport, then its Deferred") {
  Reactor reactor;
  Port sender(reactor), server(reactor);
  const Address address = server.address();
  server.protocol->onStop = [&] { CHECK(&server.protocol->transport() == &DatagramTransport::inert()); };
  Deferred<void> first = server.port->stopListening().addCallback([&] { server.protocol->log.push_back("fired"); });
  Deferred<void> second = server.port->stopListening().addCallback([&] { server.protocol->log.push_back("again"); });
  CHECK(server.log() == Log{"start"});
  CHECK(server.address() == address);
  sender.port->write("too late", address);
  server.port->write("last words", sender.address());
  runUntilLogged(reactor, *server.protocol, 4);
  CHECK(server.log() == Log{"start", "stop", "fired", "again"});
  CHECK(server.port->protocol() == nullptr);
  runUntilLogged(reactor, *sender.protocol, 2);
  CHECK(sender.log() == Log{"start", "last words"});
  successResultOf(server.port->stopListening());
  // The address is free again, and the protocol too.
  auto anew = reactor.listenUDP(portOf(address), server.protocol, "127.0.0.1");
  CHECK(&server.protocol->transport() == anew.get());
  sender.port->write("hello", address);
  runUntilLogged(reactor, *server.protocol, 6);
  CHECK(server.log().back() == "hello");
}

TEST_CASE("stopListening within startProtocol, datagramReceived and connectionRefused") {
  Reactor reactor;
  Port sender(reactor);
  auto protocol = std::make_shared<Recorder>();
  const auto stop = [&] { protocol->transport().stopListening(); };
  Log wanted{"start", "stop"};
  SUBCASE("startProtocol") {
    protocol->onStart = stop;
    reactor.listenUDP(0, protocol, "127.0.0.1");
    CHECK(protocol->log == Log{"start"});
  }
  SUBCASE("datagramReceived: the others that have arrived are not delivered") {
    protocol->onDatagram = [&](std::string_view, const Address&) { stop(); };
    auto port = reactor.listenUDP(0, protocol, "127.0.0.1");
    sender.port->write("one", port->getHost());
    sender.port->write("two", port->getHost());
    wanted = {"start", "one", "stop"};
  }
  SUBCASE("connectionRefused") {
    const Address gone = nobody(reactor);
    protocol->onRefused = stop;
    auto port = reactor.listenUDP(0, protocol, "127.0.0.1");
    port->connect("127.0.0.1", portOf(gone));
    port->write("one");
    port->write("two");
    wanted = {"start", "refused", "stop"};
  }
  runUntil(reactor, [&] { return protocol->log.back() == "stop"; });
  spin(reactor);
  CHECK(protocol->log == wanted);
}

TEST_CASE("listenUDP: an address that is taken, a name, a protocol that has a port") {
  Reactor reactor;
  Port one(reactor);
  auto other = std::make_shared<Recorder>();
  try {
    reactor.listenUDP(portOf(one.address()), other, "127.0.0.1");
    FAIL("listening twice");
  } catch (const CannotListenError& e) {
    CHECK(e.interface == "127.0.0.1");
    CHECK(e.port == portOf(one.address()));
    CHECK(e.osError == EADDRINUSE);
  }
  CHECK_THROWS_AS(reactor.listenUDP(0, other, "localhost"), InvalidAddressError);
  CHECK_THROWS_AS(reactor.listenUDP(0, other, "192.0.2.1"), CannotListenError);
  CHECK(other->log.empty());
  CHECK_THROWS_AS(reactor.listenUDP(0, one.protocol), std::logic_error);
  CHECK(&one.protocol->transport() == one.port.get());
  std::thread([&] { CHECK_THROWS_AS(reactor.listenUDP(0, other), WrongThread); }).join();
}

TEST_CASE("startProtocol throws: listenUDP does, and the port is closed") {
  Reactor reactor;
  auto protocol = std::make_shared<Recorder>();
  Address address;
  protocol->onStart = [&] {
    address = protocol->transport().getHost();
    throw std::runtime_error("no");
  };
  CHECK(thrownBy<std::runtime_error>([&] { reactor.listenUDP(0, protocol, "127.0.0.1"); }).text == "no");
  CHECK(&protocol->transport() == &DatagramTransport::inert());
  protocol->onStart = nullptr;
  reactor.listenUDP(portOf(address), protocol, "127.0.0.1");
  CHECK(protocol->log == Log{"start", "start"});
}

TEST_CASE("what a DatagramProtocol's methods throw is logged, and the port goes on") {
  LogCapture logged;
  Reactor reactor;
  const Address gone = nobody(reactor);
  Port sender(reactor), server(reactor);
  const auto fail = [] { throw std::runtime_error("oops"); };
  server.protocol->onDatagram = [&](std::string_view, const Address&) { fail(); };
  server.protocol->onStop = server.protocol->onRefused = fail;
  sender.port->write("one", server.address());
  sender.port->write("two", server.address());
  runUntilLogged(reactor, *server.protocol, 3);
  server.port->connect("127.0.0.1", portOf(gone));
  server.port->write("x");
  runUntilLogged(reactor, *server.protocol, 4);
  bool stopped = false;
  auto d = server.port->stopListening().addCallback([&] { stopped = true; });
  runUntil(reactor, [&] { return stopped; });
  CHECK(server.log() == Log{"start", "one", "two", "refused", "stop"});
  CHECK(logged.flushLoggedErrors<std::runtime_error>().size() == 4);
}

// ---- connected

TEST_CASE("a connected port: sends to one address and receives from it alone") {
  Reactor reactor;
  Port server(reactor), other(reactor), client(reactor, "0.0.0.0");
  CHECK_THROWS_AS(client.port->connect("localhost", 1), InvalidAddressError);
  CHECK_THROWS_AS(client.port->connect("::1", 1), InvalidAddressError);
  client.port->connect("127.0.0.1", portOf(server.address()));
  CHECK(client.address() == Address(at("127.0.0.1", client.address())));
  CHECK_THROWS_AS(client.port->connect("127.0.0.1", portOf(other.address())), std::logic_error);
  client.port->write("one");
  client.port->write("two", server.address());
  CHECK_THROWS_AS(client.port->write("three", other.address()), InvalidAddressError);
  runUntilLogged(reactor, *server.protocol, 3);
  CHECK(server.log() == Log{"start", "one", "two"});
  other.port->write("from another", client.address());
  server.port->write("from the server", client.address());
  runUntilLogged(reactor, *client.protocol, 2);
  CHECK(client.log() == Log{"start", "from the server"});
}

TEST_CASE("connectionRefused: on a later turn, and the port goes on") {
  Reactor reactor;
  const Address gone = nobody(reactor);
  Port client(reactor);
  client.port->connect("127.0.0.1", portOf(gone));
  SUBCASE("by reading") {
    client.port->write("one");
    CHECK(client.log() == Log{"start"});
    runUntilLogged(reactor, *client.protocol, 2);
    client.port->write("two");
    runUntilLogged(reactor, *client.protocol, 3);
    CHECK(client.log() == Log{"start", "refused", "refused"});
  }
  SUBCASE("by writing") {
    for (int i = 0; i < 10; ++i) client.port->write("x");
    CHECK(client.log() == Log{"start"});
    spin(reactor);
    // One for the writes of a turn, and one for what reading told.
    CHECK(client.log() == Log{"start", "refused", "refused"});
  }
  SUBCASE("and one that comes to listen gets the next datagram") {
    client.port->write("lost");
    auto late = std::make_shared<Recorder>();
    auto port = reactor.listenUDP(portOf(gone), late, "127.0.0.1");
    client.port->write("found");
    runUntilLogged(reactor, *late, 2);
    CHECK(late->log == Log{"start", "found"});
    CHECK(client.log() == Log{"start", "refused"});
  }
}

TEST_CASE("a port that is not connected does not hear of refusals") {
  Reactor reactor;
  const Address gone = nobody(reactor);
  Port client(reactor);
  for (int i = 0; i < 3; ++i) client.port->write("x", gone);
  spin(reactor);
  CHECK(client.log() == Log{"start"});
}

// ---- broadcast and multicast

TEST_CASE("broadcast: only when allowed") {
  Reactor reactor;
  Port sender(reactor), receiver(reactor, "0.0.0.0");
  const IPv4Address everybody = at("127.255.255.255", receiver.address());
  CHECK_FALSE(sender.port->getBroadcastAllowed());
  const Throws refused = thrownBy<std::system_error>([&] { sender.port->write("x", everybody); });
  CHECK(refused.error == EACCES);
  CHECK(has(refused.text, "setBroadcastAllowed"));
  CHECK(thrownBy<std::system_error>([&] { sender.port->write("x", at("<broadcast>", receiver.address())); }).error);
  sender.port->setBroadcastAllowed(true);
  CHECK(sender.port->getBroadcastAllowed());
  sender.port->write("all", everybody);
  runUntilLogged(reactor, *receiver.protocol, 2);
  CHECK(receiver.log() == Log{"start", "all"});
  sender.port->setBroadcastAllowed(false);
  CHECK_FALSE(sender.port->getBroadcastAllowed());
}

TEST_CASE("multicast: members receive; all ports of one address do") {
  Reactor reactor;
  auto one = std::make_shared<Recorder>(), two = std::make_shared<Recorder>();
  auto first = reactor.listenMulticast(0, one, "", 8192, true);
  const std::uint16_t number = portOf(first->getHost());
  auto second = reactor.listenMulticast(number, two, "", 8192, true);
  CHECK_THROWS_AS(reactor.listenMulticast(number, std::make_shared<Recorder>()), CannotListenError);
  successResultOf(first->joinGroup("228.0.0.5", "127.0.0.1"));
  successResultOf(second->joinGroup("228.0.0.5", "127.0.0.1"));
  successResultOf(first->setOutgoingInterface("127.0.0.1"));
  first->write("all", IPv4Address{"228.0.0.5", number});
  runUntil(reactor, [&] { return one->log.size() > 1 && two->log.size() > 1; });
  CHECK(one->log == Log{"start", "all"});
  CHECK(two->log == Log{"start", "all"});
}

TEST_CASE("multicast: who has left a group receives no more") {
  Reactor reactor;
  auto protocol = std::make_shared<Recorder>();
  auto port = reactor.listenMulticast(0, protocol);
  Port sender(reactor);
  successResultOf(sender.port->setOutgoingInterface("127.0.0.1"));
  successResultOf(port->joinGroup("228.0.0.6", "127.0.0.1"));
  const IPv4Address group = at("228.0.0.6", port->getHost()), itself = at("127.0.0.1", port->getHost());
  CHECK(sender.port->getLoopbackMode());
  sender.port->write("one", group);
  successResultOf(port->leaveGroup("228.0.0.6", "127.0.0.1"));
  sender.port->write("two", group);
  sender.port->write("end", itself);
  runUntil(reactor, [&] { return protocol->log.back() == "end"; });
  CHECK(protocol->log == Log{"start", "one", "end"});
}

TEST_CASE("multicast: time to live, loopback mode and outgoing interface") {
  if (!hasIPv6()) return;
  Reactor reactor;
  Port v4(reactor), v6(reactor, "::1");
  for (Port* each : {&v4, &v6}) {
    CHECK(each->port->getTTL() == 1);
    each->port->setTTL(5);
    CHECK(each->port->getTTL() == 5);
    each->port->setTTL(0);
    CHECK(each->port->getTTL() == 0);
    CHECK_THROWS_AS(each->port->setTTL(256), std::invalid_argument);
    CHECK_THROWS_AS(each->port->setTTL(-1), std::invalid_argument);
    each->port->setLoopbackMode(false);
    CHECK_FALSE(each->port->getLoopbackMode());
  }
  CHECK(v4.port->getOutgoingInterface() == "0.0.0.0");
  successResultOf(v4.port->setOutgoingInterface("127.0.0.1"));
  CHECK(v4.port->getOutgoingInterface() == "127.0.0.1");
  failureResultOf<InvalidAddressError>(v4.port->setOutgoingInterface("lo"));
  failureResultOf<std::system_error>(v4.port->setOutgoingInterface("192.0.2.1"));
  CHECK(v6.port->getOutgoingInterface().empty());
  successResultOf(v6.port->setOutgoingInterface("lo"));
  CHECK(v6.port->getOutgoingInterface() == "lo");
  failureResultOf<InvalidAddressError>(v6.port->setOutgoingInterface("no-such"));
}

TEST_CASE("multicast: groups that cannot be joined or left") {
  if (!hasIPv6()) return;
  Reactor reactor;
  Port v4(reactor), v6(reactor, "::1");
  const auto text = [](Deferred<void> d) { return failureResultOf<MulticastJoinError>(d).getErrorMessage(); };
  CHECK(has(text(v4.port->joinGroup("127.0.0.1")), "no multicast address"));
  CHECK(has(text(v4.port->leaveGroup("228.0.0.7", "127.0.0.1")), "no member"));
  successResultOf(v4.port->joinGroup("228.0.0.7", "127.0.0.1"));
  CHECK(has(text(v4.port->joinGroup("228.0.0.7", "127.0.0.1")), "228.0.0.7 on 127.0.0.1"));
  CHECK(has(text(v4.port->joinGroup("ff02::1")), "the port is of IPv4"));
  CHECK(has(text(v6.port->joinGroup("228.0.0.7")), "the port is of IPv6"));
  CHECK(has(text(v4.port->joinGroup("228.0.0.7", "192.0.2.1")), "name one of this machine's interfaces"));
  failureResultOf<InvalidAddressError>(v4.port->joinGroup("228.0.0.8", "lo"));
  failureResultOf<InvalidAddressError>(v6.port->joinGroup("ff02::8", "no-such"));
  failureResultOf<DNSLookupError>(v4.port->joinGroup("group.invalid"));
}

TEST_CASE("multicast over IPv6: by an interface's name, or the group's scope") {
  if (!hasIPv6()) return;
  // Linux routes no IPv6 multicast over the loopback, but lists who is a member.
  const auto isMember = [] {
    std::ifstream file("/proc/net/igmp6");
    return has(std::string(std::istreambuf_iterator<char>(file), {}), "ff010000000000000000000000007472");
  };
  Reactor reactor;
  Port port(reactor, "::");
  CHECK_FALSE(isMember());
  successResultOf(port.port->joinGroup("ff01::7472", "lo"));
  CHECK(isMember());
  failureResultOf<MulticastJoinError>(port.port->joinGroup("ff01::7472%lo"));
  successResultOf(port.port->leaveGroup("ff01::7472%lo"));
  CHECK_FALSE(isMember());
}

// ---- adopted

namespace {
struct Socket {
  explicit Socket(int family = AF_INET, int type = SOCK_DGRAM) : fd(::socket(family, type, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == AF_INET) REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  detail::UniqueFd fd;
};
}  // namespace

TEST_CASE("adoptDatagramPort: a duplicate of the descriptor, with what it has received already") {
  Reactor reactor;
  Port sender(reactor);
  Socket socket;
  auto protocol = std::make_shared<Recorder>();
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(socket.fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const IPv4Address to{"127.0.0.1", ntohs(address.sin_port)};
  sender.port->write("early", to);
  auto port = reactor.adoptDatagramPort(socket.fd.get(), AF_INET, protocol, 5);
  CHECK(port->getHost() == Address(to));
  CHECK(protocol->log == Log{"start"});
  SUBCASE("the caller closes its own") {
    socket.fd.reset();
    sender.port->write("longer", to);
    runUntilLogged(reactor, *protocol, 3);
    CHECK(protocol->log == Log{"start", "early", "longe"});
    port->write("back", sender.address());
    runUntilLogged(reactor, *sender.protocol, 2);
  }
  SUBCASE("the caller keeps its own, and uses it after the port is closed") {
    port->stopListening();
    runUntil(reactor, [&] { return protocol->log.back() == "stop"; });
    sender.port->write("late", to);
    spin(reactor);
    char buffer[10];
    CHECK(::recv(socket.fd.get(), buffer, sizeof buffer, MSG_DONTWAIT) == 5);
    CHECK(::recv(socket.fd.get(), buffer, sizeof buffer, MSG_DONTWAIT) == 4);
    CHECK(protocol->log == Log{"start", "stop"});
  }
}

TEST_CASE("adoptDatagramPort: what is no UDP socket of that family") {
  Reactor reactor;
  auto protocol = std::make_shared<Recorder>();
  Socket udp, tcp(AF_INET, SOCK_STREAM);
  CHECK_THROWS_AS(reactor.adoptDatagramPort(udp.fd.get(), AF_UNIX, protocol), UnsupportedAddressFamily);
  CHECK_THROWS_AS(reactor.adoptDatagramPort(udp.fd.get(), AF_INET6, protocol), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptDatagramPort(tcp.fd.get(), AF_INET, protocol), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptDatagramPort(-1, AF_INET, protocol), std::invalid_argument);
  CHECK(protocol->log.empty());
}

// ---- lifetimes

TEST_CASE("the reactor keeps a port, and the port its protocol, until it is closed") {
  Reactor reactor;
  Port sender(reactor);
  std::weak_ptr<Recorder> protocol;
  Address address;
  bool held = false;
  {
    auto kept = std::make_shared<Recorder>();
    protocol = kept;
    address = reactor.listenUDP(0, kept, "127.0.0.1")->getHost();
    kept->onDatagram = [p = kept.get(), &held](std::string_view data, const Address&) {
      if (data == "end")
        p->transport().stopListening().addCallback(p->hold([&held, p] { held = p->log.back() == "stop"; }));
    };
  }
  sender.port->write("one", address);
  runUntil(reactor, [&] { return protocol.lock()->log.size() == 2; });
  sender.port->write("end", address);
  runUntil(reactor, [&] { return protocol.expired(); });
  CHECK(held);
}

TEST_CASE("the reactor stops: stopProtocol, and the port is closed") {
  Reactor reactor;
  Port port(reactor);
  bool stop = false, fired = false;
  SUBCASE("a port") {}
  SUBCASE("one that is being stopped") {
    stop = true;
  }
  reactor.callWhenRunning([&] {
    if (stop) port.port->stopListening().addCallback([&] { fired = true; });
    reactor.stop();
  });
  reactor.run(false);
  CHECK(port.log() == Log{"start", "stop"});
  CHECK(port.address() == Address());
  CHECK(fired == stop);
}

TEST_CASE("ports and protocols that outlive their reactor are inert") {
  std::optional<Reactor> reactor(std::in_place);
  Port port(*reactor), stopping(*reactor), connected(*reactor);
  connected.port->connect("127.0.0.1", portOf(nobody(*reactor)));
  connected.port->write("x");
  connected.port->write("x");
  bool fired = false;
  stopping.port->stopListening().addCallback([&] { fired = true; });
  port.protocol->onStop = [&] {
    CHECK_THROWS_AS(reactor->listenUDP(0, std::make_shared<Recorder>()), ReactorNotRunning);
  };
  const Address address = port.address();
  reactor.reset();
  CHECK(fired);
  for (Port* each : {&port, &stopping, &connected}) CHECK(each->log() == Log{"start", "stop"});
  for (DatagramTransport* each : {port.port.get(), &port.protocol->transport()}) {
    each->write("x", address);
    each->write("x");
    each->connect("127.0.0.1", 1);
    each->setBroadcastAllowed(true);
    CHECK_FALSE(each->getBroadcastAllowed());
    each->setTTL(3);
    CHECK(each->getTTL() == 0);
    each->setLoopbackMode(true);
    CHECK_FALSE(each->getLoopbackMode());
    failureResultOf<MulticastJoinError>(each->joinGroup("228.0.0.5"));
    failureResultOf<MulticastJoinError>(each->leaveGroup("228.0.0.5"));
    successResultOf(each->setOutgoingInterface("127.0.0.1"));
    CHECK(each->getHost() == Address());
    successResultOf(each->stopListening());
  }
}

TEST_CASE("a DatagramProtocol and a transport of a test's own, on the stack") {
  struct Fake final : DatagramTransport {
    void write(std::string_view data, const Address&) override { written += data; }
    void write(std::string_view data) override { written += data; }
    void connect(const std::string&, PortNumber) override {}
    void setBroadcastAllowed(bool) override {}
    bool getBroadcastAllowed() const override { return false; }
    Deferred<void> joinGroup(const std::string&, const std::string&) override { return succeed(); }
    Deferred<void> leaveGroup(const std::string&, const std::string&) override { return succeed(); }
    void setTTL(int) override {}
    int getTTL() const override { return 1; }
    void setLoopbackMode(bool) override {}
    bool getLoopbackMode() const override { return true; }
    Deferred<void> setOutgoingInterface(const std::string&) override { return succeed(); }
    std::string getOutgoingInterface() const override { return {}; }
    Deferred<void> stopListening() override { return succeed(); }
    Address getHost() const override { return {}; }
    std::string written;
  };
  Recorder protocol;
  {
    Fake fake;
    protocol.makeConnection(fake);
    protocol.transport().write("hello");
    CHECK(fake.written == "hello");
    {
      Recorder shorter;
      Fake another;
      shorter.makeConnection(another);
    }
    Fake longer;
    {
      Recorder shorter;
      shorter.makeConnection(longer);
    }
    CHECK(longer.protocol() == nullptr);
  }
  CHECK(&protocol.transport() == &DatagramTransport::inert());
}
