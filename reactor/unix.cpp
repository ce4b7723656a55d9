// Reactor's listenUNIX and connectUNIX.
#include <reactor/unix.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include <deferred/detail/require.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/stream_connector.hpp>
#include <reactor/detail/stream_port.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/lockfile.hpp>
#include <reactor/logger.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace detail {
namespace {

const Logger kLog("torsion.reactor");

// What the kernel takes with one byte (SCM_MAX_FD).
constexpr std::size_t kMostDescriptors = 253;

std::string errnoText(int error) {
  return std::system_category().message(error);
}

bool isAbstract(const std::string& name) {
  return name.starts_with('\0');
}

// Nothing if the name is empty or too long.
std::optional<SocketAddress> unixSocketAddress(const std::string& name) {
  SocketAddress result;
  auto* un = ::new (&result.storage) sockaddr_un{};
  if (name.empty() || name.size() > sizeof un->sun_path - !isAbstract(name)) return std::nullopt;
  un->sun_family = AF_UNIX;
  std::memcpy(un->sun_path, name.data(), name.size());
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + !isAbstract(name));
  return result;
}

class UNIXConnection final : public StreamConnection, public UNIXTransport {
 public:
  UNIXConnection(ReactorImpl& reactor, UniqueFd fd, Address peer, const std::source_location& where,
                 std::shared_ptr<ConnectionListener> listener = nullptr)
      : StreamConnection(reactor, std::move(fd), std::move(peer), where, std::move(listener)) {
    shortReadEmpties_ = false;  // the kernel stops after a descriptor, and where the writer changes
  }

  void sendFileDescriptor(int descriptor) override {
    if (disconnecting()) return;
    UniqueFd copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
    if (!copy) throw std::system_error(errno, std::system_category(), "sendFileDescriptor");
    descriptors_.push_back({sentBytes_ + queued(), std::move(copy)});
  }
  void loseConnection() override {
    if (!disconnecting() && !descriptors_.empty() && descriptors_.back().position == sentBytes_ + queued()) {
      return finish(FileDescriptorOverrun());
    }
    StreamConnection::loseConnection();
  }
  std::string describe() const override {
    const bool named = getPeer() != Address(UNIXAddress());
    return "UNIX connection " + (named ? "with " + torsion::describe(getPeer()) : "at " + torsion::describe(getHost()));
  }

 private:
  // Sent with the byte at this position of the stream.
  struct Descriptor {
    std::uint64_t position;
    UniqueFd fd;
  };

  ssize_t transmit(std::string_view data) override {
    std::size_t done = 0;
    do {
      std::string_view piece = data.substr(done);
      std::size_t count = 0;
      while (count < std::min(descriptors_.size(), kMostDescriptors) && descriptors_[count].position <= sentBytes_) {
        ++count;
      }
      if (count < descriptors_.size()) {
        piece = piece.substr(0, std::max<std::uint64_t>(descriptors_[count].position, sentBytes_ + 1) - sentBytes_);
      }
      const ssize_t n = count == 0 ? StreamConnection::transmit(piece) : transmitWith(piece, count);
      if (n < 0) return done == 0 ? n : static_cast<ssize_t>(done);
      sentBytes_ += static_cast<std::size_t>(n);
      done += static_cast<std::size_t>(n);
      if (static_cast<std::size_t>(n) < piece.size()) break;
    } while (done < data.size());
    return static_cast<ssize_t>(done);
  }

  // Sends the first `count` descriptors along.
  ssize_t transmitWith(std::string_view data, std::size_t count) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
    iovec bytes{const_cast<char*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (std::size_t i = 0; i < count; ++i) {
      const int descriptor = descriptors_[i].fd.get();
      std::memcpy(CMSG_DATA(header) + i * sizeof(int), &descriptor, sizeof(int));
    }
    const ssize_t n = ::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) descriptors_.erase(descriptors_.begin(), descriptors_.begin() + static_cast<std::ptrdiff_t>(count));
    return n;
  }

  ssize_t receive(std::span<char> buffer) override {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control;
    iovec bytes{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t n = ::recvmsg(fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return n;
    std::vector<UniqueFd> received;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
        int descriptor;
        std::memcpy(&descriptor, reinterpret_cast<char*>(header) + at, sizeof descriptor);
        received.emplace_back(descriptor);
      }
    }
    if (message.msg_flags & MSG_CTRUNC) {
      finish(ConnectionLost(
          "A descriptor that the other side sent was lost: this process is out of file descriptors. Raise the limit "
          "(ulimit -n), or close some."));
      return n;
    }
    for (UniqueFd& descriptor : received) {
      auto* receiver = dynamic_cast<FileDescriptorReceiver*>(protocol());
      if (!receiver) {
        kLog.warn("{connection}: closing a descriptor that was received, as the protocol is no FileDescriptorReceiver",
                  {{"connection", describe()}});
      } else if (!callProtocol([&] { receiver->fileDescriptorReceived(descriptor.release()); })) {
        break;
      }
    }
    return n;
  }

  std::deque<Descriptor> descriptors_;
  std::uint64_t sentBytes_ = 0;
};

class UNIXPort final : public StreamPort {
 public:
  UNIXPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory, const std::source_location& where, std::string path,
           std::unique_ptr<FilesystemLock> lock)
      : StreamPort(reactor, std::move(factory), where), path_(std::move(path)), lock_(std::move(lock)) {
    if (::stat(path_.c_str(), &made_) != 0) path_.clear();
  }
  std::string describe() const override { return "UNIX port " + torsion::describe(getHost()); }

 private:
  Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, Address peer) override {
    return makeUNIXConnection(reactor, std::move(fd), std::move(peer), where());
  }
  // Another server may have put its own socket there.
  void closed() override {
    struct stat now;
    if (!path_.empty() && ::stat(path_.c_str(), &now) == 0 && now.st_dev == made_.st_dev &&
        now.st_ino == made_.st_ino) {
      ::unlink(path_.c_str());
    }
    lock_.reset();
  }

  std::string path_;  // empty for an abstract name, and for somebody else's socket
  struct stat made_ = {};
  std::unique_ptr<FilesystemLock> lock_;
};

class UNIXConnector final : public StreamConnector {
 public:
  UNIXConnector(ReactorImpl& reactor, std::string name, std::shared_ptr<ClientFactory> factory, Duration timeout,
                bool checkPID, const std::source_location& where)
      : StreamConnector(reactor, std::move(factory), timeout, where), name_(std::move(name)), checkPID_(checkPID) {}

  Address getDestination() const override { return UNIXAddress{name_}; }

 private:
  void begin(Attempt& attempt) override {
    const auto address = unixSocketAddress(name_);
    if (!address) return attempt.failLater(attempt.failureFor(name_.empty() ? ENOENT : ENAMETOOLONG));
    if (checkPID_ && !isLocked(name_ + ".lock")) {
      return attempt.failLater(
          BadFileError("connecting to unix:" + name_ + ": no server holds " + name_ + ".lock", ENOENT));
    }
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return attempt.failLater(attempt.failureFor(errno));
    attempt.connectTo(std::move(fd), *address);
  }
  Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, const Address& peer,
                                       const std::source_location& where) override {
    return Ref<StreamConnection>(*new UNIXConnection(reactor, std::move(fd), peer, where, self()));
  }

  const std::string name_;
  const bool checkPID_;
};

[[noreturn]] void cannotListen(const std::string& address, int error) {
  std::string why = errnoText(error);
  if (error == EADDRINUSE) {
    why += " (another server listens there, or one that crashed left its socket: remove it, or use wantPID)";
  } else if (error == ENAMETOOLONG) {
    why += " (the path of a UNIX socket has at most 107 bytes)";
  }
  throw CannotListenError(torsion::describe(UNIXAddress{address}), error, why);
}

std::unique_ptr<FilesystemLock> takeLock(const std::string& address) {
  auto lock = std::make_unique<FilesystemLock>(address + ".lock");
  bool taken = false;
  try {
    taken = lock->lock();
  } catch (const std::exception& error) {
    throw CannotListenError(torsion::describe(UNIXAddress{address}), 0, error.what());
  }
  if (!taken) {
    throw CannotListenError(torsion::describe(UNIXAddress{address}), EADDRINUSE,
                            "another server is running, it holds " + lock->name());
  }
  struct stat left;
  if (!lock->clean() && ::stat(address.c_str(), &left) == 0 && S_ISSOCK(left.st_mode)) ::unlink(address.c_str());
  return lock;
}

}  // namespace

std::shared_ptr<StreamPort> makeUNIXPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory,
                                         const std::source_location& where) {
  return std::make_shared<UNIXPort>(reactor, std::move(factory), where, std::string(), nullptr);
}
Ref<StreamConnection> makeUNIXConnection(ReactorImpl& reactor, UniqueFd fd, Address peer,
                                         const std::source_location& where) {
  return Ref<StreamConnection>(*new UNIXConnection(reactor, std::move(fd), std::move(peer), where));
}

}  // namespace detail

std::shared_ptr<ListeningPort> Reactor::listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                                   int backlog, unsigned mode, bool wantPID,
                                                   std::source_location where) {
  detail::require(factory, "listenUNIX: there is no factory");
  using namespace detail;
  impl_->checkUsable();
  const auto socketAddress = unixSocketAddress(address);
  if (!socketAddress) cannotListen(address, address.empty() ? EINVAL : ENAMETOOLONG);
  const bool hasPath = !isAbstract(address);
  auto lock = wantPID && hasPath ? takeLock(address) : nullptr;
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // Before it is bound, so that nobody slips in; and after, for what umask has taken away.
  if (!fd || ::fchmod(fd.get(), mode) < 0 || ::bind(fd.get(), socketAddress->data(), socketAddress->size) < 0) {
    cannotListen(address, errno);
  }
  auto port =
      std::make_shared<UNIXPort>(*impl_, std::move(factory), where, hasPath ? address : std::string(), std::move(lock));
  int error = 0;
  if ((hasPath && ::chmod(address.c_str(), mode) < 0) || ::listen(fd.get(), backlog) < 0) error = errno;
  if (error == 0) error = port->start(std::move(fd));
  if (error != 0) {
    if (hasPath) ::unlink(address.c_str());
    cannotListen(address, error);
  }
  return port;
}

std::shared_ptr<Connector> Reactor::connectUNIX(const std::string& address, std::shared_ptr<ClientFactory> factory,
                                                Duration timeout, bool checkPID, std::source_location where) {
  impl_->checkUsable();
  auto connector =
      std::make_shared<detail::UNIXConnector>(*impl_, address, std::move(factory), timeout, checkPID, where);
  connector->connect();
  return connector;
}

}  // namespace torsion
