// Reactor's listenTCP and connectTCP: ports and connectors. What they connect is a StreamConnection.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace detail {
namespace {

const Logger kLog("torsion.reactor");

// Connections accepted before others have their turn.
constexpr int kAcceptsPerTurn = 64;
// How long a port rests when the system is out of memory or descriptors and shedding load does not help.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

std::string errnoText(int error) {
  return std::system_category().message(error);
}

int setOption(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value);
}
bool getOption(int fd, int level, int name) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 && value != 0;
}

class TCPConnector;

// A segment of this size is never split: TCP's smallest maximum (RFC 9293, 3.7.1) without its options.
constexpr std::size_t kSmallestSegment = 536 - 40;

class TCPConnection final : public StreamConnection {
 public:
  /// `connector` is null on the server's side.
  TCPConnection(ReactorImpl& reactor, UniqueFd fd, Address peer, const std::source_location& where,
                std::shared_ptr<TCPConnector> connector = nullptr)
      : StreamConnection(reactor, std::move(fd), std::move(peer), where), connector_(std::move(connector)) {
    asksAboutToSend_ = connector_ != nullptr;
  }

  void setTcpNoDelay(bool on) override {
    asksAboutToSend_ = false;
    setOption(fd(), IPPROTO_TCP, TCP_NODELAY, on);
  }
  bool getTcpNoDelay() const override { return asksAboutToSend_ || getOption(fd(), IPPROTO_TCP, TCP_NODELAY); }
  void setTcpKeepAlive(bool on) override { setOption(fd(), SOL_SOCKET, SO_KEEPALIVE, on); }
  bool getTcpKeepAlive() const override { return getOption(fd(), SOL_SOCKET, SO_KEEPALIVE); }
  std::string describe() const override { return "TCP connection with " + torsion::describe(getPeer()); }

 private:
  // A client's connection gets TCP_NODELAY, as a server's does, but not before it makes a difference: the first segment
  // has nothing to wait for, and many clients send no second one.
  void aboutToSend(std::size_t bytes) override {
    if (!std::exchange(sent_, true) && bytes <= kSmallestSegment) return;
    setTcpNoDelay(true);
  }
  void ended(const Failure& reason) override;

  std::shared_ptr<TCPConnector> connector_;
  bool sent_ = false;
};

// ---- server

class TCPPort final : public ListeningPort,
                      public Disconnectable,
                      public Watcher,
                      public std::enable_shared_from_this<TCPPort> {
 public:
  TCPPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory, const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), factory_(std::move(factory)) {}

  void listen(std::uint16_t port, int backlog, const std::string& interface) {
    const auto address = socketAddress(interface.empty() ? "0.0.0.0" : interface, port);
    if (!address) throw CannotListenError(interface, port, EADDRNOTAVAIL);
    fd_ = UniqueFd(::socket(address->family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // Accepted connections inherit TCP_NODELAY. What is written during a turn leaves in one piece, so that waiting for
    // more, as Nagle's algorithm does, would only delay.
    if (!fd_ || setOption(fd(), SOL_SOCKET, SO_REUSEADDR, 1) < 0 || setOption(fd(), IPPROTO_TCP, TCP_NODELAY, 1) < 0 ||
        (address->family() == AF_INET6 && setOption(fd(), IPPROTO_IPV6, IPV6_V6ONLY, 0) < 0) ||
        ::bind(fd(), address->data(), address->size) < 0 || ::listen(fd(), backlog) < 0) {
      throw CannotListenError(interface, port, errno);
    }
    if (const int error = reactor_.poller.add(fd(), EPOLLIN, *this)) throw CannotListenError(interface, port, error);
    host_ = localAddress(fd());
    reserve_ = openReserve();
    factory_->doStart();
    self_ = shared_from_this();
  }

  Deferred<void> stopListening() override {
    close();
    return succeed();
  }
  Address getHost() const override { return host_; }
  std::string describe() const override { return "TCP port " + torsion::describe(host_); }
  void shutdown() override { close(); }

 private:
  static UniqueFd openReserve() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  int fd() const noexcept { return fd_.get(); }

  void close() {
    if (!fd_) return;
    const auto self = std::move(self_);
    leave();
    if (pause_.active()) pause_.cancel();
    reactor_.poller.forget(fd());
    fd_.reset();
    reserve_.reset();
    factory_->doStop();
  }

  void ready(std::uint32_t) override {
    const auto self = self_;
    for (int i = 0; i < kAcceptsPerTurn && fd_; ++i) {
      SocketAddress peer;
      UniqueFd accepted(acceptOne(&peer));
      if (accepted) {
        shedding_ = false;
        serve(std::move(accepted), peer);
        continue;
      }
      int error = errno;
      if (error == EMFILE || error == ENFILE) error = shedOne();
      if (error == EAGAIN || error == EWOULDBLOCK) return;
      if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) return rest(error);
      // Anything else concerns that one connection, which was gone before we came to it.
    }
  }

  int acceptOne(SocketAddress* peer) {
    return ::accept4(fd(), peer->data(), &peer->size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  }

  // No descriptor is left for a connection. The reserved one makes room to accept it and close it at once: its peer
  // learns that it is not served, and the backlog does not keep the loop awake. Gives the errno if that did not work.
  int shedOne() {
    if (!shedding_) {
      kLog.error(
          "{port} is out of file descriptors: connections are closed as they come until some are free again. "
          "Raise the limit (ulimit -n), or serve fewer at once.",
          {{"port", describe()}});
      shedding_ = true;
    }
    if (!reserve_) reserve_ = openReserve();
    if (!reserve_) return EMFILE;
    reserve_.reset();
    SocketAddress peer;
    UniqueFd accepted(acceptOne(&peer));
    const int error = accepted ? 0 : errno;
    accepted.reset();
    reserve_ = openReserve();
    return error;
  }

  void rest(int error) {
    if (!shedding_) {
      kLog.error("{port} cannot accept connections: {error}", {{"port", describe()}, {"error", errnoText(error)}});
      shedding_ = true;
    }
    reactor_.poller.change(fd(), 0);
    pause_ = reactor_.reactor.callLater(kAcceptPause, [this] { reactor_.poller.change(fd(), EPOLLIN); });
  }

  void serve(UniqueFd fd, const SocketAddress& peer) {
    Address address = toAddress(peer);
    std::shared_ptr<Protocol> protocol;
    reactor_.guarded("buildProtocol", [&] { protocol = factory_->buildProtocol(address); });
    if (!protocol) return;
    if (const int error = reactor_.poller.add(fd.get(), StreamConnection::kEvents, *this)) {
      kLog.error("{port} cannot watch a connection: {error}", {{"port", describe()}, {"error", errnoText(error)}});
      return;
    }
    const Ref connection(*new TCPConnection(reactor_, std::move(fd), std::move(address), where()));
    connection->start(std::move(protocol));
  }

  ReactorImpl& reactor_;
  std::shared_ptr<Factory> factory_;
  std::shared_ptr<TCPPort> self_;  // while it listens
  UniqueFd fd_;
  UniqueFd reserve_;
  DelayedCall pause_;
  bool shedding_ = false;  // and said so
  Address host_;
};

// ---- client

class Attempt;

class TCPConnector final : public Connector {
 public:
  TCPConnector(ReactorImpl& reactor, std::string host, std::uint16_t port, std::shared_ptr<ClientFactory> factory,
               Duration timeout, std::string bindAddress)
      : reactor_(reactor.alive),
        host_(std::move(host)),
        port_(port),
        factory_(std::move(factory)),
        timeout_(timeout),
        bindAddress_(std::move(bindAddress)) {}

  void connect() override;
  void disconnect() override;
  void stopConnecting() override;
  Address getDestination() const override;

  /// The outcome of an attempt. Each calls the factory, which may connect again.
  void connectionFailed(const Failure& reason);
  void connected(ReactorImpl& reactor, UniqueFd fd, const Address& peer, std::uint32_t events,
                 const std::source_location& where);
  void connectionLost(const Failure& reason);

  const std::string& host() const noexcept { return host_; }
  std::uint16_t port() const noexcept { return port_; }
  Duration timeout() const noexcept { return timeout_; }
  const std::string& bindAddress() const noexcept { return bindAddress_; }
  std::string hostAndPort() const { return torsion::describe(getDestination()); }

 private:
  bool idle() const noexcept { return !attempt_ && !connected_; }
  std::shared_ptr<TCPConnector> self() { return std::static_pointer_cast<TCPConnector>(shared_from_this()); }
  void stopFactoryIfIdle();
  ReactorImpl& reactor() const;

  const std::weak_ptr<ReactorImpl> reactor_;
  const std::string host_;
  const std::uint16_t port_;
  const std::shared_ptr<ClientFactory> factory_;
  const Duration timeout_;
  const std::string bindAddress_;
  Attempt* attempt_ = nullptr;              // while there is one
  StreamConnection* connection_ = nullptr;  // while its protocol has it
  bool connected_ = false;
  bool factoryStarted_ = false;
};

/// One try to connect. It ends by telling its connector, once, never before start() has returned.
class Attempt final : public Disconnectable, public Watcher {
 public:
  Attempt(ReactorImpl& reactor, std::shared_ptr<TCPConnector> connector, const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), connector_(std::move(connector)) {
    ref();  // until it ends
  }

  void start() {
    if (auto address = socketAddress(connector_->host(), connector_->port())) {
      connectTo(*address);
    } else {
      resolve();
    }
    if (!over_ && !settled_ && connector_->timeout() > Duration::zero()) {
      timer_ = reactor_.reactor.callLater(connector_->timeout(), [self = Ref(*this)] { self->timedOut(); });
    }
  }
  /// Gives up: the connector is not told.
  void abandon() { end(); }

  void shutdown() override { fail(ConnectError("the reactor was stopped while connecting to " + name())); }
  std::string describe() const override { return "attempt to connect to " + name(); }

  void ref() noexcept { ++refs_; }
  void unref() noexcept {
    if (--refs_ == 0) delete this;
  }

 private:
  ~Attempt() = default;
  std::string name() const { return connector_->hostAndPort(); }

  void resolve() {
    resolving_ = reactor_.reactor.resolve(connector_->host())
                     .addCallbacks([self = Ref(*this)](std::vector<Address> addresses) { self->resolved(addresses); },
                                   [self = Ref(*this)](const Failure& failure) { self->failLater(failure); });
  }

  void resolved(const std::vector<Address>& addresses) {
    if (over_) return;
    const auto address =
        addresses.empty() ? std::nullopt : socketAddress(literalOf(addresses.front()), connector_->port());
    if (!address) return failLater(DNSLookupError("the name " + connector_->host() + " has no address"));
    connectTo(*address);
  }

  void connectTo(const SocketAddress& address) {
    address_ = address;
    UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return failLater(connectErrorFor(errno, "connecting to " + name()));
    if (!connector_->bindAddress().empty()) {
      const auto local = socketAddress(connector_->bindAddress(), 0);
      if (!local || ::bind(fd.get(), local->data(), local->size) < 0) {
        const int error = local ? errno : EADDRNOTAVAIL;
        return failLater(ConnectBindError(
            "connecting to " + name() + " from " + connector_->bindAddress() + ": " + errnoText(error), error));
      }
    }
    // Also where the outcome is there at once, as it is within the machine, the poller tells of it.
    int error = ::connect(fd.get(), address.data(), address.size) == 0 ? 0 : errno;
    if (error == 0 || error == EINPROGRESS || error == EINTR) {
      error = reactor_.poller.add(fd.get(), StreamConnection::kEvents, *this);
    }
    if (error) return failLater(connectErrorFor(error, "connecting to " + name()));
    fd_ = std::move(fd);
  }

  void ready(std::uint32_t events) override {
    const Ref self(*this);
    if (events & (EPOLLERR | EPOLLHUP)) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error) return fail(connectErrorFor(error, "connecting to " + name()));
    }
    if (!(events & EPOLLOUT)) return;
    reactor_.poller.forget(fd_.get());
    UniqueFd fd = std::move(fd_);
    end();
    connector_->connected(reactor_, std::move(fd), toAddress(address_), events, where());
  }
  void failLater(Failure reason) {
    if (over_) return;
    settled_ = true;
    boost::asio::post(reactor_.context, [self = Ref(*this), reason = std::move(reason)] { self->fail(reason); });
  }
  void fail(const Failure& reason) {
    if (over_) return;
    const Ref self(*this);
    end();
    connector_->connectionFailed(reason);
  }
  void timedOut() {
    const double seconds = std::chrono::duration<double>(connector_->timeout()).count();
    fail(ConnectTimeoutError("connecting to " + name() + ": no answer within " + std::to_string(seconds) + " s"));
  }
  void end() {
    over_ = true;
    leave();
    if (fd_) reactor_.poller.forget(fd_.get());
    fd_.reset();
    if (timer_.active()) timer_.cancel();
    if (auto resolving = std::exchange(resolving_, std::nullopt)) resolving->cancel();
    unref();
  }

  ReactorImpl& reactor_;
  const std::shared_ptr<TCPConnector> connector_;
  unsigned refs_ = 0;
  bool settled_ = false;  // the outcome is known, and posted
  bool over_ = false;     // and the connector has been told
  SocketAddress address_;
  UniqueFd fd_;
  std::optional<Deferred<void>> resolving_;
  DelayedCall timer_;
};

ReactorImpl& TCPConnector::reactor() const {
  const auto reactor = reactor_.lock();
  if (!reactor) throw ReactorNotRunning("connect: the reactor of this connector is gone");
  reactor->checkUsable();
  return *reactor;
}

void TCPConnector::connect() {
  ReactorImpl& impl = reactor();
  if (!idle()) throw std::logic_error("connect: an attempt or a connection is under way");
  if (!factoryStarted_) {
    factory_->doStart();
    factoryStarted_ = true;
  }
  attempt_ = new Attempt(impl, self(), std::source_location::current());
  attempt_->start();
  factory_->startedConnecting(*this);
}

void TCPConnector::disconnect() {
  if (attempt_) {
    stopConnecting();
  } else if (connection_) {
    connection_->loseConnection();
  }
}

void TCPConnector::stopConnecting() {
  if (!attempt_)
    throw NotConnectingError("stopConnecting: no attempt to connect to " + hostAndPort() + " is under way");
  const auto self = shared_from_this();
  attempt_->abandon();
  connectionFailed(UserError("the attempt to connect to " + hostAndPort() + " was stopped"));
}

Address TCPConnector::getDestination() const {
  if (isIPAddress(host_)) return IPv4Address{host_, port_};
  if (isIPv6Address(host_)) return IPv6Address{host_, port_};
  return HostnameAddress{host_, port_};
}

void TCPConnector::connectionFailed(const Failure& reason) {
  attempt_ = nullptr;
  try {
    factory_->clientConnectionFailed(*this, reason);
  } catch (...) {
    ReactorImpl::logCurrentException("clientConnectionFailed");
  }
  stopFactoryIfIdle();
}

void TCPConnector::connected(ReactorImpl& reactor, UniqueFd fd, const Address& peer, std::uint32_t events,
                             const std::source_location& where) {
  attempt_ = nullptr;
  connected_ = true;
  std::shared_ptr<Protocol> protocol;
  try {
    protocol = factory_->buildProtocol(peer);
  } catch (...) {
    ReactorImpl::logCurrentException("buildProtocol");
    connected_ = false;
    return connectionFailed(Failure::current());
  }
  if (!protocol) {
    fd.reset();
    return connectionLost(ConnectionDone());
  }
  const Ref connection(*new TCPConnection(reactor, std::move(fd), peer, where, self()));
  connection_ = connection.get();
  connection->start(std::move(protocol), events);
}

void TCPConnector::connectionLost(const Failure& reason) {
  connected_ = false;
  connection_ = nullptr;
  try {
    factory_->clientConnectionLost(*this, reason);
  } catch (...) {
    ReactorImpl::logCurrentException("clientConnectionLost");
  }
  stopFactoryIfIdle();
}

void TCPConnector::stopFactoryIfIdle() {
  if (!idle() || !factoryStarted_) return;
  factoryStarted_ = false;
  factory_->doStop();
}

void TCPConnection::ended(const Failure& reason) {
  if (connector_) std::exchange(connector_, nullptr)->connectionLost(reason);
}

}  // namespace
}  // namespace detail

std::shared_ptr<ListeningPort> Reactor::listenTCP(std::uint16_t port, std::shared_ptr<Factory> factory, int backlog,
                                                  const std::string& interface) {
  impl_->checkUsable();
  auto listening = std::make_shared<detail::TCPPort>(*impl_, std::move(factory), std::source_location::current());
  listening->listen(port, backlog, interface);
  return listening;
}

std::shared_ptr<Connector> Reactor::connectTCP(const std::string& host, std::uint16_t port,
                                               std::shared_ptr<ClientFactory> factory, Duration timeout,
                                               const std::string& bindAddress) {
  impl_->checkUsable();
  auto connector = std::make_shared<detail::TCPConnector>(*impl_, host, port, std::move(factory), timeout, bindAddress);
  connector->connect();
  return connector;
}

}  // namespace torsion
