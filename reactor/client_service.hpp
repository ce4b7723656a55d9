// ClientService: a connection that is kept up (twisted.application.internet).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <deferred/canceller.hpp>
#include <deferred/deferred.hpp>
#include <deferred/time.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>
#include <reactor/service.hpp>

namespace torsion {

/// How long to wait after the `attempt`th failure in a row, counted from 1; a connection that was lost counts, too.
using RetryPolicy = std::function<Duration(int attempt)>;

/// initialDelay * factor^attempt, at most maxDelay, and up to `jitter` more at random, so that clients that were cut
/// off together do not come back together: 1.5, 2.25, 3.4, ... 60 s.
RetryPolicy backoffPolicy(Duration initialDelay = std::chrono::seconds(1), Duration maxDelay = std::chrono::seconds(60),
                          double factor = 1.5, Duration jitter = std::chrono::seconds(1));

struct ClientServiceOptions {
  RetryPolicy retryPolicy = backoffPolicy();
  /// Called with each new connection, before whenConnected() gives it: to log in, say. If it throws, or its Deferred
  /// fails, the connection is lost, and that was a failed attempt.
  std::function<Deferred<void>(std::shared_ptr<Protocol>)> prepareConnection = {};
};

/// While it runs, connects to an endpoint, and again when an attempt has failed or the connection is lost.
///
///   auto client = std::make_shared<ClientService>(endpoint, forProtocol<Chat>());
///   client->startService();
///   client->whenConnected().addCallback([](std::shared_ptr<Protocol> chat) { ... });
class ClientService final : public Service {
 public:
  ClientService(std::shared_ptr<StreamClientEndpoint> endpoint, std::shared_ptr<Factory> factory,
                ClientServiceOptions options = {}, Time& time = reactor());
  /// As stopService(), without the wait; what waits for a connection fails with BrokenDeferred.
  ~ClientService() override;

  /// Harmless when repeated. While it stops: starts again afterwards.
  void startService() override;
  /// Fires when there is no connection and no attempt any more.
  Deferred<void> stopService() override;

  /// The connection; or the next one, if there is none. Fails with CancelledError when the service stops or has been
  /// stopped, and, if `failAfterFailures` is given, with what the last attempt failed with when so many in a row have.
  /// cancel() only ends the wait.
  Deferred<std::shared_ptr<Protocol>> whenConnected(std::optional<int> failAfterFailures = {});

 private:
  enum class State { initial, connecting, waiting, connected, disconnecting, restarting, stopped };
  struct Waiter {
    Resolver<std::shared_ptr<Protocol>> resolver;
    std::optional<int> failuresLeft;
  };

  void connect();
  void connectionMade(std::shared_ptr<Protocol> protocol);
  void connectionFailed(const Failure& reason);
  void disconnected();
  void wait();
  void finishStopping(State next);
  template <class F>
  auto ifAlive(F f);

  std::shared_ptr<StreamClientEndpoint> endpoint_;
  std::shared_ptr<Factory> factory_;
  ClientServiceOptions options_;
  Time& time_;
  State state_ = State::initial;
  int failures_ = 0;
  Canceller attempt_;
  DelayedCall retry_;
  std::shared_ptr<Protocol> connection_;
  std::vector<Waiter> waiters_;
  std::vector<Resolver<void>> stopWaiters_;
};

}  // namespace torsion
