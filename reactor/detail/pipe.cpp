#include <reactor/detail/pipe.hpp>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <reactor/error.hpp>

namespace torsion::detail {
namespace {

// Chunks read from one pipe before the others have their turn.
constexpr int kReadsPerTurn = 4;

Failure lostFor(int error) {
  return ConnectionLost("Connection to the other side was lost in a non-clean fashion: " +
                        std::generic_category().message(error));
}

// There is no MSG_NOSIGNAL for a pipe, and the program may want SIGPIPE: it is blocked, and taken if it was ours.
ssize_t writeWithoutSignal(int fd, std::string_view data) {
  sigset_t pipe, old, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  const bool wasPending = sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &old);
  const ssize_t n = ::write(fd, data.data(), data.size());
  const int error = errno;
  if (n < 0 && error == EPIPE && !wasPending) {
    const timespec none{};
    while (sigtimedwait(&pipe, nullptr, &none) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = error;
  return n;
}

}  // namespace

Pipe::Pipe(ReactorImpl& reactor, PipeUser& user, int id, UniqueFd fd)
    : reactor_(reactor), user_(user), id_(id), fd_(std::move(fd)) {}

void Pipe::watch(std::uint32_t events) {
  const int error = reactor_.poller.add(fd_.get(), events, *this);
  polled_ = error == 0;
  // EPERM: a regular file, which is always ready.
  if (error && error != EPERM) throw std::system_error(error, std::generic_category(), "cannot watch a descriptor");
}

void Pipe::close() {
  told_ = true;
  if (!fd_) return;
  // Out of the set by hand: others may have the same pipe open.
  if (polled_) reactor_.poller.remove(fd_.get(), *this);
  fd_.reset();
}

void Pipe::goSoon() {
  if (posted_ || !fd_) return;
  posted_ = true;
  boost::asio::post(reactor_.context, [self = shared_from_this()] {
    self->posted_ = false;
    if (self->fd_) self->go();
  });
}

void Pipe::finish(const Failure& reason) {
  if (!fd_) return;
  close();
  told_ = false;
  boost::asio::post(reactor_.context, [self = shared_from_this(), reason] {
    if (!std::exchange(self->told_, true)) self->user_.pipeClosed(self->id_, reason);
  });
}

// ---- reading

void PipeReader::start() {
  watch(EPOLLIN | EPOLLET);
  goSoon();
}

void PipeReader::resume() {
  paused_ = false;
  goSoon();
}

void PipeReader::lose() {
  finish(ConnectionDone());
}

void PipeReader::ready(std::uint32_t) {
  const auto self = shared_from_this();
  go();
}

void PipeReader::go() {
  const std::span<char> buffer = reactor_.buffers.readBuffer();
  for (int i = 0; i < kReadsPerTurn && fd_ && !paused_; ++i) {
    const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
    if (n > 0) {
      user_.pipeData(id_, {buffer.data(), static_cast<std::size_t>(n)});
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    // EIO: the other side of a pseudo-terminal is closed.
    return finish(n == 0 || errno == EIO ? Failure(ConnectionDone()) : lostFor(errno));
  }
  if (!paused_) goSoon();
}

// ---- writing

void PipeWriter::start() {
  watch(EPOLLOUT | EPOLLET);
}

void PipeWriter::ready(std::uint32_t events) {
  const auto self = shared_from_this();
  if (events & EPOLLERR) return finish(lostFor(EPIPE));  // nobody reads it any more
  blocked_ = false;
  if (queued() || closing_) go();
}

void PipeWriter::write(std::string_view data) {
  if (!fd_ || data.empty() || (closing_ && !producer_)) return;
  queue_.append(data);
  if (!blocked_) goSoon();
  if (producer_ && streaming_ && !producerPaused_ && queued() > kHighWater) {
    producerPaused_ = true;
    callProducer(&Producer::pauseProducing);
  }
}

void PipeWriter::closeWhenEmpty() {
  closing_ = true;
  goSoon();
}

void PipeWriter::go() {
  bool emptied = false;
  while (queued() && !blocked_) {
    const ssize_t n = writeWithoutSignal(fd_.get(), std::string_view(queue_).substr(sent_));
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return finish(lostFor(errno));
      blocked_ = true;
      break;
    }
    sent_ += static_cast<std::size_t>(n);
    emptied = queued() == 0;
  }
  if (emptied) {
    queue_ = {};
    sent_ = 0;
  } else if (sent_ > queue_.size() / 2) {
    queue_.erase(0, std::exchange(sent_, 0));
  }
  if (queued() < kHighWater) user_.pipeDrained(id_);
  if (!fd_ || queued()) return;
  if (producer_) {
    if (emptied && (!streaming_ || producerPaused_)) {
      producerPaused_ = false;
      callProducer(&Producer::resumeProducing);
    }
  } else if (closing_) {
    finish(ConnectionDone());
  }
}

void PipeWriter::registerProducer(Producer& producer, bool streaming) {
  if (producer_) {
    throw std::logic_error("registerProducer: another producer is registered; unregister that one first");
  }
  if (!fd_) return producer.stopProducing();
  producer_ = &producer;
  streaming_ = streaming;
  producerPaused_ = false;
  if (!streaming) callProducer(&Producer::resumeProducing);
}

void PipeWriter::unregisterProducer() {
  producer_ = nullptr;
  if (closing_) goSoon();
}

void PipeWriter::stopProducer() {
  if (!producer_) return;
  callProducer(&Producer::stopProducing);
  producer_ = nullptr;
}

void PipeWriter::callProducer(void (Producer::*method)()) {
  try {
    (producer_->*method)();
  } catch (...) {
    reactor_.logCurrentException("a producer threw; its pipe ends");
    finish(Failure::current());
  }
}

}  // namespace torsion::detail
