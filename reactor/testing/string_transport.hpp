// StringTransport: a Transport that keeps what is written in a string, for testing one Protocol by itself
// (twisted.internet.testing).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <reactor/address.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// Feed the protocol by calling its dataReceived, and look at what it wrote:
///
///   auto echo = std::make_shared<Echo>();
///   StringTransport transport;
///   echo->makeConnection(transport);
///   echo->dataReceived("hello");
///   CHECK(transport.value() == "hello");
///
/// It calls nothing of the protocol: the test does (connectionLost too). It may live on the stack, as may the protocol.
class StringTransport : public Transport {
 public:
  enum class ProducerState : std::uint8_t { producing, paused, stopped };

  /// `lenient`: pauseProducing() and resumeProducing() after loseConnection() do not throw.
  explicit StringTransport(Address host = IPv4Address{"10.0.0.1", 12345},
                           Address peer = IPv4Address{"192.168.1.1", 54321}, bool lenient = false);

  /// What was written since the last clear().
  const std::string& value() const noexcept { return value_; }
  void clear() noexcept { value_.clear(); }

  /// The registered producer, or null, and whether it is a push producer. It is never paused or asked.
  Producer* producer() const noexcept { return producer_; }
  bool streaming() const noexcept { return streaming_; }
  /// What the protocol asked of this transport as the producer of its bytes.
  ProducerState producerState() const noexcept { return producerState_; }
  /// True from abortConnection() on.
  bool disconnected() const noexcept { return disconnected_; }
  /// True from loseConnection() or abortConnection() on. Neither does more than to set this.
  bool disconnecting() const noexcept override { return disconnecting_; }
  /// True once loseWriteConnection() has been called.
  bool writeDisconnecting() const noexcept { return writeDisconnecting_; }

  void write(std::string_view data) override;
  using Transport::loseConnection;
  void loseConnection() override { disconnecting_ = true; }
  void abortConnection() override;
  void loseWriteConnection() override { writeDisconnecting_ = true; }
  Address getPeer() const override { return peer_; }
  Address getHost() const override { return host_; }
  void registerProducer(Producer& producer, bool streaming) override;
  /// Throws std::logic_error if none is registered.
  void unregisterProducer() override;
  /// Fires at once: nothing is ever queued.
  Deferred<void> drained() override;
  /// Ignored, for the same reason.
  void setWriteLimit(std::size_t) override {}

  /// These throw std::logic_error after stopProducing() and, unless lenient, after loseConnection().
  void pauseProducing() override;
  void resumeProducing() override;
  void stopProducing() override { producerState_ = ProducerState::stopped; }

 private:
  void checkState() const;

  std::string value_;
  Address host_;
  Address peer_;
  Producer* producer_ = nullptr;
  ProducerState producerState_ = ProducerState::producing;
  bool lenient_;
  bool streaming_ = false;
  bool disconnecting_ = false;
  bool disconnected_ = false;
  bool writeDisconnecting_ = false;
};

/// Calls the protocol's connectionLost: with ConnectionDone in loseConnection(), with ConnectionAborted in
/// abortConnection(). At once, unlike a real transport.
class StringTransportWithDisconnection final : public StringTransport {
 public:
  using StringTransport::loseConnection;
  using StringTransport::StringTransport;

  void loseConnection() override;
  void abortConnection() override;
};

}  // namespace torsion
