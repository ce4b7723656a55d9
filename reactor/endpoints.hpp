// Endpoints: where to connect to, or to listen at, as a value (twisted.internet.endpoints).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

#include <deferred/deferred.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// Somewhere to connect to (Twisted's IStreamClientEndpoint). It may be used again, also while an attempt is under way,
/// and need not outlive its attempts.
class StreamClientEndpoint {
 public:
  virtual ~StreamClientEndpoint() = default;
  /// Connects, and gives the protocol that `factory` built once its connectionMade has returned. Fails with what
  /// buildProtocol threw, with NoProtocol if it gave none, or with the reason why there is no connection. cancel() ends
  /// the attempt: ConnectingCancelledError. A null factory throws std::invalid_argument at once.
  virtual Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                                      std::source_location where = std::source_location::current()) = 0;
};

/// Somewhere to listen at (Twisted's IStreamServerEndpoint).
class StreamServerEndpoint {
 public:
  virtual ~StreamServerEndpoint() = default;
  /// Listens, with protocols that `factory` builds. Fails with CannotListenError. A null factory throws
  /// std::invalid_argument at once.
  virtual Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) = 0;
};

/// Connects `protocol` itself: gives it once its connectionMade has returned. Fails and cancels as endpoint.connect.
template <class P>
Deferred<std::shared_ptr<P>> connectProtocol(StreamClientEndpoint& endpoint, std::shared_ptr<P> protocol,
                                             std::source_location where = std::source_location::current()) {
  if (!protocol) throw std::invalid_argument("connectProtocol: the protocol is null");
  return endpoint.connect(makeFactory([protocol] { return protocol; }), where)
      .addCallback([](std::shared_ptr<Protocol> connected) { return std::static_pointer_cast<P>(connected); }, where);
}

/// An IPv4 address (or a name, of which it takes the first address).
class TCP4ClientEndpoint final : public StreamClientEndpoint {
 public:
  TCP4ClientEndpoint(std::string host, PortNumber port, NetworkReactor& reactor = torsion::reactor(),
                     Duration timeout = std::chrono::seconds(30), std::string bindAddress = {})
      : reactor_(reactor),
        host_(std::move(host)),
        port_(port),
        timeout_(timeout),
        bindAddress_(std::move(bindAddress)) {}
  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override;

 private:
  NetworkReactor& reactor_;
  std::string host_;
  std::uint16_t port_;
  Duration timeout_;
  std::string bindAddress_;
};

/// A port (0: any free one) of an address of this machine, or of a name that listenTCP() takes (empty: all of IPv4).
class TCP4ServerEndpoint final : public StreamServerEndpoint {
 public:
  explicit TCP4ServerEndpoint(PortNumber port, std::string interface = {}, NetworkReactor& reactor = torsion::reactor(),
                              int backlog = 50)
      : reactor_(reactor), port_(port), interface_(std::move(interface)), backlog_(backlog) {}
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override;

 private:
  NetworkReactor& reactor_;
  std::uint16_t port_;
  std::string interface_;
  int backlog_;
};

/// An IPv6 address, or a name, of which it tries the IPv6 addresses as HostnameEndpoint does (DNSLookupError if there
/// is none).
class TCP6ClientEndpoint final : public StreamClientEndpoint {
 public:
  TCP6ClientEndpoint(std::string host, PortNumber port, NetworkReactor& reactor = torsion::reactor(),
                     Duration timeout = std::chrono::seconds(30), std::string bindAddress = {})
      : reactor_(reactor),
        host_(std::move(host)),
        port_(port),
        timeout_(timeout),
        bindAddress_(std::move(bindAddress)) {}
  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override;

 private:
  NetworkReactor& reactor_;
  std::string host_;
  std::uint16_t port_;
  Duration timeout_;
  std::string bindAddress_;
};

/// A port of an IPv6 address of this machine, or of a name that has one ("::": all, of IPv4 too where the system has it
/// so).
class TCP6ServerEndpoint final : public StreamServerEndpoint {
 public:
  explicit TCP6ServerEndpoint(PortNumber port,
                              std::string interface = "::", NetworkReactor& reactor = torsion::reactor(),
                              int backlog = 50)
      : reactor_(reactor), port_(port), interface_(std::move(interface)), backlog_(backlog) {}
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override;

 private:
  NetworkReactor& reactor_;
  std::uint16_t port_;
  std::string interface_;
  int backlog_;
};

/// A UNIX socket; see reactor/interfaces.hpp for the parameters and errors.
class UNIXClientEndpoint final : public StreamClientEndpoint {
 public:
  explicit UNIXClientEndpoint(std::string path, UNIX& reactor = torsion::reactor(),
                              Duration timeout = std::chrono::seconds(30), bool checkPID = false)
      : reactor_(reactor), path_(std::move(path)), timeout_(timeout), checkPID_(checkPID) {}
  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override;

 private:
  UNIX& reactor_;
  std::string path_;
  Duration timeout_;
  bool checkPID_;
};

class UNIXServerEndpoint final : public StreamServerEndpoint {
 public:
  explicit UNIXServerEndpoint(std::string address, UNIX& reactor = torsion::reactor(), int backlog = 50,
                              unsigned mode = 0666, bool wantPID = false)
      : reactor_(reactor), address_(std::move(address)), backlog_(backlog), mode_(mode), wantPID_(wantPID) {}
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override;

 private:
  UNIX& reactor_;
  std::string address_;
  int backlog_;
  unsigned mode_;
  bool wantPID_;
};

/// A host by its name, with the fastest of its IPv6 and IPv4 addresses ("happy eyeballs", RFC 8305): it begins with the
/// first address found (50 ms later if that is of IPv4), and others join as they are found. The next is tried when one
/// has failed, or has not answered within `attemptDelay`, while the earlier ones go on; the first to connect wins and
/// the others are given up. When all have failed, connect() fails as the last of them, and with DNSLookupError where
/// the name has no address. An address literal is connected to at once.
class HostnameEndpoint final : public StreamClientEndpoint {
 public:
  /// `timeout` is for the look-up (ConnectTimeoutError if it has found nothing by then) and anew for each attempt; 0:
  /// no limit. `bindAddress` is the local address to connect from.
  HostnameEndpoint(std::string host, PortNumber port, NetworkReactor& reactor = torsion::reactor(),
                   Duration timeout = std::chrono::seconds(30), std::string bindAddress = {},
                   Duration attemptDelay = std::chrono::milliseconds(250))
      : reactor_(reactor),
        host_(std::move(host)),
        port_(port),
        timeout_(timeout),
        bindAddress_(std::move(bindAddress)),
        attemptDelay_(attemptDelay) {}
  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override;

 private:
  NetworkReactor& reactor_;
  std::string host_;
  std::uint16_t port_;
  Duration timeout_;
  std::string bindAddress_;
  Duration attemptDelay_;
};

}  // namespace torsion
