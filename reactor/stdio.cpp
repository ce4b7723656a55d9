#include <reactor/stdio.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <deferred/resolver.hpp>
#include <reactor/detail/pipe.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/transport.hpp>

namespace torsion {
namespace detail {
namespace {

void setNonBlocking(int fd, bool on) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

// A descriptor of somebody else that was made not to block, because there was no other way.
class Borrowed {
 public:
  void take(int fd) {
    fd_ = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    set();
  }
  void set() noexcept {
    if (fd_) setNonBlocking(fd_.get(), true);
  }
  void giveBack() noexcept {
    if (fd_) setNonBlocking(fd_.get(), false);
    fd_.reset();
  }

 private:
  UniqueFd fd_;
};

// Another opening of the terminal or pipe `fd`; none if it is something else or must not be opened.
UniqueFd openedAnew(int fd, int access) {
  struct stat status;
  unsigned number;
  if (::fstat(fd, &status) < 0) throw std::system_error(errno, std::generic_category(), "standardIO");
  // To open a pseudo-terminal's controlling side is to make another terminal.
  const bool terminal = ::isatty(fd) && ::ioctl(fd, TIOCGPTN, &number) < 0;
  if (!terminal && !S_ISFIFO(status.st_mode)) return UniqueFd();
  const std::string name = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(::open(name.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

class StandardIO final : public Transport,
                         public Disconnectable,
                         public PipeUser,
                         public std::enable_shared_from_this<StandardIO> {
 public:
  StandardIO(ReactorImpl& reactor, int input, int output, const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), input_(input), output_(output) {
    UniqueFd in = openedAnew(input, O_RDONLY), out = openedAnew(output, O_WRONLY);
    // Asked for both before it is set for one: they may be the same.
    const bool borrowInput = !in && blocks(input), borrowOutput = !out && blocks(output);
    if (!in) in = duplicate(input);
    if (!out) out = duplicate(output);
    reader_ = std::make_shared<PipeReader>(reactor, *this, kInput, std::move(in));
    writer_ = std::make_shared<PipeWriter>(reactor, *this, kOutput, std::move(out));
    if (borrowInput) borrowedInput_.take(input);
    if (borrowOutput) borrowedOutput_.take(output);
  }
  ~StandardIO() override { closeBoth(); }

  void start(const std::shared_ptr<Protocol>& protocol) {
    reader_->start();
    writer_->start();
    self_ = shared_from_this();
    call([&] { protocol->makeConnection(*this); });
  }

  void write(std::string_view data) override {
    writer_->write(data);
    if (writeLimit_ && writer_->queued() > writeLimit_) {
      finish(ConnectionLost("more was queued for standard output than setWriteLimit allows"));
    }
  }
  void loseConnection() override {
    if (disconnecting()) return;
    closing_ = true;
    reader_->pause();
    if (writeClosed_) {
      finish(ConnectionDone());
    } else {
      writer_->closeWhenEmpty();
    }
  }
  void abortConnection() override { finish(ConnectionAborted()); }
  void loseWriteConnection() override { writer_->closeWhenEmpty(); }
  bool disconnecting() const noexcept override { return closing_ || reason_; }
  Address getPeer() const override { return {}; }
  Address getHost() const override { return {}; }
  void registerProducer(Producer& producer, bool streaming) override { writer_->registerProducer(producer, streaming); }
  void unregisterProducer() override { writer_->unregisterProducer(); }
  Deferred<void> drained() override {
    if (reason_) return fail<void>(*reason_);
    if (writer_->closed()) return fail<void>(ConnectionDone());
    if (writer_->queued() < PipeWriter::kHighWater) return succeed();
    return drainWaiters_.emplace_back().deferred();
  }
  void setWriteLimit(std::size_t bytes) override { writeLimit_ = bytes; }
  void pauseProducing() override { reader_->pause(); }
  void resumeProducing() override {
    if (!disconnecting()) reader_->resume();
  }

  // ---- from the pipes and the reactor

  void pipeData(int, std::string_view data) override {
    const auto self = shared_from_this();
    if (!protocol()) return finish(ConnectionDone());  // it has gone elsewhere, or was destroyed
    call([&] { deliver(data); });
  }
  void pipeDrained(int) override {
    const auto self = shared_from_this();
    for (Resolver<void>& waiter : std::exchange(drainWaiters_, {})) waiter.callback();
  }
  void pipeClosed(int id, const Failure& reason) override {
    const auto self = shared_from_this();
    if (reason_) return;
    if (!reason.check<ConnectionDone>()) return finish(reason);
    auto* half = dynamic_cast<HalfCloseableProtocol*>(protocol());
    if (id == kOutput) {
      writeClosed_ = true;
      if (closing_) return finish(reason);
      giveBack(borrowedOutput_, borrowedInput_);
      failWaiters(reason);
      if (half) call([&] { half->writeConnectionLost(); });
    } else {
      readClosed_ = true;
      if (half) {
        giveBack(borrowedInput_, borrowedOutput_);
        call([&] { half->readConnectionLost(); });
      } else {
        writer_->stopProducer();
        loseConnection();
      }
    }
    if (readClosed_ && writeClosed_) finish(reason);
  }

  void shutdown() override {
    const auto self = shared_from_this();
    if (!reason_) reason_ = ConnectionLost();
    closeBoth();
    deliverLost();
  }
  std::string describe() const override {
    return "standard I/O (descriptors " + std::to_string(input_) + " and " + std::to_string(output_) + ")";
  }

 private:
  enum { kInput, kOutput };

  static bool blocks(int fd) noexcept { return !(::fcntl(fd, F_GETFL) & O_NONBLOCK); }
  static UniqueFd duplicate(int fd) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) throw std::system_error(errno, std::generic_category(), "standardIO");
    return copy;
  }
  // The other one may be the same.
  static void giveBack(Borrowed& one, Borrowed& other) noexcept {
    one.giveBack();
    other.set();
  }

  template <class F>
  void call(F&& f) {
    const auto kept = keepProtocol();
    try {
      f();
    } catch (...) {
      reactor_.logCurrentException("a protocol threw; its standard I/O ends");
      finish(Failure::current());
    }
  }

  void finish(const Failure& reason) {
    if (reason_) return;
    reason_ = reason;
    closeBoth();
    boost::asio::post(reactor_.context, [self = shared_from_this()] { self->deliverLost(); });
  }
  void closeBoth() noexcept {
    if (reader_) reader_->close();
    if (writer_) writer_->close();
    borrowedInput_.giveBack();
    borrowedOutput_.giveBack();
  }
  void failWaiters(const Failure& reason) {
    for (Resolver<void>& waiter : std::exchange(drainWaiters_, {})) waiter.errback(reason);
  }
  void deliverLost() {
    if (!self_) return;
    const auto self = std::exchange(self_, nullptr);
    leave();
    writer_->stopProducer();
    const Failure reason = whyLost(*reason_);
    failWaiters(reason);
    if (!protocol()) return;
    const auto kept = keepProtocol();
    ReactorImpl::guarded("connectionLost threw", [&] { protocol()->connectionLost(reason); });
    if (protocol()) protocol()->detachTransport();
  }

  ReactorImpl& reactor_;
  const int input_, output_;
  Borrowed borrowedInput_, borrowedOutput_;
  std::shared_ptr<PipeReader> reader_;
  std::shared_ptr<PipeWriter> writer_;
  std::vector<Resolver<void>> drainWaiters_;
  std::size_t writeLimit_ = 0;
  std::optional<Failure> reason_;
  bool closing_ = false;
  bool readClosed_ = false;
  bool writeClosed_ = false;
  std::shared_ptr<StandardIO> self_;  // until connectionLost
};

}  // namespace
}  // namespace detail

void standardIO(std::shared_ptr<Protocol> protocol, int input, int output, Reactor& reactor,
                std::source_location where) {
  detail::require(protocol, "standardIO: there is no protocol");
  detail::ReactorImpl& impl = detail::implOf(reactor);
  impl.checkUsable();
  std::make_shared<detail::StandardIO>(impl, input, output, where)->start(protocol);
}

Deferred<std::shared_ptr<ListeningPort>> StandardIOEndpoint::listen(std::shared_ptr<Factory> factory,
                                                                    std::source_location where) {
  struct Port final : ListeningPort {
    Deferred<void> stopListening() override { return succeed(); }
    Address getHost() const override { return {}; }
  };
  detail::require(factory, "listen: there is no factory");
  return execute([&]() -> std::shared_ptr<ListeningPort> {
    auto protocol = factory->buildProtocol({});
    if (!protocol) throw NoProtocol("the factory gave no protocol for standard input and output");
    standardIO(std::move(protocol), input_, output_, reactor_, where);
    return std::make_shared<Port>();
  });
}

}  // namespace torsion
