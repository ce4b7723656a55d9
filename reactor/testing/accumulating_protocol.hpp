// AccumulatingProtocol: the Protocol for the end of a connection that a test only looks at (twisted.internet.testing).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/functions.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

/// Keeps what happens to it.
class AccumulatingProtocol : public Protocol {
 public:
  /// connectionMade() was called.
  bool made = false;
  /// All that came in.
  std::string data;
  /// Why the connection ended, once it has.
  std::optional<Failure> closedReason;

  bool closed() const noexcept { return closedReason.has_value(); }
  /// Fires when the connection has ended, at once if it has.
  Deferred<void> whenClosed() {
    if (closed()) return succeed();
    return waiters_.emplace_back().deferred();
  }

  void connectionMade() override { made = true; }
  void dataReceived(std::string_view bytes) override { data += bytes; }
  void connectionLost(const Failure& reason) override {
    closedReason = reason;
    for (const auto& waiter : std::exchange(waiters_, {})) waiter.callback();
  }

 private:
  std::vector<Resolver<void>> waiters_;
};

}  // namespace torsion
