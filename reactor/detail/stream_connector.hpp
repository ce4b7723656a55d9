// What connectTCP and connectUNIX give: attempts to connect, one at a time, and the connection that comes of one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>

#include <deferred/detail/require.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>

namespace torsion::detail {

class Attempt;

class StreamConnector : public Connector, public ConnectionListener {
 public:
  void connect() override;
  void disconnect() override;
  void stopConnecting() override;

 protected:
  StreamConnector(ReactorImpl& reactor, std::shared_ptr<ClientFactory> factory, Duration timeout,
                  const std::source_location& where)
      : reactor_(reactor.alive),
        factory_(required(std::move(factory), "a connector was given no factory")),
        timeout_(timeout),
        where_(where) {}

  /// Begins: calls connectTo, waitFor or failLater of the attempt.
  virtual void begin(Attempt& attempt) = 0;
  virtual Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, const Address& peer,
                                               const std::source_location& where) = 0;
  bool clientSpeaksFirst() const noexcept { return factory_->clientSpeaksFirst(); }
  /// The connector as the owner of what it has begun.
  std::shared_ptr<StreamConnector> self() { return std::static_pointer_cast<StreamConnector>(shared_from_this()); }

 private:
  friend class Attempt;
  // The outcome of an attempt. Each calls the factory, which may connect again.
  void connectionFailed(const Failure& reason);
  void connected(ReactorImpl& reactor, UniqueFd fd, const Address& peer, std::uint32_t events,
                 const std::source_location& where);
  void connectionLost(const Failure& reason) override;

  bool idle() const noexcept { return !attempt_ && !connected_; }
  std::string name() const { return torsion::describe(getDestination()); }
  void stopFactoryIfIdle();

  const std::weak_ptr<ReactorImpl> reactor_;
  const std::shared_ptr<ClientFactory> factory_;
  const Duration timeout_;
  const std::source_location where_;
  Attempt* attempt_ = nullptr;              // while there is one
  StreamConnection* connection_ = nullptr;  // while its protocol has it
  bool connected_ = false;
  bool factoryStarted_ = false;
};

/// One try to connect. It ends by telling its connector, once, never before start() has returned.
class Attempt final : public Disconnectable, public Watcher {
 public:
  Attempt(ReactorImpl& reactor, std::shared_ptr<StreamConnector> connector, const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), connector_(std::move(connector)) {
    ref();  // until it ends
  }

  void start();
  /// Gives up: the connector is not told.
  void abandon() { end(); }

  /// For connectors' begin(). The socket does not block.
  void connectTo(UniqueFd fd, const SocketAddress& address);
  void failLater(Failure reason);
  /// `step` goes on with the attempt; it is cancelled when that ends.
  void waitFor(Deferred<void> step) { step_ = std::move(step); }
  bool over() const noexcept { return over_; }
  Failure failureFor(int error) const;
  ReactorImpl& reactor() const noexcept { return reactor_; }

  void shutdown() override;
  std::string describe() const override { return "attempt to connect to " + connector_->name(); }

  void ref() noexcept { ++refs_; }
  void unref() noexcept {
    if (--refs_ == 0) delete this;
  }

 private:
  ~Attempt() = default;
  void ready(std::uint32_t events) override;
  void fail(const Failure& reason);
  void timedOut();
  void end();

  ReactorImpl& reactor_;
  const std::shared_ptr<StreamConnector> connector_;
  unsigned refs_ = 0;
  bool settled_ = false;  // the outcome is known, and posted
  bool over_ = false;     // and the connector has been told
  SocketAddress address_;
  UniqueFd fd_;
  std::optional<Deferred<void>> step_;
  DelayedCall timer_, retry_;
};

}  // namespace torsion::detail
