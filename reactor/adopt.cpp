#include <reactor/adopt.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include <deferred/functions.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/stream_port.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>

namespace torsion {
namespace {

std::optional<long> numberIn(const char* variable) {
  const char* text = ::getenv(variable);
  if (!text) return std::nullopt;
  long number = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

void checkFamily(int family, const char* what) {
  if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) {
    throw UnsupportedAddressFamily(std::string(what) + ": the family is none of AF_INET, AF_INET6 and AF_UNIX");
  }
}

void setNoDelay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

ListenFDs ListenFDs::fromEnvironment() {
  constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
  std::vector<std::pair<int, std::string>> descriptors;
  const auto count = numberIn("LISTEN_FDS");
  if (numberIn("LISTEN_PID") != ::getpid() || !count || *count < 0) return ListenFDs({});
  const char* listed = ::getenv("LISTEN_FDNAMES");
  std::string_view names = listed ? listed : "";
  for (int fd = kFirst; fd - kFirst < *count && ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0; ++fd) {
    const std::size_t end = std::min(names.find(':'), names.size());
    descriptors.emplace_back(fd, names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(variable);
  return ListenFDs(std::move(descriptors));
}

std::vector<int> ListenFDs::inheritedDescriptors() const {
  std::vector<int> all;
  for (const auto& [fd, name] : descriptors_) all.push_back(fd);
  return all;
}

std::map<std::string, int> ListenFDs::inheritedNamedDescriptors() const {
  std::map<std::string, int> named;
  for (const auto& [fd, name] : descriptors_) {
    if (!name.empty()) named.emplace(name, fd);
  }
  return named;
}

AdoptedStreamServerEndpoint::~AdoptedStreamServerEndpoint() {
  if (fd_ >= 0) ::close(fd_);
}

Deferred<std::shared_ptr<ListeningPort>> AdoptedStreamServerEndpoint::listen(std::shared_ptr<Factory> factory,
                                                                             std::source_location where) {
  if (fd_ < 0) {
    return fail<std::shared_ptr<ListeningPort>>(
        AlreadyListened("an adopted socket is listened at once only; make another endpoint for another socket"));
  }
  const detail::UniqueFd fd(std::exchange(fd_, -1));
  return execute([&] { return reactor_.adoptStreamPort(fd.get(), family_, std::move(factory), where); });
}

std::shared_ptr<ListeningPort> Reactor::adoptStreamPort(int fd, int family, std::shared_ptr<Factory> factory,
                                                        std::source_location where) {
  using namespace detail;
  impl_->checkUsable();
  checkFamily(family, "adoptStreamPort");
  UniqueFd duplicate = duplicateSocket(fd, family, SOCK_STREAM, "adoptStreamPort");
  int listening = 0;
  socklen_t size = sizeof listening;
  ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
  if (!listening) throw std::invalid_argument("adoptStreamPort: nobody has called listen(2) on this socket");
  auto port = (family == AF_UNIX ? makeUNIXPort : makeTCPPort)(*impl_, std::move(factory), where);
  if (family != AF_UNIX) setNoDelay(duplicate.get());  // accepted connections inherit it
  if (const int error = port->start(std::move(duplicate))) throw std::system_error(error, std::generic_category());
  return port;
}

std::shared_ptr<Protocol> Reactor::adoptStreamConnection(int fd, int family, std::shared_ptr<Factory> factory,
                                                         std::source_location where) {
  using namespace detail;
  impl_->checkUsable();
  checkFamily(family, "adoptStreamConnection");
  UniqueFd duplicate = duplicateSocket(fd, family, SOCK_STREAM, "adoptStreamConnection");
  SocketAddress peer;
  if (::getpeername(fd, peer.data(), &peer.size) < 0) {
    throw std::system_error(errno, std::generic_category(), "adoptStreamConnection: the socket is not connected");
  }
  const Address address = toAddress(peer);
  auto protocol = factory->buildProtocol(address);
  if (!protocol) return nullptr;
  struct Nobody final : Watcher {
    void ready(std::uint32_t) override {}
  } nobody;  // until there is a connection
  if (const int error = impl_->poller.add(duplicate.get(), StreamConnection::kEvents, nobody)) {
    throw std::system_error(error, std::generic_category(), "adoptStreamConnection");
  }
  auto connection =
      (family == AF_UNIX ? makeUNIXConnection : makeTCPConnection)(*impl_, std::move(duplicate), address, where);
  connection->setShared();
  connection->setTcpNoDelay(true);
  connection->start(protocol);
  return protocol;
}

}  // namespace torsion
