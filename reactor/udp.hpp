// UDP: what users write (DatagramProtocol) and where it writes (DatagramTransport); broadcast and multicast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <reactor/address.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

class DatagramProtocol;

/// A UDP port, as its protocol and who made it see it (Twisted's IUDPTransport, IMulticastTransport and
/// IListeningPort). Kept by its reactor until it is closed; from then on, and once the reactor is gone, it does
/// nothing. Where the system refuses, these throw std::system_error (Twisted's OSError), or the Deferred fails with it,
/// unless another error is named.
class DatagramTransport : public ListeningPort {
 public:
  DatagramTransport() noexcept = default;
  DatagramTransport(const DatagramTransport&) = delete;
  DatagramTransport& operator=(const DatagramTransport&) = delete;
  /// A protocol that outlives its transport is given the inert one.
  ~DatagramTransport() override;

  /// Sends `data` as one datagram, before this returns. `address`: an IPv4Address or IPv6Address, as datagramReceived
  /// got it; IPv4Address{"<broadcast>", port} is everybody on the local network. Throws InvalidAddressError for a name
  /// (Reactor::resolve finds its address), for an address of the other family, and on a connected port for any but the
  /// one it is connected to; MessageLengthError if it is too long for one datagram (65507 bytes in IPv4).
  ///
  /// UDP may lose any datagram, and so may this: one for which the system has no room now is dropped.
  virtual void write(std::string_view data, const Address& address) = 0;
  /// Sends to the address that the port is connected to. Throws std::logic_error if it is not connected.
  virtual void write(std::string_view data) = 0;
  /// From now on sends to this address and receives from it alone, and the protocol hears when nobody listens there:
  /// connectionRefused(). Once in a port's life (std::logic_error). Throws InvalidAddressError for a name.
  virtual void connect(const std::string& host, PortNumber port) = 0;

  /// Whether the port may send to broadcast addresses; false until allowed.
  virtual void setBroadcastAllowed(bool allowed) = 0;
  virtual bool getBroadcastAllowed() const = 0;

  /// Receives what is sent to `group`, a multicast address or a name of one, at once if it is an address. `interface`:
  /// for IPv4 the address of the interface to listen on, for IPv6 its name ("eth0"); empty: one that the system
  /// chooses. Fires when it is so. Fails with MulticastJoinError, with DNSLookupError, and with
  /// InvalidAddressError for an interface that is none. cancel() abandons the look-up.
  virtual Deferred<void> joinGroup(const std::string& group, const std::string& interface = "") = 0;
  /// The reverse, with the same arguments.
  virtual Deferred<void> leaveGroup(const std::string& group, const std::string& interface = "") = 0;
  /// How many networks a multicast datagram may reach: 0 to 255, 1 at first (not beyond the local one).
  /// setTTL throws std::invalid_argument for any other.
  virtual void setTTL(int hops) = 0;
  virtual int getTTL() const = 0;
  /// Whether what is sent to a group comes back to members of it on this machine; true at first.
  virtual void setLoopbackMode(bool on) = 0;
  virtual bool getLoopbackMode() const = 0;
  /// The interface that multicast datagrams leave by, named as for joinGroup. Has fired when it returns. Fails with
  /// InvalidAddressError.
  virtual Deferred<void> setOutgoingInterface(const std::string& interface) = 0;
  /// "0.0.0.0", or in IPv6 "", if the system chooses.
  virtual std::string getOutgoingInterface() const = 0;

  /// Receives no more. On a later turn the protocol gets stopProtocol(), the socket is closed, and this fires.
  Deferred<void> stopListening() override = 0;
  /// The address bound (after connect(), the one it sends from); unknown once it is closed.
  Address getHost() const override = 0;

  /// The protocol that this transport feeds and keeps alive; null before makeConnection and after doStop.
  DatagramProtocol* protocol() const noexcept { return protocol_; }

  /// Stands in for a transport that is gone: sends nothing, is at no address.
  static DatagramTransport& inert() noexcept;

 private:
  friend class DatagramProtocol;
  DatagramProtocol* protocol_ = nullptr;
  std::shared_ptr<DatagramProtocol> kept_;  // owns *protocol_, unless that lives on a stack
};

/// All of one UDP port's datagrams (Twisted's DatagramProtocol). Derive from it and override what you need:
///
///   struct Echo : DatagramProtocol {
///     void datagramReceived(std::string_view data, const Address& from) override {
///       transport().write(data, from);
///     }
///   };
///   reactor().listenUDP(9999, std::make_shared<Echo>());
///
/// The port keeps it from startProtocol until stopProtocol has returned. It may be given to another port afterwards.
class DatagramProtocol : public std::enable_shared_from_this<DatagramProtocol> {
 public:
  DatagramProtocol() noexcept = default;
  DatagramProtocol(const DatagramProtocol&) = delete;
  DatagramProtocol& operator=(const DatagramProtocol&) = delete;
  virtual ~DatagramProtocol();

  /// The port is bound; transport() may be written to. Called before listenUDP returns; what it throws closes the port
  /// and is thrown by listenUDP.
  virtual void startProtocol() {}
  /// The port is gone, and transport() with it; the last call.
  virtual void stopProtocol() {}
  /// One datagram and who sent it; what was longer than the port's maxPacketSize has lost its end. `data` is valid
  /// during the call only. What this throws is logged, and the port goes on.
  virtual void datagramReceived(std::string_view data, const Address& address) { (void)data, (void)address; }
  /// A datagram that a connected port sent found nobody listening. Always on a later turn.
  virtual void connectionRefused() {}

  /// Never dangles: the inert transport before startProtocol and from stopProtocol on.
  DatagramTransport& transport() const noexcept { return *transport_; }

  /// Called by transports: attaches `transport`, which keeps this protocol alive from now on, and calls
  /// startProtocol(). Throws std::logic_error if it is attached to another.
  void makeConnection(DatagramTransport& transport);
  /// Called by transports: detaches this protocol and calls stopProtocol(). May destroy this protocol.
  void doStop();

  /// As Protocol::hold: wraps a callback so that this protocol lives until the callback has been run or dropped.
  template <class F>
  Held<F> hold(F f) {
    return Held<F>(weak_from_this().lock(), std::move(f));
  }

 private:
  friend class DatagramTransport;
  std::shared_ptr<DatagramProtocol> detach() noexcept;
  DatagramTransport* transport_ = &DatagramTransport::inert();
};

/// Twisted's IReactorUDP, IReactorMulticast, and adoptDatagramPort of its IReactorSocket. Each calls startProtocol()
/// before it returns, and throws std::logic_error if `protocol` has a port already.
class UDP {
 public:
  /// Receives on `port` (0: one that the system chooses) of `interface` (an address; empty: all of IPv4; "::": all).
  /// Throws CannotListenError, and InvalidAddressError for a name. `maxPacketSize`, in bytes: longer datagrams are cut.
  virtual std::shared_ptr<DatagramTransport> listenUDP(
      PortNumber port, std::shared_ptr<DatagramProtocol> protocol, const std::string& interface = "",
      std::size_t maxPacketSize = 8192, std::source_location where = std::source_location::current()) = 0;
  /// As listenUDP. `listenMultiple`: other programs (and ports) that say so too may listen there at the same time; each
  /// of them receives every multicast datagram, and one of them any other.
  virtual std::shared_ptr<DatagramTransport> listenMulticast(
      PortNumber port, std::shared_ptr<DatagramProtocol> protocol, const std::string& interface = "",
      std::size_t maxPacketSize = 8192, bool listenMultiple = false,
      std::source_location where = std::source_location::current()) = 0;
  /// As listenUDP, on a bound socket that the caller made or was given: `fd`, of `family` AF_INET or AF_INET6. The port
  /// has a duplicate of it; the caller goes on owning `fd` and may close it now. Throws UnsupportedAddressFamily for
  /// another family, std::invalid_argument if `fd` is no UDP socket of that family.
  virtual std::shared_ptr<DatagramTransport> adoptDatagramPort(
      int fd, int family, std::shared_ptr<DatagramProtocol> protocol, std::size_t maxPacketSize = 8192,
      std::source_location where = std::source_location::current()) = 0;

 protected:
  ~UDP() = default;
};

}  // namespace torsion
