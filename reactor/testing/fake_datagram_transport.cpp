#include <reactor/testing/fake_datagram_transport.hpp>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <variant>

#include <deferred/functions.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>

namespace torsion {

namespace {

constexpr std::size_t kLongestIPv4 = 65507, kLongestIPv6 = 65527;

bool isBroadcast(const Address& address) {
  const auto* v4 = std::get_if<IPv4Address>(&address);
  return v4 && (v4->host == "<broadcast>" || v4->host == "255.255.255.255");
}

}  // namespace

bool FakeDatagramTransport::isMulticast(const std::string& literal) {
  if (isIPv6Address(literal)) return literal.starts_with("ff") || literal.starts_with("FF");
  if (!isIPAddress(literal)) return false;
  const int first = std::stoi(literal);
  return first >= 224 && first < 240;
}

FakeDatagramTransport::FakeDatagramTransport(Address host, std::size_t maxPacketSize)
    : host_(std::move(host)), maxPacketSize_(maxPacketSize) {
  const bool v6 = std::holds_alternative<IPv6Address>(host_);
  if (!v6 && !std::holds_alternative<IPv4Address>(host_)) {
    throw std::invalid_argument("FakeDatagramTransport: the host is an IPv4Address or an IPv6Address");
  }
  if (!v6) outgoingInterface_ = "0.0.0.0";
}

void FakeDatagramTransport::checkAddress(const Address& address) const {
  const std::string literal = detail::literalOf(address);
  if (address.index() == host_.index() && (isBroadcast(address) || isIPAddress(literal) || isIPv6Address(literal))) {
    return;
  }
  throw InvalidAddressError("sending to " + describe(address) +
                            ": give an address of the port's own family; Reactor::resolve finds that of a name");
}

void FakeDatagramTransport::send(std::string_view data, const Address& address) {
  if (data.size() > (std::holds_alternative<IPv6Address>(host_) ? kLongestIPv6 : kLongestIPv4)) {
    throw MessageLengthError("a datagram of " + std::to_string(data.size()) + " bytes is too long to send");
  }
  if (isBroadcast(address) && !broadcastAllowed_) {
    throw std::system_error(EACCES, std::system_category(),
                            "sending a datagram (to a broadcast address? Then call setBroadcastAllowed(true))");
  }
  written_.push_back({std::string(data), address});
}

void FakeDatagramTransport::write(std::string_view data, const Address& address) {
  if (closed_) return;
  checkAddress(address);
  if (connectedTo_ && address != *connectedTo_) {
    throw InvalidAddressError("sending to " + describe(address) + ": the port is connected to " +
                              describe(*connectedTo_) + "; listen on another for others");
  }
  send(data, address);
}

void FakeDatagramTransport::write(std::string_view data) {
  if (closed_) return;
  if (!connectedTo_) throw std::logic_error("a datagram without an address: give it one, or connect() the port");
  send(data, *connectedTo_);
}

void FakeDatagramTransport::connect(const std::string& host, PortNumber port) {
  if (closed_) return;
  if (connectedTo_) throw std::logic_error("connect: the port is connected already; listen on another one");
  const Address address = isIPv6Address(host) ? Address(IPv6Address{host, port}) : Address(IPv4Address{host, port});
  checkAddress(address);
  connectedTo_ = address;
}

void FakeDatagramTransport::deliver(std::string_view data, const Address& from) {
  if (closed_ || !protocol() || (connectedTo_ && from != *connectedTo_)) return;
  protocol()->datagramReceived(data.substr(0, maxPacketSize_), from);
}

void FakeDatagramTransport::checkGroup(const std::string& group, bool member) const {
  const char* wrong = nullptr;
  if (!isMulticast(group)) {
    wrong = "it is no multicast address";
  } else if (isIPv6Address(group) != std::holds_alternative<IPv6Address>(host_)) {
    wrong = "it is not of the port's family";
  } else if (groups_.contains(group) != member) {
    wrong = member ? "the port is no member" : "the port is a member already";
  }
  if (closed_) wrong = "the port is closed";
  if (wrong) throw MulticastJoinError("multicast group " + group + ": " + wrong);
}

Deferred<void> FakeDatagramTransport::joinGroup(const std::string& group, const std::string&) {
  return execute([&] {
    checkGroup(group, false);
    groups_.insert(group);
  });
}

Deferred<void> FakeDatagramTransport::leaveGroup(const std::string& group, const std::string&) {
  return execute([&] {
    checkGroup(group, true);
    groups_.erase(group);
  });
}

void FakeDatagramTransport::setTTL(int hops) {
  if (hops < 0 || hops > 255) throw std::invalid_argument("setTTL: " + std::to_string(hops) + " is not 0 to 255");
  ttl_ = hops;
}

Deferred<void> FakeDatagramTransport::setOutgoingInterface(const std::string& interface) {
  outgoingInterface_ = interface;
  return succeed();
}

Deferred<void> FakeDatagramTransport::stopListening() {
  if (!closed_) {
    close();
    if (protocol()) protocol()->doStop();
  }
  return succeed();
}

}  // namespace torsion
