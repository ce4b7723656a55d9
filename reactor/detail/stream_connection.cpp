#include <reactor/detail/stream_connection.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion::detail {
namespace {

const Logger kLog("torsion.reactor");

// A write of at least this size, made while the protocol is being called and nothing is queued, is sent from the
// caller's memory.
constexpr std::size_t kDirectSize = 8192;
// Chunks read from one connection before the others have their turn.
constexpr int kReadsPerTurn = 4;

// Shared by all connections: making one costs two allocations.
const Failure& connectionDone() {
  static const Failure failure{ConnectionDone()};
  return failure;
}

Failure lostFor(int osError) {
  return ConnectionLost("Connection to the other side was lost in a non-clean fashion: " +
                        std::generic_category().message(osError));
}

}  // namespace

template <void (StreamConnection::*Method)()>
struct StreamConnection::Handler {
  Ref<StreamConnection> self;
  void operator()(const boost::system::error_code& = {}) const { (self.get()->*Method)(); }
};

StreamConnection::StreamConnection(ReactorImpl& reactor, UniqueFd fd, Address peer, const std::source_location& where,
                                   std::shared_ptr<ConnectionListener> listener)
    : Disconnectable(reactor, where),
      reactor_(reactor),
      fd_(std::move(fd)),
      listener_(std::move(listener)),
      peer_(std::move(peer)) {
  reactor_.poller.hand(fd_.get(), *this);
  ref();  // until the loss has been delivered
}

void StreamConnection::start(std::shared_ptr<Protocol> protocol, std::uint32_t events) {
  if (!fd_) return;
  if (!callProtocol([&] { protocol->makeConnection(*this); })) return;
  noteReadable(events);
  readSoon();
}

Address StreamConnection::getHost() const {
  return fd_ ? localAddress(fd()) : Address();
}

void StreamConnection::ready(std::uint32_t events) {
  const Ref self(*this);
  noteReadable(events);
  if (!readPosted_) read();
  if (writeBlocked_ && fd_ && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) {
    writeBlocked_ = false;
    flush();
  }
}

// ---- reading

void StreamConnection::noteReadable(std::uint32_t events) {
  if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) readable_ = hungUp_ = true;
  if (events & EPOLLIN) readable_ = true;
}

// On a later turn.
void StreamConnection::readSoon() {
  if (!readable_ || readPosted_ || !wantsToRead()) return;
  readPosted_ = true;
  boost::asio::post(reactor_.context, Handler<&StreamConnection::readAfterPost>{Ref(*this)});
}

void StreamConnection::readAfterPost() {
  readPosted_ = false;
  read();
}

void StreamConnection::resumeProducing() {
  paused_ = false;
  readSoon();
}

void StreamConnection::read() {
  const std::span<char> buffer = reactor_.buffers.readBuffer();
  for (int i = 0; i < kReadsPerTurn && readable_ && wantsToRead(); ++i) {
    const ssize_t n = receive(buffer);
    if (!fd_) return;
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return finish(lostFor(errno));
      readable_ = false;
      return;
    }
    if (n == 0) return endOfFile();
    if (!protocol()) return finish(connectionDone());  // it has gone elsewhere, or was destroyed
    const std::size_t size = static_cast<std::size_t>(n);
    // What comes after the socket was empty is an event of its own.
    readable_ = size == buffer.size() || hungUp_ || !shortReadEmpties_;
    if (!callProtocol([&] { deliver({buffer.data(), size}); })) return;
    received();
  }
  readSoon();
}

ssize_t StreamConnection::receive(std::span<char> buffer) {
  return ::recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
}

ssize_t StreamConnection::transmit(std::string_view data) {
  return ::send(fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void StreamConnection::endOfFile() {
  auto* half = dynamic_cast<HalfCloseableProtocol*>(protocol());
  if (!half) return finish(connectionDone());
  readClosed_ = true;
  if (callProtocol([&] { half->readConnectionLost(); }) && writeClosed_) finish(connectionDone());
}

// ---- writing

void StreamConnection::write(std::string_view data) {
  if (refusesWrites() || data.empty()) return;
  append(data);
  queueChanged();
}

void StreamConnection::writeSequence(std::span<const std::string_view> pieces) {
  if (refusesWrites()) return;
  for (const std::string_view piece : pieces) append(piece);
  queueChanged();
}

void StreamConnection::append(std::string_view data) {
  if (!fd_) return;
  if (queue_.empty()) {
    if (corked_ && !sentDirectly_ && !producer_ && data.size() >= kDirectSize) {
      sentDirectly_ = true;
      data.remove_prefix(sendNow(data));
      if (data.empty() || !fd_) return;
    }
    if (queue_.capacity() < data.size()) queue_ = reactor_.buffers.takeSpare();
  }
  queue_.append(data);
}

void StreamConnection::queueChanged() {
  if (!fd_ || queue_.empty()) return;
  if (writeLimit_ != 0 && queued() > writeLimit_) {
    return finish(ConnectionLost("The connection was dropped: more than " + std::to_string(writeLimit_) +
                                 " bytes were waiting for the other side to read"));
  }
  flushSoon();
  if (producer_ && streaming_ && !producerPaused_ && queued() > kHighWater) {
    producerPaused_ = true;
    callProducer(&Producer::pauseProducing);
  }
}

// Sends what the kernel takes now, and returns how much that was. On an error the connection ends.
std::size_t StreamConnection::sendNow(std::string_view data) {
  for (;;) {
    const ssize_t n = transmit(data);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) finish(lostFor(errno));
    return 0;
  }
}

// At the end of this turn, unless a flush is to come anyway.
void StreamConnection::flushSoon() {
  if (corked_ || flushPosted_ || writeBlocked_ || !fd_) return;
  flushPosted_ = true;
  boost::asio::post(reactor_.context, Handler<&StreamConnection::flushPosted>{Ref(*this)});
}

void StreamConnection::flushPosted() {
  flushPosted_ = false;
  if (fd_) flush();
}

void StreamConnection::flush() {
  if (writeBlocked_) return;
  bool emptied = false;
  if (!queue_.empty()) {
    sent_ += sendNow(std::string_view(queue_).substr(sent_));
    if (!fd_) return;
    emptied = sent_ == queue_.size();
    if (emptied) {
      sent_ = 0;
      reactor_.buffers.giveSpare(std::move(queue_));
      queue_ = {};
    } else {
      if (sent_ > queue_.size() / 2) queue_.erase(0, std::exchange(sent_, 0));
      writeBlocked_ = true;
    }
  }
  if (!drainWaiters_.empty() && queued() < kHighWater) {
    for (const auto& waiter : std::exchange(drainWaiters_, {})) waiter.callback();
  }
  if (!fd_ || !queue_.empty()) return;
  if (producer_) {
    if (emptied && (!streaming_ || producerPaused_)) {
      producerPaused_ = false;
      callProducer(&Producer::resumeProducing);
    }
  } else if (closing_) {
    finish(connectionDone());
  } else if (writeClosing_ && !writeClosed_) {
    closeWriteSide();
  }
}

void StreamConnection::closeWriteSide() {
  writeClosed_ = true;
  ::shutdown(fd(), SHUT_WR);
  auto* half = dynamic_cast<HalfCloseableProtocol*>(protocol());
  if (half && !callProtocol([&] { half->writeConnectionLost(); })) return;
  if (readClosed_) finish(connectionDone());
}

void StreamConnection::registerProducer(Producer& producer, bool streaming) {
  if (producer_) {
    throw std::logic_error("registerProducer: another producer is registered; unregister that one first");
  }
  if (!fd_) return producer.stopProducing();
  producer_ = &producer;
  streaming_ = streaming;
  producerPaused_ = false;
  if (!streaming) callProducer(&Producer::resumeProducing);
}

void StreamConnection::unregisterProducer() {
  producer_ = nullptr;
  if (closing_ || writeClosing_) flushSoon();
}

void StreamConnection::callProducer(void (Producer::*method)()) {
  try {
    (producer_->*method)();
  } catch (...) {
    failed("a producer");
  }
}

Deferred<void> StreamConnection::drained() {
  if (reason_) return fail<void>(*reason_);
  if (queued() < kHighWater) return succeed();
  return drainWaiters_.emplace_back().deferred();
}

// ---- closing

void StreamConnection::loseConnection() {
  if (closing_) return;
  closing_ = true;
  flushSoon();
}

void StreamConnection::loseWriteConnection() {
  if (closing_ || writeClosing_) return;
  writeClosing_ = true;
  flushSoon();
}

void StreamConnection::abortConnection() {
  if (!fd_) return;
  const linger reset{1, 0};
  ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  finish(ConnectionAborted());
}

void StreamConnection::failed(const char* what) {
  const Failure failure = Failure::current();
  kLog.failure("Unhandled error in {what}; the connection with {peer} ends", failure,
               {{"what", what}, {"peer", torsion::describe(peer_)}});
  finish(failure);
}

void StreamConnection::finish(Failure reason) {
  if (reason_) return;
  close(std::move(reason));
  boost::asio::post(reactor_.context, Handler<&StreamConnection::deliverLost>{Ref(*this)});
}

void StreamConnection::close(Failure reason) {
  reason_ = std::move(reason);
  if (shared_) {
    ::shutdown(fd(), SHUT_RDWR);
    reactor_.poller.remove(fd(), *this);
  } else {
    reactor_.poller.forget(fd());
  }
  fd_.reset();
  sent_ = 0;
  queue_ = {};
}

void StreamConnection::shutdown() {
  if (!reason_) close(ConnectionLost("The reactor was stopped."));
  deliverLost();
}

void StreamConnection::deliverLost() {
  if (lostDelivered_) return;
  lostDelivered_ = true;
  leave();
  reason_ = whyLost(*reason_);
  for (const auto& waiter : std::exchange(drainWaiters_, {})) waiter.errback(*reason_);
  if (producer_) {
    callProducer(&Producer::stopProducing);
    producer_ = nullptr;
  }
  if (Protocol* p = protocol()) {
    const auto kept = keepProtocol();
    try {
      p->connectionLost(*reason_);
    } catch (...) {
      kLog.failure("Unhandled error in connectionLost; the peer was {peer}", Failure::current(),
                   {{"peer", torsion::describe(peer_)}});
    }
  }
  if (protocol()) protocol()->detachTransport();
  if (listener_) std::exchange(listener_, nullptr)->connectionLost(*reason_);
  unref();
}

}  // namespace torsion::detail
