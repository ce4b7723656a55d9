#include <reactor/udp.hpp>

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <optional>
#include <source_location>
#include <span>
#include <stdexcept>
#include <system_error>
#include <variant>
#include <vector>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <deferred/resolver.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace {

class InertDatagramTransport final : public DatagramTransport {
 public:
  void write(std::string_view, const Address&) override {}
  void write(std::string_view) override {}
  void connect(const std::string&, PortNumber) override {}
  void setBroadcastAllowed(bool) override {}
  bool getBroadcastAllowed() const override { return false; }
  Deferred<void> joinGroup(const std::string& group, const std::string&) override { return noPort(group); }
  Deferred<void> leaveGroup(const std::string& group, const std::string&) override { return noPort(group); }
  void setTTL(int) override {}
  int getTTL() const override { return 0; }
  void setLoopbackMode(bool) override {}
  bool getLoopbackMode() const override { return false; }
  Deferred<void> setOutgoingInterface(const std::string&) override { return succeed(); }
  std::string getOutgoingInterface() const override { return {}; }
  Deferred<void> stopListening() override { return succeed(); }
  Address getHost() const override { return {}; }

 private:
  static Deferred<void> noPort(const std::string& group) {
    return fail<void>(MulticastJoinError("multicast group " + group + ": the protocol has no port (any more)"));
  }
};

}  // namespace

DatagramTransport::~DatagramTransport() {
  if (protocol_) protocol_->detach();
}

DatagramTransport& DatagramTransport::inert() noexcept {
  static InertDatagramTransport transport;
  return transport;
}

DatagramProtocol::~DatagramProtocol() {
  if (transport_->protocol_ == this) transport_->protocol_ = nullptr;
}

void DatagramProtocol::makeConnection(DatagramTransport& transport) {
  if (transport_ != &DatagramTransport::inert()) {
    throw std::logic_error("a DatagramProtocol was given to a second port; give each port its own");
  }
  transport_ = &transport;
  transport.protocol_ = this;
  transport.kept_ = weak_from_this().lock();
  try {
    startProtocol();
  } catch (...) {
    const std::shared_ptr<DatagramProtocol> self = detach();
    throw;
  }
}

void DatagramProtocol::doStop() {
  const std::shared_ptr<DatagramProtocol> self = detach();
  stopProtocol();
}

// Gives what kept this protocol alive.
std::shared_ptr<DatagramProtocol> DatagramProtocol::detach() noexcept {
  DatagramTransport& old = *transport_;
  transport_ = &DatagramTransport::inert();
  if (old.protocol_ != this) return nullptr;
  old.protocol_ = nullptr;
  return std::move(old.kept_);
}

namespace detail {
namespace {

const Logger kLog("torsion.reactor");

// Datagrams read from one port before others have their turn.
constexpr int kReadsPerTurn = 64;

void check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::system_category(), what);
}

SocketAddress parse(const std::string& literal, std::uint16_t port, int family, const std::string& what) {
  const auto address = socketAddress(literal, port);
  if (!address) {
    throw InvalidAddressError(what + ": takes IP addresses, not names; Reactor::resolve finds the address of one");
  }
  if (address->family() != family) {
    throw InvalidAddressError(what + (family == AF_INET ? ": not an IPv4 address, and the port is of IPv4"
                                                        : ": not an IPv6 address, and the port is of IPv6"));
  }
  return *address;
}

unsigned interfaceIndex(const std::string& name) {
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) throw InvalidAddressError("this machine has no interface called \"" + name + "\"");
  return index;
}

class UDPPort final : public DatagramTransport,
                      public Disconnectable,
                      public Watcher,
                      public std::enable_shared_from_this<UDPPort> {
 public:
  UDPPort(ReactorImpl& reactor, UniqueFd fd, int family, std::size_t maxPacketSize, const std::source_location& where)
      : Disconnectable(reactor, where),
        reactor_(reactor),
        fd_(std::move(fd)),
        family_(family),
        maxPacketSize_(maxPacketSize) {}

  void start(DatagramProtocol& protocol) {
    self_ = shared_from_this();
    try {
      protocol.makeConnection(*this);
      if (stopping_ || !fd_) return;
      if (const int error = reactor_.poller.add(fd(), EPOLLIN, *this)) {
        throw std::system_error(error, std::system_category(), "a UDP port cannot be watched");
      }
      watched_ = true;
    } catch (...) {
      leave();
      fd_.reset();
      self_.reset();
      throw;
    }
  }

  // ---- sending

  void write(std::string_view data, const Address& address) override {
    if (!fd_) return;
    const auto* v4 = std::get_if<IPv4Address>(&address);
    const auto* v6 = std::get_if<IPv6Address>(&address);
    const std::uint16_t port = v4 ? v4->port : v6 ? v6->port : 0;
    const bool broadcast = v4 && v4->host == "<broadcast>";
    const SocketAddress to = parse(broadcast ? "255.255.255.255" : literalOf(address), port, family_,
                                   "sending to " + torsion::describe(address));
    if (!connectedTo_) return send(data, to.data(), to.size);
    if (toAddress(to) != *connectedTo_) {
      throw InvalidAddressError("sending to " + torsion::describe(address) + ": the port is connected to " +
                                torsion::describe(*connectedTo_) + "; listen on another for others");
    }
    send(data, nullptr, 0);
  }
  void write(std::string_view data) override {
    if (!fd_) return;
    if (!connectedTo_) throw std::logic_error("a datagram without an address: give it one, or connect() the port");
    send(data, nullptr, 0);
  }
  void connect(const std::string& host, PortNumber port) override {
    if (!fd_) return;
    if (connectedTo_) throw std::logic_error("connect: the port is connected already; listen on another one");
    const SocketAddress to = parse(host, port, family_, "connecting to " + host);
    check(::connect(fd(), to.data(), to.size), "connecting a UDP port");
    connectedTo_ = toAddress(to);
  }

  // ---- options

  void setBroadcastAllowed(bool allowed) override { setOption(SOL_SOCKET, SO_BROADCAST, allowed); }
  bool getBroadcastAllowed() const override { return getOption(SOL_SOCKET, SO_BROADCAST) != 0; }
  void setTTL(int hops) override {
    if (hops < 0 || hops > 255) throw std::invalid_argument("setTTL: " + std::to_string(hops) + " is not 0 to 255");
    setOption(level(), isIPv6() ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL, hops);
  }
  int getTTL() const override { return getOption(level(), isIPv6() ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL); }
  void setLoopbackMode(bool on) override { setOption(level(), isIPv6() ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP, on); }
  bool getLoopbackMode() const override {
    return getOption(level(), isIPv6() ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP) != 0;
  }

  // ---- multicast

  Deferred<void> joinGroup(const std::string& group, const std::string& interface) override {
    return changeMembership(group, interface, true);
  }
  Deferred<void> leaveGroup(const std::string& group, const std::string& interface) override {
    return changeMembership(group, interface, false);
  }
  Deferred<void> setOutgoingInterface(const std::string& interface) override {
    return execute([&] {
      if (!fd_) return;
      if (isIPv6()) {
        setOption(level(), IPV6_MULTICAST_IF, static_cast<int>(interface.empty() ? 0 : interfaceIndex(interface)));
      } else {
        const in_addr address = interfaceAddress(interface);
        check(::setsockopt(fd(), level(), IP_MULTICAST_IF, &address, sizeof address), "setOutgoingInterface");
      }
    });
  }
  std::string getOutgoingInterface() const override {
    if (isIPv6()) {
      char name[IF_NAMESIZE];
      const int index = getOption(level(), IPV6_MULTICAST_IF);
      return index != 0 && ::if_indextoname(static_cast<unsigned>(index), name) ? name : "";
    }
    SocketAddress address;
    auto* v4 = ::new (&address.storage) sockaddr_in{};
    v4->sin_family = AF_INET;
    v4->sin_addr.s_addr = static_cast<in_addr_t>(getOption(level(), IP_MULTICAST_IF));
    return literalOf(toAddress(address));
  }

  // ---- closing

  Deferred<void> stopListening() override {
    if (!fd_) return succeed();
    if (!stopping_) {
      stopping_ = true;
      stopWatching();
      boost::asio::post(reactor_.context, [self = shared_from_this()] { self->close(); });
    }
    return stopped_.emplace_back().deferred();
  }
  void shutdown() override { close(); }

  Address getHost() const override { return fd_ ? localAddress(fd()) : Address(); }
  std::string describe() const override { return "UDP port " + torsion::describe(getHost()); }

 private:
  int fd() const noexcept { return fd_.get(); }
  bool isIPv6() const noexcept { return family_ == AF_INET6; }
  int level() const noexcept { return isIPv6() ? IPPROTO_IPV6 : IPPROTO_IP; }

  void setOption(int level, int name, int value) {
    if (fd_) check(::setsockopt(fd(), level, name, &value, sizeof value), "an option of a UDP port");
  }
  int getOption(int level, int name) const {
    int value = 0;
    socklen_t size = sizeof value;
    if (fd_) check(::getsockopt(fd(), level, name, &value, &size), "an option of a UDP port");
    return value;
  }

  void send(std::string_view data, const sockaddr* to, socklen_t size) {
    for (bool again = false;; again = true) {
      if (::sendto(fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL, to, size) >= 0) return;
      const int error = errno;
      if (error == EINTR) continue;
      if (error == ECONNREFUSED) refusedSoon();
      // A connected socket tells of what became of an earlier datagram, once, in place of sending this one.
      if (connectedTo_ && !again) continue;
      switch (error) {
        case EAGAIN:
        case ENOBUFS:
        case ENOMEM:
        case ECONNREFUSED:
          return;
        case EMSGSIZE:
          throw MessageLengthError("a datagram of " + std::to_string(data.size()) + " bytes is too long to send");
        case EACCES:
          throw std::system_error(error, std::system_category(),
                                  "sending a datagram (to a broadcast address? Then call setBroadcastAllowed(true))");
        default:
          throw std::system_error(error, std::system_category(), "sending a datagram");
      }
    }
  }

  void refusedSoon() {
    if (!connectedTo_ || refusalPosted_) return;
    refusalPosted_ = true;
    boost::asio::post(reactor_.context, [self = shared_from_this()] {
      self->refusalPosted_ = false;
      self->callProtocol("connectionRefused", &DatagramProtocol::connectionRefused);
    });
  }

  // ---- receiving

  void ready(std::uint32_t) override {
    const auto self = shared_from_this();
    const std::span<char> buffer = reactor_.buffers.readBuffer();
    const std::size_t size = std::min(maxPacketSize_, buffer.size());
    for (int i = 0; i < kReadsPerTurn; ++i) {
      if (stopping_ || !fd_) return;
      SocketAddress from;
      const ssize_t n = ::recvfrom(fd(), buffer.data(), size, MSG_DONTWAIT, from.data(), &from.size);
      if (n >= 0) {
        callProtocol("datagramReceived", &DatagramProtocol::datagramReceived,
                     std::string_view(buffer.data(), static_cast<std::size_t>(n)), toAddress(from));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return;
      } else if (errno == ECONNREFUSED && connectedTo_) {
        callProtocol("connectionRefused", &DatagramProtocol::connectionRefused);
      }
      // Any other error is that of a datagram sent before, which is lost as others are.
    }
  }

  template <class... Parameters, class... Arguments>
  void callProtocol(const char* what, void (DatagramProtocol::*method)(Parameters...), const Arguments&... arguments) {
    if (stopping_ || !protocol()) return;
    try {
      (protocol()->*method)(arguments...);
    } catch (...) {
      kLog.failure("Unhandled error in {what} of {port}", Failure::current(), {{"what", what}, {"port", describe()}});
    }
  }

  // ---- multicast

  static in_addr interfaceAddress(const std::string& interface) {
    if (interface.empty()) return in_addr{INADDR_ANY};
    const SocketAddress address = parse(interface, 0, AF_INET, "the interface " + interface);
    return reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr;
  }

  Deferred<void> changeMembership(const std::string& group, const std::string& interface, bool join) {
    if (!fd_) return inert().joinGroup(group);
    return reactor_.reactor.resolve(group).addCallback(
        [self = shared_from_this(), group, interface, join](const std::vector<Address>& addresses) {
          self->changeMembership(group, addresses, interface, join);
        });
  }

  void changeMembership(const std::string& group, const std::vector<Address>& addresses, const std::string& interface,
                        bool join) {
    const std::string what = (join ? "joining group " : "leaving group ") + group +
                             (interface.empty() ? std::string() : " on " + interface) + ": ";
    if (!fd_) throw MulticastJoinError(what + "the port was closed meanwhile");
    std::optional<SocketAddress> address;
    for (const Address& candidate : addresses) {
      if (std::holds_alternative<IPv6Address>(candidate) == isIPv6()) address = socketAddress(literalOf(candidate), 0);
      if (address) break;
    }
    if (!address) throw MulticastJoinError(what + "the port is of " + (isIPv6() ? "IPv6" : "IPv4") + ", it is not");
    int result = 0;
    if (isIPv6()) {
      const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address->storage);
      const ipv6_mreq request{v6.sin6_addr, interface.empty() ? v6.sin6_scope_id : interfaceIndex(interface)};
      result = ::setsockopt(fd(), level(), join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &request, sizeof request);
    } else {
      const auto& v4 = reinterpret_cast<const sockaddr_in&>(address->storage);
      const ip_mreq request{v4.sin_addr, interfaceAddress(interface)};
      result = ::setsockopt(fd(), level(), join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &request, sizeof request);
    }
    if (result == 0) return;
    const int error = errno;
    const char* hint = error == EADDRINUSE      ? " (it is a member already)"
                       : error == EADDRNOTAVAIL ? " (it is no member)"
                       : error == ENODEV        ? " (name one of this machine's interfaces)"
                       : error == EINVAL        ? " (that is no multicast address)"
                                                : "";
    throw MulticastJoinError(what + std::system_category().message(error) + hint, error);
  }

  // ---- closing

  void stopWatching() {
    // Not forget(): an adopted socket stays open elsewhere, and so would stay in the set.
    if (std::exchange(watched_, false)) reactor_.poller.remove(fd(), *this);
  }

  void close() {
    if (!fd_) return;
    const auto self = std::move(self_);
    stopping_ = true;
    leave();
    stopWatching();
    if (protocol()) {
      try {
        protocol()->doStop();
      } catch (...) {
        kLog.failure("Unhandled error in stopProtocol of {port}", Failure::current(), {{"port", describe()}});
      }
    }
    fd_.reset();
    for (const auto& resolver : std::exchange(stopped_, {})) resolver.callback();
  }

  ReactorImpl& reactor_;
  UniqueFd fd_;  // until it is closed
  const int family_;
  const std::size_t maxPacketSize_;
  std::shared_ptr<UDPPort> self_;  // while it is open
  std::optional<Address> connectedTo_;
  std::vector<Resolver<void>> stopped_;
  bool watched_ = false;
  bool stopping_ = false;
  bool refusalPosted_ = false;
};

std::shared_ptr<DatagramTransport> listen(ReactorImpl& reactor, std::uint16_t port, DatagramProtocol& protocol,
                                          const std::string& interface, std::size_t maxPacketSize, bool listenMultiple,
                                          const std::source_location& where) {
  reactor.checkUsable();
  const auto address = socketAddress(interface.empty() ? "0.0.0.0" : interface, port);
  if (!address) {
    throw InvalidAddressError("listening on " + interface + ": an interface is named by its IPv4 or IPv6 address");
  }
  UniqueFd fd(::socket(address->family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto set = [&](int level, int name, int value) {
    return ::setsockopt(fd.get(), level, name, &value, sizeof value) == 0;
  };
  if (!fd || (address->family() == AF_INET6 && !set(IPPROTO_IPV6, IPV6_V6ONLY, 0)) ||
      (listenMultiple && (!set(SOL_SOCKET, SO_REUSEADDR, 1) || !set(SOL_SOCKET, SO_REUSEPORT, 1))) ||
      ::bind(fd.get(), address->data(), address->size) < 0) {
    throw CannotListenError(interface, port, errno);
  }
  const auto listening = std::make_shared<UDPPort>(reactor, std::move(fd), address->family(), maxPacketSize, where);
  listening->start(protocol);
  return listening;
}

}  // namespace
}  // namespace detail

std::shared_ptr<DatagramTransport> Reactor::listenUDP(PortNumber port, std::shared_ptr<DatagramProtocol> protocol,
                                                      const std::string& interface, std::size_t maxPacketSize,
                                                      std::source_location where) {
  detail::require(protocol, "listenUDP: there is no protocol");
  return detail::listen(*impl_, port, *protocol, interface, maxPacketSize, false, where);
}

std::shared_ptr<DatagramTransport> Reactor::listenMulticast(PortNumber port, std::shared_ptr<DatagramProtocol> protocol,
                                                            const std::string& interface, std::size_t maxPacketSize,
                                                            bool listenMultiple, std::source_location where) {
  detail::require(protocol, "listenMulticast: there is no protocol");
  return detail::listen(*impl_, port, *protocol, interface, maxPacketSize, listenMultiple, where);
}

std::shared_ptr<DatagramTransport> Reactor::adoptDatagramPort(int fd, int family,
                                                              std::shared_ptr<DatagramProtocol> protocol,
                                                              std::size_t maxPacketSize, std::source_location where) {
  impl_->checkUsable();
  detail::require(protocol, "adoptDatagramPort: there is no protocol");
  if (family != AF_INET && family != AF_INET6) {
    throw UnsupportedAddressFamily("adoptDatagramPort: the family is neither AF_INET nor AF_INET6");
  }
  detail::UniqueFd duplicate = detail::duplicateSocket(fd, family, SOCK_DGRAM, "adoptDatagramPort");
  const auto adopted = std::make_shared<detail::UDPPort>(*impl_, std::move(duplicate), family, maxPacketSize, where);
  adopted->start(*protocol);
  return adopted;
}

}  // namespace torsion
