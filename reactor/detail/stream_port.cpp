#include <reactor/detail/stream_port.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include <reactor/logger.hpp>

namespace torsion::detail {
namespace {

const Logger kLog("torsion.reactor");

// Connections accepted before others have their turn.
constexpr int kAcceptsPerTurn = 64;
// How long a port rests when the system is out of memory or descriptors and shedding load does not help.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

std::string errnoText(int error) {
  return std::system_category().message(error);
}

UniqueFd openReserve() {
  return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace

int StreamPort::start(UniqueFd fd) {
  host_ = localAddress(fd.get());
  factory_->doStart();  // may throw: nothing is watched yet
  if (const int error = reactor_.poller.add(fd.get(), EPOLLIN, *this)) {
    factory_->doStop();
    return error;
  }
  fd_ = std::move(fd);
  reserve_ = openReserve();
  self_ = shared_from_this();
  return 0;
}

void StreamPort::close() {
  if (!fd_) return;
  const auto self = std::move(self_);
  leave();
  if (pause_.active()) pause_.cancel();
  reactor_.poller.remove(fd_.get(), *this);  // another process may have the socket, too
  fd_.reset();
  reserve_.reset();
  closed();
  factory_->doStop();
}

void StreamPort::ready(std::uint32_t) {
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

int StreamPort::acceptOne(SocketAddress* peer) {
  return ::accept4(fd_.get(), peer->data(), &peer->size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

// No descriptor is left for a connection. The reserved one makes room to accept it and close it at once: its peer
// learns that it is not served, and the backlog does not keep the loop awake. Gives the errno if that did not work.
int StreamPort::shedOne() {
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

void StreamPort::rest(int error) {
  if (!shedding_) {
    kLog.error("{port} cannot accept connections: {error}", {{"port", describe()}, {"error", errnoText(error)}});
    shedding_ = true;
  }
  reactor_.poller.change(fd_.get(), 0, *this);
  pause_ =
      reactor_.reactor.callLater(kAcceptPause, [this] { reactor_.poller.change(fd_.get(), EPOLLIN, *this); }, where());
}

void StreamPort::serve(UniqueFd fd, const SocketAddress& peer) {
  Address address = toAddress(peer);
  std::shared_ptr<Protocol> protocol;
  reactor_.guarded("buildProtocol", [&] { protocol = factory_->buildProtocol(address); });
  if (!protocol) return;
  if (const int error = reactor_.poller.add(fd.get(), StreamConnection::kEvents, *this)) {
    kLog.error("{port} cannot watch a connection: {error}", {{"port", describe()}, {"error", errnoText(error)}});
    return;
  }
  makeConnection(reactor_, std::move(fd), std::move(address))->start(std::move(protocol));
}

}  // namespace torsion::detail
