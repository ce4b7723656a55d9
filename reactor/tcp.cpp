// Reactor's listenTCP and connectTCP.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>

#include <reactor/detail/name_files.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/stream_connector.hpp>
#include <reactor/detail/stream_port.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace detail {
namespace {

// A segment of this size is never split: TCP's smallest maximum (RFC 9293, 3.7.1) without its options.
constexpr std::size_t kSmallestSegment = 536 - 40;

int setOption(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value);
}
bool getOption(int fd, int level, int name) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 && value != 0;
}

class TCPConnection final : public StreamConnection {
 public:
  using StreamConnection::StreamConnection;

  /// For a client's: gets TCP_NODELAY, as a server's does, but not before it makes a difference. The first segment has
  /// nothing to wait for, and many clients send no second one.
  void delayNoDelay() noexcept { noDelayDue_ = true; }
  /// Of a socket whose acknowledgements wait for something to go with; see connectTo.
  void delayQuickAck() noexcept { quickAckDue_ = true; }

  void setTcpNoDelay(bool on) override {
    noDelayDue_ = false;
    setOption(fd(), IPPROTO_TCP, TCP_NODELAY, on);
  }
  bool getTcpNoDelay() const override { return noDelayDue_ || getOption(fd(), IPPROTO_TCP, TCP_NODELAY); }
  void setTcpKeepAlive(bool on) override { setOption(fd(), SOL_SOCKET, SO_KEEPALIVE, on); }
  bool getTcpKeepAlive() const override { return getOption(fd(), SOL_SOCKET, SO_KEEPALIVE); }
  std::string describe() const override { return "TCP connection with " + torsion::describe(getPeer()); }

 private:
  ssize_t transmit(std::string_view data) override {
    if (noDelayDue_ && (sent_ || data.size() > kSmallestSegment)) setTcpNoDelay(true);
    sent_ = true;
    return StreamConnection::transmit(data);
  }

  void received() override {
    if (std::exchange(quickAckDue_, false)) setOption(fd(), IPPROTO_TCP, TCP_QUICKACK, 1);
  }

  bool noDelayDue_ = false;
  bool quickAckDue_ = false;
  bool sent_ = false;
};

class TCPPort final : public StreamPort {
 public:
  using StreamPort::StreamPort;
  std::string describe() const override { return "TCP port " + torsion::describe(getHost()); }

 private:
  Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, Address peer) override {
    return makeTCPConnection(reactor, std::move(fd), std::move(peer), where());
  }
};

class TCPConnector final : public StreamConnector {
 public:
  TCPConnector(ReactorImpl& reactor, std::string host, std::uint16_t port, std::shared_ptr<ClientFactory> factory,
               Duration timeout, std::string bindAddress, const std::source_location& where)
      : StreamConnector(reactor, std::move(factory), timeout, where),
        host_(std::move(host)),
        port_(port),
        bindAddress_(std::move(bindAddress)) {}

  Address getDestination() const override {
    if (isIPAddress(host_)) return IPv4Address{host_, port_};
    if (isIPv6Address(host_)) return IPv6Address{host_, port_};
    return HostnameAddress{host_, port_};
  }

 private:
  void begin(Attempt& attempt) override {
    if (const auto address = socketAddress(host_, port_)) return connectTo(attempt, *address);
    attempt.waitFor(
        attempt.reactor()
            .reactor.resolve(host_, attempt.where())
            .addCallbacks(
                [this, at = Ref(attempt)](const std::vector<Address>& addresses) { resolved(*at.get(), addresses); },
                [at = Ref(attempt)](const Failure& failure) { at->failLater(failure); }, attempt.where()));
  }

  void resolved(Attempt& attempt, const std::vector<Address>& addresses) {
    if (attempt.over()) return;
    const auto address = addresses.empty() ? std::nullopt : socketAddress(literalOf(addresses.front()), port_);
    if (!address) return attempt.failLater(DNSLookupError("the name " + host_ + " has no address"));
    connectTo(attempt, *address);
  }

  void connectTo(Attempt& attempt, const SocketAddress& address) {
    UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return attempt.failLater(attempt.failureFor(errno));
    if (!bindAddress_.empty()) {
      const auto local = socketAddress(interfaceAddress(bindAddress_), 0);
      if (!local || ::bind(fd.get(), local->data(), local->size) < 0) {
        const int error = local ? errno : EADDRNOTAVAIL;
        return attempt.failLater(ConnectBindError("connecting to " + torsion::describe(getDestination()) + " from " +
                                                      bindAddress_ + ": " + std::system_category().message(error),
                                                  error));
      }
    }
    // Acknowledgements, the handshake's among them, now wait 40 ms and more for something to go with. That costs
    // nothing until the server has answered what the client sends; then, if the connection goes on, they are as usual.
    if (clientSpeaksFirst()) setOption(fd.get(), IPPROTO_TCP, TCP_QUICKACK, 0);
    attempt.connectTo(std::move(fd), address);
  }

  Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, const Address& peer,
                                       const std::source_location& where) override {
    auto* connection = new TCPConnection(reactor, std::move(fd), peer, where, self());
    connection->delayNoDelay();
    if (clientSpeaksFirst()) connection->delayQuickAck();
    return Ref<StreamConnection>(*connection);
  }

  const std::string host_;
  const std::uint16_t port_;
  const std::string bindAddress_;
};

}  // namespace

std::shared_ptr<StreamPort> makeTCPPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory,
                                        const std::source_location& where) {
  return std::make_shared<TCPPort>(reactor, std::move(factory), where);
}
Ref<StreamConnection> makeTCPConnection(ReactorImpl& reactor, UniqueFd fd, Address peer,
                                        const std::source_location& where) {
  return Ref<StreamConnection>(*new TCPConnection(reactor, std::move(fd), std::move(peer), where));
}

}  // namespace detail

std::shared_ptr<ListeningPort> Reactor::listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog,
                                                  const std::string& interface, std::source_location where) {
  using namespace detail;
  impl_->checkUsable();
  require(factory, "listenTCP: there is no factory");
  const auto address = socketAddress(interface.empty() ? "0.0.0.0" : interfaceAddress(interface), port);
  if (!address) throw CannotListenError(interface, port, EADDRNOTAVAIL);
  UniqueFd fd(::socket(address->family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // Accepted connections inherit TCP_NODELAY. What is written during a turn leaves in one piece, so that waiting for
  // more, as Nagle's algorithm does, would only delay.
  if (!fd || setOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1) < 0 ||
      setOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1) < 0 ||
      (address->family() == AF_INET6 && setOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0) < 0) ||
      ::bind(fd.get(), address->data(), address->size) < 0 || ::listen(fd.get(), backlog) < 0) {
    throw CannotListenError(interface, port, errno);
  }
  auto listening = makeTCPPort(*impl_, std::move(factory), where);
  if (const int error = listening->start(std::move(fd))) throw CannotListenError(interface, port, error);
  return listening;
}

std::shared_ptr<Connector> Reactor::connectTCP(const std::string& host, PortNumber port,
                                               std::shared_ptr<ClientFactory> factory, Duration timeout,
                                               const std::string& bindAddress, std::source_location where) {
  impl_->checkUsable();
  auto connector =
      std::make_shared<detail::TCPConnector>(*impl_, host, port, std::move(factory), timeout, bindAddress, where);
  connector->connect();
  return connector;
}

}  // namespace torsion
