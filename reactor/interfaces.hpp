// The abstract classes through which code asks for sockets, names and the like, so that a test can give it fakes
// instead (twisted.internet.interfaces). Reactor implements all of them, reactor/testing/memory_reactor.hpp too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <deferred/time.hpp>
#include <reactor/address.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

class TLSOptions;

/// A listening port (Twisted's IListeningPort). Kept by its reactor; dropping the handle does not stop it.
class ListeningPort {
 public:
  virtual ~ListeningPort() = default;
  /// Closes the port; connections already accepted stay. Fires when no more will be accepted. Harmless when repeated.
  virtual Deferred<void> stopListening() = 0;
  /// The address bound, with the port that the system chose where 0 was asked for.
  virtual Address getHost() const = 0;
};

/// A client's connection or attempt (Twisted's IConnector). It lives while either is under way; a ClientFactory that
/// wants to connect() it again later keeps connector.shared_from_this() until then.
class Connector : public std::enable_shared_from_this<Connector> {
 public:
  virtual ~Connector() = default;
  /// Tries (again). Throws std::logic_error while an attempt or a connection is under way.
  virtual void connect() = 0;
  /// Ends the connection (loseConnection) or the attempt (stopConnecting), whichever there is.
  virtual void disconnect() = 0;
  /// Ends the attempt: clientConnectionFailed gets UserError. Throws NotConnectingError if there is none.
  virtual void stopConnecting() = 0;
  virtual Address getDestination() const = 0;
};

/// Twisted's IReactorTCP. Here and below `where` is the place that a test which leaves the port or connection open is
/// told of.
class TCP {
 public:
  /// Listens on `port` (0: one that the system chooses) of `interface`: an address, "localhost", or another name of
  /// /etc/hosts, of which it takes the first address (empty: all of IPv4; "::": all). It asks no name server, which
  /// would take time: resolve() does. Throws CannotListenError.
  virtual std::shared_ptr<ListeningPort> listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog = 50,
                                                   const std::string& interface = "",
                                                   std::source_location where = std::source_location::current()) = 0;
  /// Connects to `host`, an address or a name (its first address; HostnameEndpoint tries them all). `timeout` covers
  /// the look-up and the attempt (0: no limit); then clientConnectionFailed gets ConnectTimeoutError. `bindAddress`:
  /// the local address to connect from, empty for any.
  virtual std::shared_ptr<Connector> connectTCP(const std::string& host, PortNumber port,
                                                std::shared_ptr<ClientFactory> factory,
                                                Duration timeout = std::chrono::seconds(30),
                                                const std::string& bindAddress = "",
                                                std::source_location where = std::source_location::current()) = 0;

 protected:
  ~TCP() = default;
};

/// Twisted's IReactorUNIX. An `address` is a path, or a name in the abstract namespace, which starts with '\0'.
class UNIX {
 public:
  /// Listens on the new socket `address`, which gets `mode` (like connections through it, see chmod) and is removed
  /// when the port closes. `wantPID` takes the lock `address`.lock (see reactor/lockfile.hpp), so that a second server
  /// is refused while a socket that a crashed one has left is cleared away. Throws CannotListenError.
  virtual std::shared_ptr<ListeningPort> listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                                    int backlog = 50, unsigned mode = 0666, bool wantPID = false,
                                                    std::source_location where = std::source_location::current()) = 0;
  /// Connects. If there is no such socket clientConnectionFailed gets BadFileError, if nobody listens at it
  /// ConnectionRefusedError, and ConnectTimeoutError if there is no connection after `timeout` (0: no limit), which
  /// takes a server whose backlog is full. `checkPID`: BadFileError also where no server holds the lock of listenUNIX.
  virtual std::shared_ptr<Connector> connectUNIX(const std::string& address, std::shared_ptr<ClientFactory> factory,
                                                 Duration timeout = std::chrono::seconds(30), bool checkPID = false,
                                                 std::source_location where = std::source_location::current()) = 0;

 protected:
  ~UNIX() = default;
};

/// Twisted's IReactorSocket, for streams. `fd` is a socket of `family`: AF_INET, AF_INET6 or AF_UNIX. It is duplicated:
/// the caller goes on owning `fd`, and may close it now; that it does not block any more (O_NONBLOCK), and TCP
/// sends at once (TCP_NODELAY), holds for all that share the socket. Both throw UnsupportedAddressFamily for another
/// family, std::invalid_argument if `fd` is no such socket, std::system_error.
class SocketAdoption {
 public:
  /// Serves a socket that listen(2) was called on. When the port stops others may go on with the socket; a UNIX
  /// socket's path stays.
  virtual std::shared_ptr<ListeningPort> adoptStreamPort(
      int fd, int family, std::shared_ptr<Factory> factory,
      std::source_location where = std::source_location::current()) = 0;
  /// Gives a connected socket to a protocol of `factory`, and returns that after connectionMade: or null if it
  /// refused, when nothing happens to the socket. The end of the connection is one for all that share the socket.
  virtual std::shared_ptr<Protocol> adoptStreamConnection(
      int fd, int family, std::shared_ptr<Factory> factory,
      std::source_location where = std::source_location::current()) = 0;

 protected:
  ~SocketAdoption() = default;
};

/// Twisted's IReactorSSL (SSL is OpenSSL's own name): as TCP, with TLS below the protocols of `factory`.
/// reactor/tls.hpp makes the options.
class ReactorSSL {
 public:
  virtual std::shared_ptr<ListeningPort> listenSSL(PortNumber port, std::shared_ptr<Factory> factory,
                                                   const TLSOptions& options, int backlog = 50,
                                                   const std::string& interface = "",
                                                   std::source_location where = std::source_location::current()) = 0;
  virtual std::shared_ptr<Connector> connectSSL(const std::string& host, PortNumber port,
                                                std::shared_ptr<ClientFactory> factory, const TLSOptions& options,
                                                Duration timeout = std::chrono::seconds(30),
                                                const std::string& bindAddress = "",
                                                std::source_location where = std::source_location::current()) = 0;

 protected:
  ~ReactorSSL() = default;
};

/// Twisted's IHostnameResolver, as a Deferred.
class NameResolver {
 public:
  using Addresses = std::vector<Address>;
  /// The addresses of `name` (IPv6 and IPv4, in the order to try them; ports are 0). An address literal gives itself.
  /// Fails with DNSLookupError. cancel() abandons the look-up (CancelledError).
  virtual Deferred<Addresses> resolve(const std::string& name,
                                      std::source_location where = std::source_location::current()) = 0;
  /// The same for those who begin with the first addresses that come: calls found(), one or more times, and fires when
  /// no more will come. Fails if none came, and with what found() throws. found() may cancel it.
  virtual Deferred<void> resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                         std::source_location where = std::source_location::current());

 protected:
  ~NameResolver() = default;
};

/// Of a system event come all triggers `before` (it waits for the Deferreds that they return), then those `during`,
/// then those `after`; within a phase in the order they were added.
enum class Phase { before, during, after };
enum class SystemEvent { startup, shutdown };
/// Names a trigger for removeSystemEventTrigger.
enum class TriggerID : std::uint64_t {};

/// What the parts of a program ask of the reactor that they run in (Twisted's IReactorCore).
class ReactorCore {
 public:
  /// Begins shutdown on a later turn. Throws ReactorNotRunning if it does not run or has been told to stop.
  virtual void stop() = 0;
  /// True from "during startup" until "during shutdown".
  virtual bool running() const = 0;
  /// Calls f() at once if started, otherwise after startup.
  virtual void callWhenRunning(UniqueFunction<void()> f) = 0;
  /// Adds f, returning void or Deferred<void>, which `before` waits for. It is called once: add it anew for another
  /// run.
  template <class F>
  TriggerID addSystemEventTrigger(Phase phase, SystemEvent event, F f) {
    using Returned = std::invoke_result_t<F&>;
    static_assert(std::is_void_v<Returned> || std::is_same_v<Returned, Deferred<void>>,
                  "addSystemEventTrigger: the trigger returns nothing or Deferred<void>");
    if constexpr (std::is_void_v<Returned>) {
      UniqueFunction<void()> call(std::move(f));
      detail::require(call, "addSystemEventTrigger: there is no function to call");
      return addTrigger(phase, event, [call = std::move(call)]() mutable {
        call();
        return std::optional<Deferred<void>>();
      });
    } else {
      Trigger trigger(std::move(f));
      detail::require(trigger, "addSystemEventTrigger: there is no function to call");
      return addTrigger(phase, event, std::move(trigger));
    }
  }
  /// Throws std::invalid_argument for a trigger that was removed or has been called.
  virtual void removeSystemEventTrigger(TriggerID id) = 0;

 protected:
  using Trigger = UniqueFunction<std::optional<Deferred<void>>()>;
  ~ReactorCore() = default;

 private:
  virtual TriggerID addTrigger(Phase phase, SystemEvent event, Trigger trigger) = 0;
};

/// All that a network program needs; what most functions of this library take as `reactor`.
class NetworkReactor : public Time, public TCP, public NameResolver {
 protected:
  ~NetworkReactor() = default;
};

}  // namespace torsion
