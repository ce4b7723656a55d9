// FakeDatagramTransport: a DatagramTransport that keeps what is written, for testing one DatagramProtocol by itself
// (twisted.internet.testing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <deferred/deferred.hpp>
#include <reactor/address.hpp>
#include <reactor/udp.hpp>

namespace torsion {

struct Datagram {
  std::string data;
  Address address;  ///< where it goes; of one that is received, where it came from
  bool operator==(const Datagram&) const = default;
};

/// Deliver datagrams to the protocol, and look at what it wrote:
///
///   auto echo = std::make_shared<DatagramEcho>();
///   FakeDatagramTransport transport;
///   echo->makeConnection(transport);
///   transport.deliver("ping", peer);
///   CHECK(transport.written() == std::vector<Datagram>{{"ping", peer}});
///
/// It may live on the stack, as may the protocol. What a real port refuses to send it refuses with the same errors.
class FakeDatagramTransport : public DatagramTransport {
 public:
  /// `host` is IPv4 or IPv6, and says which of them this is.
  explicit FakeDatagramTransport(Address host = IPv4Address{"10.0.0.1", 12345}, std::size_t maxPacketSize = 8192);

  /// What was sent since the last clear(), with the address it went to, also where the port is connected.
  const std::vector<Datagram>& written() const noexcept { return written_; }
  void clear() noexcept { written_.clear(); }
  /// Gives the protocol a datagram, as the network would: cut to maxPacketSize, and dropped if the port is closed or
  /// connected to another address. What datagramReceived throws comes out of it.
  void deliver(std::string_view data, const Address& from);

  /// The groups that it is a member of.
  const std::set<std::string>& groups() const noexcept { return groups_; }
  const std::optional<Address>& connectedTo() const noexcept { return connectedTo_; }
  /// True from stopListening() on.
  bool disconnecting() const noexcept { return closed_; }
  /// Whether this address, IPv4 or IPv6, is that of a group.
  static bool isMulticast(const std::string& literal);

  void write(std::string_view data, const Address& address) override;
  void write(std::string_view data) override;
  void connect(const std::string& host, PortNumber port) override;
  void setBroadcastAllowed(bool allowed) override { broadcastAllowed_ = allowed; }
  bool getBroadcastAllowed() const override { return broadcastAllowed_; }
  /// Fire at once. `group` must be an address: names are not looked up.
  Deferred<void> joinGroup(const std::string& group, const std::string& interface = "") override;
  Deferred<void> leaveGroup(const std::string& group, const std::string& interface = "") override;
  void setTTL(int hops) override;
  int getTTL() const override { return ttl_; }
  void setLoopbackMode(bool on) override { loopback_ = on; }
  bool getLoopbackMode() const override { return loopback_; }
  Deferred<void> setOutgoingInterface(const std::string& interface) override;
  std::string getOutgoingInterface() const override { return outgoingInterface_; }
  /// Calls the protocol's stopProtocol() and fires: at once, unlike a real port.
  Deferred<void> stopListening() override;
  Address getHost() const override { return closed_ ? Address() : host_; }

 protected:
  /// Writes nothing from now on, and receives nothing.
  void close() noexcept { closed_ = true; }

 private:
  void checkAddress(const Address& address) const;
  void send(std::string_view data, const Address& address);
  void checkGroup(const std::string& group, bool member) const;

  Address host_;
  std::size_t maxPacketSize_;
  std::vector<Datagram> written_;
  std::set<std::string> groups_;
  std::optional<Address> connectedTo_;
  std::string outgoingInterface_;
  int ttl_ = 1;
  bool loopback_ = true;
  bool broadcastAllowed_ = false;
  bool closed_ = false;
};

}  // namespace torsion
