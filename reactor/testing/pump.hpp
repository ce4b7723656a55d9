// IOPump: a client and a server protocol connected in memory; the test moves the bytes (twisted.test.iosim).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/function.hpp>
#include <reactor/address.hpp>
#include <reactor/protocol.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// How many bytes of what is `queued` (one or more of them) dataReceived is to get next. See IOPump::setPumpPolicy.
using PumpPolicy = std::function<std::size_t(std::string_view queued)>;
/// Pieces of any length, the same for the same `seed`.
PumpPolicy randomPumpPolicy(unsigned seed);

/// One end of an IOPump's connection. What is written waits here until the pump hands it to the peer, so that queues,
/// producers, drained() and the write limit behave as on a socket whose kernel buffers nothing.
class FakeTransport final : public Transport {
 public:
  /// Bytes written that the peer has not got yet.
  std::size_t queued() const noexcept { return queue_.size() - taken_; }
  /// True while the protocol does not want to be given bytes.
  bool paused() const noexcept { return paused_; }
  /// True once connectionLost has been called.
  bool lost() const noexcept { return lost_; }

  void write(std::string_view data) override;
  using Transport::loseConnection;
  void loseConnection() override;
  void abortConnection() override;
  void loseWriteConnection() override;
  bool disconnecting() const noexcept override { return closing_ || reason_; }
  Address getPeer() const override { return peer_; }
  Address getHost() const override { return host_; }
  void registerProducer(Producer& producer, bool streaming) override;
  void unregisterProducer() override;
  Deferred<void> drained() override;
  void setWriteLimit(std::size_t bytes) override { writeLimit_ = bytes; }
  void pauseProducing() override { paused_ = true; }
  void resumeProducing() override;

 private:
  friend class IOPump;
  friend class MemoryReactor;
  friend class Loopback;

  FakeTransport(Address host, Address peer);

  bool reading() const noexcept { return !reason_ && !closing_ && !readClosed_ && !paused_; }
  bool refusesWrites() const noexcept { return reason_ || writeClosed_ || ((closing_ || writeClosing_) && !producer_); }
  template <class F>
  bool callProtocol(F&& f);
  void callProducer(void (Producer::*method)());
  void failed(const char* what);
  std::string_view waiting() const noexcept { return std::string_view(queue_).substr(taken_); }
  std::string take(std::size_t most);
  void queueShrank();
  void endOfFile();
  void closeIfFlushed();
  void finish(Failure reason);
  void deliverLost();
  void changed() {
    if (whenChanged_) whenChanged_();
  }

  Address host_;
  Address peer_;
  std::string queue_;
  std::size_t taken_ = 0;
  std::size_t writeLimit_ = 0;
  Producer* producer_ = nullptr;
  std::vector<Resolver<void>> drainWaiters_;
  std::optional<Failure> reason_;                   // the connection is over; connectionLost follows
  UniqueFunction<void(const Failure&)> whenEnded_;  // called after connectionLost
  UniqueFunction<void()> whenChanged_;              // there may be something to pump
  bool streaming_ = false;
  bool producerPaused_ = false;
  bool paused_ = false;
  bool closing_ = false;
  bool writeClosing_ = false;
  bool writeClosed_ = false;
  bool readClosed_ = false;
  bool lost_ = false;
  bool finSent_ = false;
  bool resetSent_ = false;
};

/// Connects a client and a server, and moves bytes between them when told to. Everything that happens to a connection
/// happens as over TCP: bytes arrive cut into pieces, a paused end gets none (and so holds the other's queue back),
/// loseConnection() is ConnectionDone at both ends, abortConnection() ConnectionAborted here and ConnectionLost there,
/// half-closing works, and what a protocol throws is logged and ends its connection.
///
///   auto client = std::make_shared<EchoClient>();
///   IOPump pump(client, std::make_shared<Echo>());
///   pump.flush();
///   CHECK(client->got == "hello");
class IOPump {
 public:
  /// Calls connectionMade, of the server first. What they write waits for pump().
  IOPump(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
         Address clientAddress = IPv4Address{"10.0.0.1", 12345},
         Address serverAddress = IPv4Address{"192.168.1.1", 54321},
         std::source_location where = std::source_location::current());
  IOPump(const IOPump&) = delete;
  IOPump& operator=(const IOPump&) = delete;
  /// A connection that is open still is dropped without a connectionLost.
  ~IOPump() = default;

  /// One exchange: gives each end what the other had queued, then the other's end, if it has closed. What the protocols
  /// do in answer is left for the next. Returns whether anything happened. Not to be called by the protocols themselves
  /// (std::logic_error).
  bool pump();
  /// pump() until nothing happens any more. Returns whether anything did. Throws std::runtime_error if the ends are
  /// busy after 1000 exchanges.
  bool flush();
  /// dataReceived gets pieces of at most this many bytes: 65536 at first, 1 for a test byte by byte.
  void setPieceSize(std::size_t bytes) { policy_ = nullptr, pieceSize_ = bytes; }
  /// dataReceived gets pieces of the lengths that `policy` says.
  void setPumpPolicy(PumpPolicy policy) { policy_ = std::move(policy); }

  /// The transports; their protocols are the ones given.
  FakeTransport& clientIO() noexcept { return client_; }
  FakeTransport& serverIO() noexcept { return server_; }
  /// True until both ends have had their connectionLost.
  bool connected() const noexcept { return !client_.lost() || !server_.lost(); }
  /// Where the connection was asked for.
  const std::source_location& where() const noexcept { return where_; }

 private:
  bool deliver(FakeTransport& from, FakeTransport& to, std::size_t limit);

  FakeTransport client_;
  FakeTransport server_;
  std::source_location where_;
  std::size_t pieceSize_ = 65536;
  PumpPolicy policy_;
  bool pumping_ = false;
};

/// What connectedServerAndClient gives.
template <class Client, class Server>
struct ConnectedPair {
  std::shared_ptr<Client> client;
  std::shared_ptr<Server> server;
  std::unique_ptr<IOPump> pump;
};

/// Connects a server and a client, and flushes what they say at first.
///
///   auto [client, server, pump] = connectedServerAndClient<Echo, EchoClient>();
template <class Server, class Client>
ConnectedPair<Client, Server> connectedServerAndClient(std::shared_ptr<Server> server = std::make_shared<Server>(),
                                                       std::shared_ptr<Client> client = std::make_shared<Client>(),
                                                       std::source_location where = std::source_location::current()) {
  auto pump = std::make_unique<IOPump>(client, server, IPv4Address{"10.0.0.1", 12345},
                                       IPv4Address{"192.168.1.1", 54321}, where);
  pump->flush();
  return {std::move(client), std::move(server), std::move(pump)};
}

}  // namespace torsion
