// LineSendingProtocol: the other end, for a test of a protocol of lines (twisted.internet.testing).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/failure.hpp>
#include <protocols/basic.hpp>

namespace torsion {

/// Sends its lines when the connection is made (or, unless `start`, when the first line comes), and keeps the answers.
///
///   auto client = std::make_shared<LineSendingProtocol>(std::vector<std::string>{"HELO there", "QUIT"});
///   IOPump pump(client, std::make_shared<MailServer>());
///   pump.flush();
///   CHECK(client->response.front() == "220 ready");
class LineSendingProtocol : public LineReceiver {
 public:
  explicit LineSendingProtocol(std::vector<std::string> lines, bool start = true)
      : lines_(std::move(lines)), start_(start) {}

  /// The lines that came.
  std::vector<std::string> response;
  /// Why the connection ended, once it has.
  std::optional<Failure> closedReason;
  bool lostConn() const noexcept { return closedReason.has_value(); }

  void connectionMade() override {
    if (start_) send();
  }
  void lineReceived(std::string_view line) override {
    send();
    response.emplace_back(line);
  }
  void connectionLost(const Failure& reason) override { closedReason = reason; }

 private:
  void send() {
    for (const auto& line : std::exchange(lines_, {})) sendLine(line);
  }

  std::vector<std::string> lines_;
  bool start_;
};

}  // namespace torsion
