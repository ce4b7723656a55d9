// The transport of every stream socket (TCP, UNIX): reads into one buffer that the reactor's connections share,
// collects what is written during a turn and sends it at its end.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <reactor/address.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/protocol.hpp>
#include <reactor/transport.hpp>

namespace torsion::detail {

/// A counted pointer; handlers keep their object alive with it.
template <class T>
class Ref {
 public:
  explicit Ref(T& object) noexcept : object_(&object) { object_->ref(); }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref(const Ref& other) noexcept : object_(other.object_) {
    if (object_) object_->ref();
  }
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_) object_->unref();
  }
  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }

 private:
  T* object_;
};

/// Who hears of a connection's end after its protocol.
class ConnectionListener {
 public:
  virtual void connectionLost(const Failure& reason) = 0;

 protected:
  ~ConnectionListener() = default;
};

class StreamConnection : public Transport, public Disconnectable, public Watcher {
 public:
  static constexpr std::size_t kHighWater = 65536;
  /// What a stream socket is watched for, from first to last.
  static constexpr std::uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

  /// Takes over a connected, non-blocking socket that the poller watches for kEvents, in the name of whomever. It lives
  /// until its protocol's connectionLost has returned.
  StreamConnection(ReactorImpl& reactor, UniqueFd fd, Address peer, const std::source_location& where,
                   std::shared_ptr<ConnectionListener> listener = nullptr);

  /// Calls protocol->connectionMade() and starts to read. `events` have been reported already.
  void start(std::shared_ptr<Protocol> protocol, std::uint32_t events = 0);
  void ready(std::uint32_t events) override;

  void write(std::string_view data) override;
  void writeSequence(std::span<const std::string_view> pieces) override;
  void loseConnection() override;
  void abortConnection() override;
  void loseWriteConnection() override;
  bool disconnecting() const noexcept override { return closing_ || !fd_; }
  Address getPeer() const override { return peer_; }
  Address getHost() const override;
  std::source_location where() const noexcept override { return Disconnectable::where(); }
  void registerProducer(Producer& producer, bool streaming) override;
  void unregisterProducer() override;
  Deferred<void> drained() override;
  void setWriteLimit(std::size_t bytes) override { writeLimit_ = bytes; }
  void pauseProducing() override { paused_ = true; }
  void resumeProducing() override;

  /// Others have the socket open as well: closing it here would not end the connection.
  void setShared() noexcept { shared_ = true; }

  void ref() noexcept { ++refs_; }
  void unref() noexcept {
    if (--refs_ == 0) delete this;
  }

  void shutdown() override;

 protected:
  ~StreamConnection() override = default;
  /// The socket, or -1 once it is closed.
  int fd() const noexcept { return fd_.get(); }
  /// As recv(2) and send(2). receive() may call the protocol, and close the connection.
  virtual ssize_t receive(std::span<char> buffer);
  virtual ssize_t transmit(std::string_view data);
  /// The protocol has got what receive() gave, and the connection goes on.
  virtual void received() {}
  /// receive() gave all that was there if it did not fill the buffer. So it is with TCP.
  bool shortReadEmpties_ = true;
  std::size_t queued() const noexcept { return queue_.size() - sent_; }
  /// Closes the socket now and tells the protocol on a later turn.
  void finish(Failure reason);
  /// Calls a method of the protocol and sends what it wrote; false if the connection is over. What the method throws
  /// ends the connection.
  template <class F>
  bool callProtocol(F&& f) {
    const auto kept = keepProtocol();
    corked_ = true;
    sentDirectly_ = false;
    try {
      f();
    } catch (...) {
      failed("a protocol");
    }
    corked_ = false;
    if (fd_) flush();
    return static_cast<bool>(fd_);
  }

 private:
  template <void (StreamConnection::*Method)()>
  struct Handler;

  bool refusesWrites() const noexcept { return !fd_ || writeClosed_ || ((closing_ || writeClosing_) && !producer_); }
  bool wantsToRead() const noexcept { return fd_ && !paused_ && !closing_ && !readClosed_; }

  void noteReadable(std::uint32_t events);
  void readSoon();
  void readAfterPost();
  void read();
  void endOfFile();
  void callProducer(void (Producer::*method)());
  void failed(const char* what);

  void append(std::string_view data);
  void queueChanged();
  std::size_t sendNow(std::string_view data);
  void flushSoon();
  void flushPosted();
  void flush();
  void closeWriteSide();

  void close(Failure reason);
  void deliverLost();

  ReactorImpl& reactor_;
  UniqueFd fd_;
  std::string queue_;
  std::size_t sent_ = 0;
  std::size_t writeLimit_ = 0;
  Producer* producer_ = nullptr;
  std::vector<Resolver<void>> drainWaiters_;
  std::optional<Failure> reason_;
  std::shared_ptr<ConnectionListener> listener_;
  Address peer_;
  unsigned refs_ = 0;
  bool streaming_ : 1 = false;
  bool producerPaused_ : 1 = false;
  bool paused_ : 1 = false;
  bool corked_ : 1 = false;        // a flush follows by itself: the protocol is being called
  bool sentDirectly_ : 1 = false;  // in this cork
  bool readable_ : 1 = false;      // as far as is known
  bool hungUp_ : 1 = false;        // the other side: no event will tell of what is still to be read
  bool readPosted_ : 1 = false;
  bool writeBlocked_ : 1 = false;  // until the socket is writable
  bool flushPosted_ : 1 = false;
  bool closing_ : 1 = false;
  bool writeClosing_ : 1 = false;
  bool writeClosed_ : 1 = false;
  bool readClosed_ : 1 = false;
  bool lostDelivered_ : 1 = false;
  bool shared_ : 1 = false;
};

/// For a socket that somebody else has opened; as StreamConnection's constructor.
Ref<StreamConnection> makeTCPConnection(ReactorImpl& reactor, UniqueFd fd, Address peer,
                                        const std::source_location& where);
Ref<StreamConnection> makeUNIXConnection(ReactorImpl& reactor, UniqueFd fd, Address peer,
                                         const std::source_location& where);

}  // namespace torsion::detail
