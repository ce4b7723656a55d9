// MemoryReactor: a reactor without sockets and with a clock that stands still (twisted.internet.testing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include <deferred/failure.hpp>
#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/fake_datagram_transport.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/tls.hpp>
#include <reactor/udp.hpp>

namespace torsion {

namespace detail {
class ThreePhaseEvent;
}

/// Give it wherever a function takes a NetworkReactor, a Time or another interface of the reactor. It records who
/// listens and who wants to connect; nothing happens until the test says so:
///
///   MemoryReactor reactor;
///   reactor.addName("example.com", {"10.0.0.5"});
///   reactor.listenTCP(80, forProtocol<Echo>());
///   auto d = askForEcho("example.com", reactor);
///   reactor.flush();                      // connects, and exchanges until all is quiet
///   CHECK(successResultOf(d) == "echo");
///   reactor.advance(30s);                 // time moves by this alone
class MemoryReactor : public NetworkReactor,
                      public ReactorCore,
                      public ReactorSSL,
                      public UNIX,
                      public UDP,
                      public SocketAdoption {
 public:
  struct TCPServer {
    std::uint16_t port;
    std::shared_ptr<Factory> factory;
    int backlog;
    std::string interface;
  };
  struct TCPClient {
    std::string host;
    std::uint16_t port;
    std::shared_ptr<ClientFactory> factory;
    Duration timeout;
    std::string bindAddress;
    std::source_location where;
  };
  struct SSLServer {
    std::uint16_t port;
    std::shared_ptr<Factory> factory;
    TLSOptions options;
    int backlog;
    std::string interface;
  };
  struct SSLClient {
    std::string host;
    std::uint16_t port;
    std::shared_ptr<ClientFactory> factory;
    TLSOptions options;
    Duration timeout;
    std::string bindAddress;
    std::source_location where;
  };
  struct UNIXServer {
    std::string address;
    std::shared_ptr<Factory> factory;
    int backlog;
    unsigned mode;
    bool wantPID;
  };
  struct UNIXClient {
    std::string address;
    std::shared_ptr<ClientFactory> factory;
    Duration timeout;
    bool checkPID;
    std::source_location where;
  };
  struct UDPPort {
    std::uint16_t port;
    std::shared_ptr<DatagramProtocol> protocol;
    std::string interface;
    std::size_t maxPacketSize;
    std::shared_ptr<FakeDatagramTransport> transport;  ///< what was sent, and a way to deliver
    std::source_location where;
  };
  /// Of a stream port `protocol` is null, of a UDP port `factory`.
  struct AdoptedPort {
    int fd;
    int family;
    std::shared_ptr<Factory> factory;
    std::shared_ptr<DatagramProtocol> protocol;
  };
  struct AdoptedStreamConnection {
    int fd;
    int family;
    std::shared_ptr<Factory> factory;
  };

  MemoryReactor();
  /// Attempts to connect fail with ConnectError, and what would start something then throws ReactorNotRunning.
  /// Connections are dropped without a connectionLost; ports and connectors that outlive the reactor are inert.
  virtual ~MemoryReactor();
  MemoryReactor(const MemoryReactor&) = delete;
  MemoryReactor& operator=(const MemoryReactor&) = delete;

  /// Time stands still but for this: see Clock::advance. Attempts to connect that have waited for their timeout fail.
  void advance(Duration amount) { clock_.advance(amount); }
  /// advance() by each of the amounts in turn, and flush() after each.
  void pump(std::initializer_list<Duration> amounts);
  Duration seconds() const override { return clock_.seconds(); }
  /// The calls that are scheduled, in the order in which they will run, without those of the timeouts of attempts to
  /// connect.
  std::vector<DelayedCall> getDelayedCalls() const;

  /// Port 0 gives a free one, from 49152 up; `interface` may be a name of addName(). Throws CannotListenError for a
  /// port that is taken.
  std::shared_ptr<ListeningPort> listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog = 50,
                                           const std::string& interface = "",
                                           std::source_location where = std::source_location::current()) override;
  /// The attempt waits for flush(), succeedOnce() or failOnce(); advance() past `timeout` fails it.
  std::shared_ptr<Connector> connectTCP(const std::string& host, PortNumber port,
                                        std::shared_ptr<ClientFactory> factory,
                                        Duration timeout = std::chrono::seconds(30),
                                        const std::string& bindAddress = "",
                                        std::source_location where = std::source_location::current()) override;
  /// The same for UNIX sockets, of which none is in the file system.
  std::shared_ptr<ListeningPort> listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                            int backlog = 50, unsigned mode = 0666, bool wantPID = false,
                                            std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Connector> connectUNIX(const std::string& address, std::shared_ptr<ClientFactory> factory,
                                         Duration timeout = std::chrono::seconds(30), bool checkPID = false,
                                         std::source_location where = std::source_location::current()) override;
  /// With TLS in memory.
  std::shared_ptr<ListeningPort> listenSSL(PortNumber port, std::shared_ptr<Factory> factory, const TLSOptions& options,
                                           int backlog = 50, const std::string& interface = "",
                                           std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Connector> connectSSL(const std::string& host, PortNumber port,
                                        std::shared_ptr<ClientFactory> factory, const TLSOptions& options,
                                        Duration timeout = std::chrono::seconds(30),
                                        const std::string& bindAddress = "",
                                        std::source_location where = std::source_location::current()) override;
  /// flush() takes datagrams to the ports of this reactor that they are addressed to, and to the members of multicast
  /// groups; to any other address they are only recorded: udpPorts()[i].transport->written().
  std::shared_ptr<DatagramTransport> listenUDP(PortNumber port, std::shared_ptr<DatagramProtocol> protocol,
                                               const std::string& interface = "", std::size_t maxPacketSize = 8192,
                                               std::source_location where = std::source_location::current()) override;
  std::shared_ptr<DatagramTransport> listenMulticast(
      PortNumber port, std::shared_ptr<DatagramProtocol> protocol, const std::string& interface = "",
      std::size_t maxPacketSize = 8192, bool listenMultiple = false,
      std::source_location where = std::source_location::current()) override;
  /// Adopted descriptors are recorded and not used. A port is at a free number of all interfaces, or at a name of the
  /// abstract namespace; see getHost(). A connection's other end is an AccumulatingProtocol, the client of
  /// connections().back().
  std::shared_ptr<ListeningPort> adoptStreamPort(int fd, int family, std::shared_ptr<Factory> factory,
                                                 std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Protocol> adoptStreamConnection(
      int fd, int family, std::shared_ptr<Factory> factory,
      std::source_location where = std::source_location::current()) override;
  std::shared_ptr<DatagramTransport> adoptDatagramPort(
      int fd, int family, std::shared_ptr<DatagramProtocol> protocol, std::size_t maxPacketSize = 8192,
      std::source_location where = std::source_location::current()) override;

  /// Fires startup, and returns. Throws ReactorAlreadyRunning.
  void run();
  /// The next flush() fires shutdown, whose triggers `before` are waited for; then ports close, connections end with
  /// ConnectionLost, and running() is false.
  void stop() override;
  bool running() const override { return running_; }
  void callWhenRunning(UniqueFunction<void()> f) override;
  void removeSystemEventTrigger(TriggerID id) override;
  /// How many there are. callWhenRunning() before run() adds one after startup.
  std::size_t triggers(Phase phase, SystemEvent event) const;

  /// Has fired already: with the addresses given to addName, or DNSLookupError. "localhost" is known.
  Deferred<Addresses> resolve(const std::string& name,
                              std::source_location where = std::source_location::current()) override;
  /// Says what `name` resolves to: IPv4 or IPv6 addresses, in the order to try them.
  void addName(const std::string& name, const std::vector<std::string>& addresses);

  /// Who listens, and the attempts that wait, the oldest first.
  std::vector<TCPServer> tcpServers() const;
  std::vector<TCPClient> tcpClients() const;
  std::vector<SSLServer> sslServers() const;
  std::vector<SSLClient> sslClients() const;
  std::vector<UNIXServer> unixServers() const;
  std::vector<UNIXClient> unixClients() const;
  std::vector<UDPPort> udpPorts() const;
  /// All that were adopted, in order.
  const std::vector<AdoptedPort>& adoptedPorts() const noexcept { return adoptedPorts_; }
  const std::vector<AdoptedStreamConnection>& adoptedStreamConnections() const noexcept {
    return adoptedStreamConnections_;
  }
  /// Connects two protocols; flush() serves them as the others.
  std::shared_ptr<IOPump> connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                                  std::source_location where = std::source_location::current());
  /// The connections that are open.
  std::vector<std::shared_ptr<IOPump>> connections() const;

  /// Connects the oldest attempt that a server listens for, and returns the connection; null if there is none.
  std::shared_ptr<IOPump> succeedOnce();
  /// Fails the oldest attempt. False if there is none.
  bool failOnce(const Failure& reason = ConnectionRefusedError("Connection was refused by other side"));
  /// Ends every attempt as a network would (connected, refused where nobody listens, DNSLookupError for unknown names,
  /// BadFileError for UNIX sockets that are not there), runs the calls that are due, delivers datagrams, and pumps all
  /// connections, until nothing happens any more. Time does not move. Returns whether anything happened. Throws
  /// std::runtime_error if they are busy after 1000 rounds.
  bool flush();
  /// As IOPump::setPieceSize, for all connections to come.
  void setPieceSize(std::size_t bytes) { pieceSize_ = bytes; }

 protected:
  /// For RaisingMemoryReactor.
  MemoryReactor(std::optional<Failure> listenException, std::optional<Failure> connectException);

 private:
  class Port;
  class Attempt;
  class Datagrams;
  DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) override;
  TriggerID addTrigger(Phase phase, SystemEvent event, Trigger trigger) override;
  detail::ThreePhaseEvent& event(SystemEvent event) const { return *events_[static_cast<int>(event)]; }
  void shutdown();
  void checkUsable() const;
  void checkListening() const;
  void checkConnecting() const;
  template <class Record>
  std::shared_ptr<ListeningPort> listenAt(Record record, std::shared_ptr<Factory> factory);
  template <class Record>
  std::shared_ptr<Connector> connectTo(Record record, std::shared_ptr<ClientFactory> factory);
  std::shared_ptr<Datagrams> bind(UDPPort record, bool multiple);
  Address lookUp(const Attempt& attempt) const;
  Failure refusal(const Attempt& attempt, const Address& to) const;
  Port* portFor(const Attempt& attempt, const Address& to) const;
  std::string interfaceOf(const std::string& name) const;
  bool isTaken(std::uint16_t port, const std::string& interface) const;
  bool isBound(std::uint16_t port, const std::string& interface, bool multiple) const;
  std::uint16_t newPort() noexcept;
  std::shared_ptr<IOPump> connect(Attempt& attempt, const Address& to, Factory& server);
  bool deliverDatagrams();

  Clock clock_;
  std::map<std::string, std::vector<Address>> names_;
  std::vector<std::shared_ptr<Port>> ports_;
  std::vector<std::shared_ptr<Attempt>> attempts_;  // that wait
  std::vector<std::weak_ptr<Attempt>> connectors_;  // all
  std::vector<std::shared_ptr<Datagrams>> datagrams_;
  std::vector<std::shared_ptr<IOPump>> connections_;
  std::vector<AdoptedPort> adoptedPorts_;
  std::vector<AdoptedStreamConnection> adoptedStreamConnections_;
  std::unique_ptr<detail::ThreePhaseEvent> events_[2];  // by SystemEvent
  std::optional<Failure> listenException_, connectException_;
  std::uint64_t lastTrigger_ = 0;
  std::size_t pieceSize_ = 65536;
  std::uint16_t lastPort_ = 49151;
  bool started_ = false;
  bool running_ = false;
  bool shutdownIsDue_ = false;
  bool shuttingDown_ = false;
  bool closing_ = false;
};

/// Twisted's name for one that has a clock.
using MemoryReactorClock = MemoryReactor;

/// Throws what it is given, if that is not null, from all that listens and all that connects.
class RaisingMemoryReactor final : public MemoryReactor {
 public:
  explicit RaisingMemoryReactor(std::optional<Failure> listenException, std::optional<Failure> connectException = {})
      : MemoryReactor(std::move(listenException), std::move(connectException)) {}
};

}  // namespace torsion
