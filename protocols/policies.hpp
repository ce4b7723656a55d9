// Policies for any protocol: time limits, bandwidth, numbers of connections, logs of the traffic
// (twisted.protocols.policies).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/time.hpp>
#include <reactor/address.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// Mix into a protocol for one limit on how long it may wait:
///
///   struct Login : LineReceiver, TimeoutMixin {
///     void connectionMade() override { setTimeout(30s); }
///     void lineReceived(std::string_view line) override { resetTimeout(); }
///   };
class TimeoutMixin {
 public:
  /// Starts the wait (again) with this limit; nullopt ends it. Returns the limit before.
  std::optional<Duration> setTimeout(std::optional<Duration> limit,
                                     std::source_location where = std::source_location::current());
  /// Starts the wait again; nothing if there is none.
  void resetTimeout();
  /// The time is over: by default the protocol's connection is lost, connectionLost getting TimeoutError.
  virtual void timeoutConnection();

 protected:
  explicit TimeoutMixin(Time& time = reactor()) noexcept : time_(time) {}
  TimeoutMixin(const TimeoutMixin&) = delete;
  TimeoutMixin& operator=(const TimeoutMixin&) = delete;
  ~TimeoutMixin();

 private:
  Time& time_;
  std::optional<Duration> limit_;
  DelayedCall call_;
};

/// Stands between a protocol and its transport, and does nothing: override what is to be changed. It is given to the
/// transport in place of the wrapped protocol, whose transport it is. Half-close stops at it: see
/// HalfCloseableProtocol.
class ProtocolWrapper : public Protocol, public Transport, public HandshakeListener {
 public:
  explicit ProtocolWrapper(std::shared_ptr<Protocol> wrapped) noexcept : wrapped_(std::move(wrapped)) {}

  // To the protocol.
  void connectionMade() override { std::exchange(wrapped_, nullptr)->makeConnection(*this); }
  void handshakeCompleted() override;
  void dataReceived(std::string_view data) override;
  void connectionLost(const Failure& reason) override;

  // To the transport.
  using Transport::loseConnection;
  void write(std::string_view data) override { transport().write(data); }
  void writeSequence(std::span<const std::string_view> pieces) override { transport().writeSequence(pieces); }
  void loseConnection() override;
  void abortConnection() override { transport().abortConnection(); }
  void loseWriteConnection() override { transport().loseWriteConnection(); }
  bool disconnecting() const noexcept override { return disconnecting_ || transport().disconnecting(); }
  Address getPeer() const override { return transport().getPeer(); }
  Address getHost() const override { return transport().getHost(); }
  void registerProducer(Producer& producer, bool streaming) override {
    transport().registerProducer(producer, streaming);
  }
  void unregisterProducer() override { transport().unregisterProducer(); }
  Deferred<void> drained() override { return transport().drained(); }
  void setWriteLimit(std::size_t bytes) override { transport().setWriteLimit(bytes); }
  void setTcpNoDelay(bool on) override { transport().setTcpNoDelay(on); }
  bool getTcpNoDelay() const override { return transport().getTcpNoDelay(); }
  void setTcpKeepAlive(bool on) override { transport().setTcpKeepAlive(on); }
  bool getTcpKeepAlive() const override { return transport().getTcpKeepAlive(); }
  void pauseProducing() override { transport().pauseProducing(); }
  void resumeProducing() override { transport().resumeProducing(); }
  Transport* lowerTransport() noexcept override { return &transport(); }

 private:
  std::shared_ptr<Protocol> wrapped_;  // until connectionMade: then the transport of it keeps it
  bool disconnecting_ = false;
};

/// Puts a ProtocolWrapper around each protocol of another factory, which is started and stopped, and hears of client
/// connections, as if it were used itself. Made with std::make_shared.
class WrappingFactory : public ClientFactory, public std::enable_shared_from_this<WrappingFactory> {
 public:
  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;
  bool clientSpeaksFirst() const noexcept override { return factory_->clientSpeaksFirst(); }
  void startFactory() override { factory_->doStart(); }
  void stopFactory() override { factory_->doStop(); }
  void startedConnecting(Connector& connector) override;
  void clientConnectionFailed(Connector& connector, const Failure& reason) override;
  void clientConnectionLost(Connector& connector, const Failure& reason) override;

 protected:
  explicit WrappingFactory(std::shared_ptr<Factory> factory) noexcept : factory_(std::move(factory)) {}
  virtual std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) = 0;

 private:
  ClientFactory* client() const noexcept { return dynamic_cast<ClientFactory*>(factory_.get()); }
  std::shared_ptr<Factory> factory_;
};

/// Ends connections on which nothing was read or written for `timeoutPeriod`: connectionLost gets TimeoutError. If
/// what is queued cannot be sent within another such period the connection is aborted.
class TimeoutFactory final : public WrappingFactory {
 public:
  explicit TimeoutFactory(std::shared_ptr<Factory> factory, Duration timeoutPeriod = std::chrono::minutes(30),
                          Time& time = reactor());

 private:
  std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) override;
  Duration timeoutPeriod_;
  Time& time_;
};

/// What ThrottlingFactory allows all its connections together; at first anything.
struct ThrottlingLimits {
  std::size_t maxConnectionCount = std::numeric_limits<std::size_t>::max();
  std::optional<std::size_t> readLimit = {};   ///< bytes a second
  std::optional<std::size_t> writeLimit = {};  ///< bytes a second
};

/// Holds up reading, and the producers of those that have one, while more than a number of bytes a second is read or
/// written: it counts for a second, then waits as long as it takes to be within the limit. A connection too many is
/// closed at once. What is written without a producer is counted and not held up.
class ThrottlingFactory final : public WrappingFactory {
 public:
  ThrottlingFactory(std::shared_ptr<Factory> factory, const ThrottlingLimits& limits, Time& time = reactor());

  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;
  std::size_t connectionCount() const noexcept { return protocols_.size(); }

 private:
  class Throttled;
  struct Direction {
    std::optional<std::size_t> limit;
    std::size_t thisSecond = 0;
    bool throttled = false;
    DelayedCall check;
    DelayedCall release;
  };
  std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) override;
  void enter(Throttled& protocol);
  void leave(Throttled& protocol);
  void watch(Direction& direction);
  void setThrottled(Direction& direction, bool throttled);

  std::size_t maxConnectionCount_;
  Time& time_;
  Direction reads_;
  Direction writes_;
  std::unordered_set<Throttled*> protocols_;
};

/// Closes at once what exceeds a number of connections from one address.
class LimitConnectionsByPeer final : public WrappingFactory {
 public:
  explicit LimitConnectionsByPeer(std::shared_ptr<Factory> factory, std::size_t maxConnectionsPerPeer = 5);
  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;

 private:
  std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) override;
  std::size_t maxConnectionsPerPeer_;
  std::map<std::string, std::size_t> counts_;
};

/// Gives what exceeds a number of connections to `overflow`, to be told so, or closes it at once if that is null.
class LimitTotalConnectionsFactory final : public WrappingFactory {
 public:
  LimitTotalConnectionsFactory(std::shared_ptr<Factory> factory, std::size_t connectionLimit,
                               std::shared_ptr<Factory> overflow = nullptr);
  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;
  std::size_t connectionCount() const noexcept { return connectionCount_; }

 private:
  std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) override;
  std::size_t connectionLimit_;
  std::shared_ptr<Factory> overflow_;
  std::size_t connectionCount_ = 0;
};

/// Writes what goes over connection number N to the file `logfilePrefix`-N, in the order of events:
///   *                        it is made
///   C 1: "GET / HTTP/1.0\r\n"    received
///   S 1: "HTTP/1.0 200 OK\r\n"   written
///   S 1: *                   loseConnection
///   C 1: Connection was closed cleanly.
/// Of longer data only the first `lengthLimit` bytes are shown (0: no limit). A connection whose file cannot be opened
/// is refused (std::system_error is logged).
class TrafficLoggingFactory final : public WrappingFactory {
 public:
  TrafficLoggingFactory(std::shared_ptr<Factory> factory, std::string logfilePrefix, std::size_t lengthLimit = 0);

 private:
  std::shared_ptr<ProtocolWrapper> wrap(std::shared_ptr<Protocol> protocol, const Address& peer) override;
  std::string logfilePrefix_;
  std::size_t lengthLimit_;
  std::uint64_t counter_ = 0;
};

}  // namespace torsion
