#include <reactor/detail/stream_connector.hpp>

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <stdexcept>

#include <reactor/error.hpp>

namespace torsion::detail {
namespace {

// How long to wait when a UNIX socket's backlog is full, which no event ends.
constexpr Duration kBacklogPause = std::chrono::milliseconds(20);

}  // namespace

// ---- attempts

void Attempt::start() {
  connector_->begin(*this);
  if (!over_ && !settled_ && connector_->timeout_ > Duration::zero()) {
    timer_ = reactor_.reactor.callLater(connector_->timeout_, [self = Ref(*this)] { self->timedOut(); });
  }
}

void Attempt::connectTo(UniqueFd fd, const SocketAddress& address) {
  address_ = address;
  // Also where the outcome is there at once, as it is within the machine, the poller tells of it.
  int error = ::connect(fd.get(), address.data(), address.size) == 0 ? 0 : errno;
  if (error == EAGAIN && address.family() == AF_UNIX) {
    retry_ = reactor_.reactor.callLater(kBacklogPause, [self = Ref(*this), fd = std::move(fd)]() mutable {
      self->connectTo(std::move(fd), self->address_);
    });
    return;
  }
  if (error == 0 || error == EINPROGRESS || error == EINTR) {
    error = reactor_.poller.add(fd.get(), StreamConnection::kEvents, *this);
  }
  if (error) return failLater(failureFor(error));
  fd_ = std::move(fd);
}

Failure Attempt::failureFor(int error) const {
  return connectErrorFor(error, "connecting to " + connector_->name());
}

void Attempt::ready(std::uint32_t events) {
  const Ref self(*this);
  if (events & (EPOLLERR | EPOLLHUP)) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return fail(failureFor(error));
  }
  if (!(events & EPOLLOUT)) return;
  reactor_.poller.forget(fd_.get());
  UniqueFd fd = std::move(fd_);
  end();
  connector_->connected(reactor_, std::move(fd), toAddress(address_), events, where());
}

void Attempt::failLater(Failure reason) {
  if (over_) return;
  settled_ = true;
  boost::asio::post(reactor_.context, [self = Ref(*this), reason = std::move(reason)] { self->fail(reason); });
}

void Attempt::shutdown() {
  fail(ConnectError("the reactor was stopped while connecting to " + connector_->name()));
}

void Attempt::fail(const Failure& reason) {
  if (over_) return;
  const Ref self(*this);
  end();
  connector_->connectionFailed(reason);
}

void Attempt::timedOut() {
  const double seconds = std::chrono::duration<double>(connector_->timeout_).count();
  fail(ConnectTimeoutError("connecting to " + connector_->name() + ": no answer within " + std::to_string(seconds) +
                           " s"));
}

void Attempt::end() {
  over_ = true;
  leave();
  if (fd_) reactor_.poller.forget(fd_.get());
  fd_.reset();
  for (DelayedCall* call : {&timer_, &retry_}) {
    if (call->active()) call->cancel();
  }
  if (auto step = std::exchange(step_, std::nullopt)) step->cancel();
  unref();
}

// ---- connectors

void StreamConnector::connect() {
  const auto reactor = reactor_.lock();
  if (!reactor) throw ReactorNotRunning("connect: the reactor of this connector is gone");
  reactor->checkUsable();
  if (!idle()) throw std::logic_error("connect: an attempt or a connection is under way");
  if (!factoryStarted_) {
    factory_->doStart();
    factoryStarted_ = true;
  }
  attempt_ = new Attempt(*reactor, self(), where_);
  attempt_->start();
  factory_->startedConnecting(*this);
}

void StreamConnector::disconnect() {
  if (attempt_) {
    stopConnecting();
  } else if (connection_) {
    connection_->loseConnection();
  }
}

void StreamConnector::stopConnecting() {
  if (!attempt_) throw NotConnectingError("stopConnecting: no attempt to connect to " + name() + " is under way");
  const auto self = shared_from_this();
  attempt_->abandon();
  connectionFailed(UserError("the attempt to connect to " + name() + " was stopped"));
}

void StreamConnector::connectionFailed(const Failure& reason) {
  attempt_ = nullptr;
  try {
    factory_->clientConnectionFailed(*this, reason);
  } catch (...) {
    ReactorImpl::logCurrentException("clientConnectionFailed");
  }
  stopFactoryIfIdle();
}

void StreamConnector::connected(ReactorImpl& reactor, UniqueFd fd, const Address& peer, std::uint32_t events,
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
  const Ref connection = makeConnection(reactor, std::move(fd), peer, where);
  connection_ = connection.get();
  connection->start(std::move(protocol), events);
}

void StreamConnector::connectionLost(const Failure& reason) {
  connected_ = false;
  connection_ = nullptr;
  try {
    factory_->clientConnectionLost(*this, reason);
  } catch (...) {
    ReactorImpl::logCurrentException("clientConnectionLost");
  }
  stopFactoryIfIdle();
}

void StreamConnector::stopFactoryIfIdle() {
  if (!idle() || !factoryStarted_) return;
  factoryStarted_ = false;
  factory_->doStop();
}

}  // namespace torsion::detail
