// MemoryReactor: a NetworkReactor without sockets and with a clock that stands still (twisted.internet.testing).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <deferred/failure.hpp>
#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/pump.hpp>

namespace torsion {

/// Give it wherever a function takes a NetworkReactor or a Time. It records who listens and who wants to connect;
/// nothing happens until the test says so:
///
///   MemoryReactor reactor;
///   reactor.addName("example.com", {"10.0.0.5"});
///   reactor.listenTCP(80, forProtocol<Echo>());
///   auto d = askForEcho("example.com", reactor);
///   reactor.flush();                      // connects, and exchanges until all is quiet
///   CHECK(successResultOf(d) == "echo");
///   reactor.advance(30s);                 // time moves by this alone
class MemoryReactor final : public NetworkReactor, public UNIX {
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
  };

  MemoryReactor();
  /// Attempts to connect fail with ConnectError, and what would start something then throws ReactorNotRunning.
  /// Connections are dropped without a connectionLost; ports and connectors that outlive the reactor are inert.
  ~MemoryReactor();

  /// Time stands still but for this: see Clock::advance. Attempts to connect that have waited for their timeout fail.
  void advance(Duration amount) { clock_.advance(amount); }
  Duration seconds() const override { return clock_.seconds(); }
  /// The calls that are scheduled, in the order in which they will run, without those of the timeouts of attempts to
  /// connect.
  std::vector<DelayedCall> getDelayedCalls() const;

  /// Port 0 gives a free one, from 49152 up. Throws CannotListenError for a port that is taken.
  std::shared_ptr<ListeningPort> listenTCP(std::uint16_t port, std::shared_ptr<Factory> factory, int backlog = 50,
                                           const std::string& interface = "") override;
  /// The attempt waits for flush(), succeedOnce() or failOnce(); advance() past `timeout` fails it.
  std::shared_ptr<Connector> connectTCP(const std::string& host, std::uint16_t port,
                                        std::shared_ptr<ClientFactory> factory,
                                        Duration timeout = std::chrono::seconds(30),
                                        const std::string& bindAddress = "") override;
  /// The same for UNIX sockets, of which none is in the file system.
  std::shared_ptr<ListeningPort> listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                            int backlog = 50, unsigned mode = 0666, bool wantPID = false) override;
  std::shared_ptr<Connector> connectUNIX(const std::string& address, std::shared_ptr<ClientFactory> factory,
                                         Duration timeout = std::chrono::seconds(30), bool checkPID = false) override;
  /// Has fired already: with the addresses given to addName, or DNSLookupError. "localhost" is known.
  Deferred<std::vector<Address>> resolve(const std::string& name) override;
  /// Says what `name` resolves to: IPv4 or IPv6 addresses, in the order to try them.
  void addName(const std::string& name, const std::vector<std::string>& addresses);

  /// Who listens, and the attempts that wait, the oldest first.
  std::vector<TCPServer> tcpServers() const;
  std::vector<TCPClient> tcpClients() const;
  std::vector<UNIXServer> unixServers() const;
  std::vector<UNIXClient> unixClients() const;
  /// The connections that are open.
  std::vector<std::shared_ptr<IOPump>> connections() const;

  /// Connects the oldest attempt that a server listens for, and returns the connection; null if there is none.
  std::shared_ptr<IOPump> succeedOnce();
  /// Fails the oldest attempt. False if there is none.
  bool failOnce(const Failure& reason = ConnectionRefusedError("Connection was refused by other side"));
  /// Ends every attempt as a network would (connected, refused where nobody listens, DNSLookupError for unknown names,
  /// BadFileError for UNIX sockets that are not there), runs the calls that are due, and pumps all connections, until
  /// nothing happens any more. Time does not move. Returns whether anything happened. Throws std::runtime_error if they
  /// are busy after 1000 rounds.
  bool flush();
  /// As IOPump::setPieceSize, for all connections to come.
  void setPieceSize(std::size_t bytes) { pieceSize_ = bytes; }

 private:
  class Port;
  class Attempt;
  DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) override;
  void checkUsable() const;
  std::shared_ptr<Connector> start(std::shared_ptr<Attempt> attempt);
  Address lookUp(const Attempt& attempt) const;
  Failure refusal(const Attempt& attempt, const Address& to) const;
  Port* portFor(const Attempt& attempt, const Address& to) const;
  bool isTaken(std::uint16_t port, const std::string& interface) const;
  std::uint16_t newPort() noexcept;
  std::shared_ptr<IOPump> connect(Attempt& attempt, const Address& to, Factory& server);

  Clock clock_;
  std::map<std::string, std::vector<Address>> names_;
  std::vector<std::shared_ptr<Port>> ports_;
  std::vector<std::shared_ptr<Attempt>> attempts_;  // that wait
  std::vector<std::weak_ptr<Attempt>> connectors_;  // all
  std::vector<std::shared_ptr<IOPump>> connections_;
  std::size_t pieceSize_ = 65536;
  std::uint16_t lastPort_ = 49151;
  bool closing_ = false;
};

}  // namespace torsion
