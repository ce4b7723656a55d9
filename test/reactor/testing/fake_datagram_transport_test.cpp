#include <reactor/testing/fake_datagram_transport.hpp>

#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>

using namespace torsion;

namespace {

const Address kPeer = IPv4Address{"10.0.0.2", 7};
const Address kOther = IPv4Address{"10.0.0.3", 7};

struct Echo final : DatagramProtocol {
  void startProtocol() override { ++started; }
  void stopProtocol() override { ++stopped; }
  void datagramReceived(std::string_view data, const Address& from) override { transport().write(data, from); }
  int started = 0, stopped = 0;
};

struct Connected {
  std::shared_ptr<Echo> echo = std::make_shared<Echo>();
  FakeDatagramTransport transport;
  explicit Connected(Address host = IPv4Address{"10.0.0.1", 12345}, std::size_t most = 8192) : transport(host, most) {
    echo->makeConnection(transport);
  }
};

}  // namespace

TEST_CASE("FakeDatagramTransport: keeps what is written, with where it goes") {
  Connected t;
  CHECK(t.echo->started == 1);
  t.transport.deliver("ping", kPeer);
  t.transport.deliver("", kOther);
  CHECK(t.transport.written() == std::vector<Datagram>{{"ping", kPeer}, {"", kOther}});
  t.transport.clear();
  CHECK(t.transport.written().empty());
  CHECK(t.transport.getHost() == Address(IPv4Address{"10.0.0.1", 12345}));
}

TEST_CASE("FakeDatagramTransport: what is longer than maxPacketSize is cut") {
  Connected t(IPv6Address{"fd00::1", 5}, 3);
  t.transport.deliver("12345", IPv6Address{"fd00::2", 6});
  CHECK(t.transport.written() == std::vector<Datagram>{{"123", IPv6Address{"fd00::2", 6}}});
}

TEST_CASE("FakeDatagramTransport: refuses what a port refuses") {
  Connected t;
  CHECK_THROWS_AS(t.transport.write("x", HostnameAddress{"example.com", 7}), InvalidAddressError);
  CHECK_THROWS_AS(t.transport.write("x", IPv4Address{"example.com", 7}), InvalidAddressError);
  CHECK_THROWS_AS(t.transport.write("x", IPv6Address{"fd00::2", 7}), InvalidAddressError);
  CHECK_THROWS_AS(t.transport.write("x"), std::logic_error);
  CHECK_THROWS_AS(t.transport.write(std::string(65508, 'x'), kPeer), MessageLengthError);
  CHECK_THROWS_AS(t.transport.write("x", IPv4Address{"<broadcast>", 7}), std::system_error);
  CHECK_THROWS_AS(t.transport.setTTL(256), std::invalid_argument);
  CHECK(t.transport.written().empty());
  t.transport.setBroadcastAllowed(true);
  t.transport.write("x", IPv4Address{"<broadcast>", 7});
  t.transport.write(std::string(65507, 'x'), kPeer);
  CHECK(t.transport.written().size() == 2);
  CHECK_THROWS_AS(FakeDatagramTransport(UNIXAddress{"/x"}), std::invalid_argument);
}

TEST_CASE("FakeDatagramTransport: connected to one address") {
  Connected t;
  CHECK_THROWS_AS(t.transport.connect("example.com", 7), InvalidAddressError);
  t.transport.connect("10.0.0.2", 7);
  CHECK(t.transport.connectedTo() == kPeer);
  t.transport.write("x");
  t.transport.write("y", kPeer);
  CHECK_THROWS_AS(t.transport.write("z", kOther), InvalidAddressError);
  CHECK_THROWS_AS(t.transport.connect("10.0.0.2", 7), std::logic_error);
  t.transport.deliver("from another", kOther);
  CHECK(t.transport.written() == std::vector<Datagram>{{"x", kPeer}, {"y", kPeer}});
}

TEST_CASE("FakeDatagramTransport: groups") {
  Connected t;
  successResultOf(t.transport.joinGroup("224.0.0.9"));
  CHECK(t.transport.groups() == std::set<std::string>{"224.0.0.9"});
  failureResultOf<MulticastJoinError>(t.transport.joinGroup("224.0.0.9"));
  failureResultOf<MulticastJoinError>(t.transport.joinGroup("10.0.0.9"));
  failureResultOf<MulticastJoinError>(t.transport.joinGroup("ff02::9"));
  failureResultOf<MulticastJoinError>(t.transport.leaveGroup("224.0.0.8"));
  successResultOf(t.transport.leaveGroup("224.0.0.9"));
  CHECK(t.transport.groups().empty());
  CHECK(t.transport.getOutgoingInterface() == "0.0.0.0");
  successResultOf(t.transport.setOutgoingInterface("10.0.0.1"));
  CHECK(t.transport.getOutgoingInterface() == "10.0.0.1");
  CHECK(t.transport.getTTL() == 1);
  t.transport.setTTL(3);
  CHECK(t.transport.getTTL() == 3);
  CHECK(t.transport.getLoopbackMode());
  t.transport.setLoopbackMode(false);
  CHECK_FALSE(t.transport.getLoopbackMode());
}

TEST_CASE("FakeDatagramTransport: stopListening tells the protocol, and nothing follows") {
  Connected t;
  successResultOf(t.transport.stopListening());
  successResultOf(t.transport.stopListening());
  CHECK(t.echo->stopped == 1);
  CHECK(t.transport.disconnecting());
  t.transport.deliver("x", kPeer);
  t.transport.write("x", kPeer);
  t.echo->transport().write("x", kPeer);  // inert
  CHECK(t.transport.written().empty());
  failureResultOf<MulticastJoinError>(t.transport.joinGroup("224.0.0.9"));
}
