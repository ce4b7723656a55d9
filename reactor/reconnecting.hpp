// ReconnectingClientFactory: a client that comes back, by factory (twisted.internet.protocol). With endpoints and
// Deferreds use ClientService.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>

#include <deferred/time.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// Connects again whenever an attempt has failed or the connection is lost, after a delay that grows each time.
/// Derive from it, and call resetDelay() when a connection has proved good (when the server has greeted, say, not as
/// soon as it is made: a server that closes at once would be tried without pause):
///
///   struct ChatFactory : ReconnectingClientFactory {
///     std::shared_ptr<Protocol> buildProtocol(const Address&) override {
///       resetDelay();
///       return std::make_shared<Chat>();
///     }
///   };
///   reactor().connectTCP("chat.example.com", 6667, std::make_shared<ChatFactory>());
class ReconnectingClientFactory : public ClientFactory {
 public:
  explicit ReconnectingClientFactory(Time& time = reactor(),
                                     std::source_location where = std::source_location::current()) noexcept
      : time_(time), where_(where) {}
  ~ReconnectingClientFactory() override;

  void clientConnectionFailed(Connector& connector, const Failure& reason) override;
  void clientConnectionLost(Connector& connector, const Failure& reason) override;

  /// Connects after the next delay, unless stopTrying() has been called or maxRetries have failed.
  void retry(Connector& connector);
  /// No more attempts; one under way is ended.
  void stopTrying();
  /// The next delay is the first one, and retries are counted anew; also takes stopTrying() back.
  void resetDelay() noexcept;

  int retries() const noexcept { return retries_; }

  // As Twisted has them; change them before the first attempt. The delays are 1, 2.72, 7.39 s, ...: unlike Twisted's
  // the first is initialDelay itself.
  Duration initialDelay = std::chrono::seconds(1);
  Duration maxDelay = std::chrono::hours(1);
  double factor = 2.718281828459045;
  /// Each delay is drawn from a normal distribution of this part of it as deviation, so that clients that were cut off
  /// together do not come back together. 0: exact delays.
  double jitter = 0.119626565582;
  std::optional<int> maxRetries = {};  ///< in a row; none: for ever

 private:
  Time& time_;
  std::source_location where_;
  Duration delay_ = Duration::zero();  // zero: initialDelay comes next
  int retries_ = 0;
  bool trying_ = true;
  DelayedCall call_;
  std::weak_ptr<Connector> connector_;
};

}  // namespace torsion
