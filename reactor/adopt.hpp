// Sockets that somebody else has opened: the program itself, its parent, systemd.
#pragma once

#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// Descriptors handed over by systemd's socket activation (sd_listen_fds(3); twisted.python.systemd.ListenFDs):
///
///   for (int fd : ListenFDs::fromEnvironment().inheritedDescriptors()) {
///     reactor().adoptStreamPort(fd, AF_INET6, factory);
///     ::close(fd);
///   }
class ListenFDs {
 public:
  /// Those that LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES tell of: none if the variables are for another process. They
  /// are taken out of the environment, and the descriptors are closed in children, so that these do not take them for
  /// their own.
  static ListenFDs fromEnvironment();
  /// For `count` descriptors from `start` on, perhaps named.
  explicit ListenFDs(std::vector<std::pair<int, std::string>> descriptors) : descriptors_(std::move(descriptors)) {}

  std::vector<int> inheritedDescriptors() const;
  /// By name (FileDescriptorName= of the socket unit); of several with one name the first.
  std::map<std::string, int> inheritedNamedDescriptors() const;

 private:
  std::vector<std::pair<int, std::string>> descriptors_;
};

/// Serves an adopted listening socket (Twisted's class of that name).
class AdoptedStreamServerEndpoint final : public StreamServerEndpoint {
 public:
  /// Owns `fd` from now on. See SocketAdoption::adoptStreamPort for `family`.
  AdoptedStreamServerEndpoint(int fd, int family, SocketAdoption& reactor = torsion::reactor()) noexcept
      : reactor_(reactor), fd_(fd), family_(family) {}
  AdoptedStreamServerEndpoint(const AdoptedStreamServerEndpoint&) = delete;
  AdoptedStreamServerEndpoint& operator=(const AdoptedStreamServerEndpoint&) = delete;
  ~AdoptedStreamServerEndpoint() override;

  /// Once: a second call fails with AlreadyListened. Fails also with what adoptStreamPort throws.
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override;

 private:
  SocketAdoption& reactor_;
  int fd_;  // -1 once it listens
  int family_;
};

}  // namespace torsion
