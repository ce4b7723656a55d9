// The calculator's client: a Deferred for each operation.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <examples/calculus/base.hpp>
#include <protocols/basic.hpp>
#include <protocols/policies.hpp>

struct ClientTimeoutError : std::runtime_error {
  ClientTimeoutError() : runtime_error("the calculator has not answered in time") {}
};

/// The Deferreds fail with CalculationError when the server answers "error", with ClientTimeoutError when no answer has
/// come for timeOut, which closes the connection, and with its reason when that ends otherwise.
class RemoteCalculationClient : public torsion::LineReceiver, public torsion::TimeoutMixin {
 public:
  using Result = torsion::Deferred<std::int64_t>;
  static constexpr torsion::Duration timeOut = std::chrono::seconds(60);

  explicit RemoteCalculationClient(torsion::Time& time = torsion::reactor()) : TimeoutMixin(time) {}

  Result add(std::int64_t a, std::int64_t b) { return sendOperation("add", a, b); }
  Result subtract(std::int64_t a, std::int64_t b) { return sendOperation("subtract", a, b); }
  Result multiply(std::int64_t a, std::int64_t b) { return sendOperation("multiply", a, b); }
  Result divide(std::int64_t a, std::int64_t b) { return sendOperation("divide", a, b); }

  void lineReceived(std::string_view line) override {
    if (results_.empty()) throw std::runtime_error("an answer to nothing");
    const auto result = std::move(results_.front());
    results_.pop_front();
    setTimeout(results_.empty() ? std::nullopt : std::optional(timeOut));
    try {
      result.callback(Operand(line).value());
    } catch (const CalculationError& e) {
      result.errback(e);
    }
  }
  void timeoutConnection() override {
    fail(ClientTimeoutError());
    transport().loseConnection();
  }
  void connectionLost(const torsion::Failure& reason) override {
    setTimeout(std::nullopt);
    fail(reason);
  }

 private:
  Result sendOperation(const std::string& operation, std::int64_t a, std::int64_t b) {
    results_.emplace_back();
    sendLine(operation + ' ' + std::to_string(a) + ' ' + std::to_string(b));
    setTimeout(timeOut);
    return results_.back().deferred();
  }
  void fail(const torsion::Failure& reason) {
    for (const auto& result : std::exchange(results_, {})) result.errback(reason);
  }

  std::deque<torsion::Resolver<std::int64_t>> results_;  // of what was sent, in order
};
