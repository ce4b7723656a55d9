// Cut: ways to cut a protocol's input into pieces. A network cuts anywhere, and a protocol must not care.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <reactor/protocol.hpp>

namespace torsion {

/// One of the ways.
class Cut {
 public:
  Cut(std::string description, std::vector<std::string_view> pieces)
      : description_(std::move(description)), pieces_(std::move(pieces)) {}

  /// Calls dataReceived for each piece, until the protocol is not connected any more.
  void deliver(Protocol& protocol) const {
    for (const std::string_view piece : pieces_) {
      if (!protocol.connected()) return;
      // A copy of its own, so that a sanitizer sees what is read beyond the end or kept for longer.
      const std::string copy(piece);
      protocol.dataReceived(copy);
    }
  }
  const std::vector<std::string_view>& pieces() const noexcept { return pieces_; }
  /// "in two at 5", "every 3 bytes": for the message of a check that fails.
  const std::string& describe() const noexcept { return description_; }

 private:
  std::string description_;
  std::vector<std::string_view> pieces_;
};

/// Calls test(cut) for the data cut in two at every position, and cut into pieces of every size, from single bytes to
/// all in one.
///
///   deliverCutEverywhere("Ada\nGrace\n", [](const Cut& cut) {
///     auto greeter = std::make_shared<Greeter>();
///     StringTransport transport;
///     greeter->makeConnection(transport);
///     cut.deliver(*greeter);
///     CAPTURE(cut.describe());
///     CHECK(transport.value() == "Hello, Ada!\nHello, Grace!\n");
///   });
template <class F>
void deliverCutEverywhere(std::string_view data, F&& test) {
  for (std::size_t at = 1; at < data.size(); ++at) {
    test(Cut("in two at " + std::to_string(at), {data.substr(0, at), data.substr(at)}));
  }
  for (std::size_t size = 1; size <= data.size(); ++size) {
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < data.size(); at += std::min(size, data.size() - at)) {
      pieces.push_back(data.substr(at, size));
    }
    test(Cut("every " + std::to_string(size) + " bytes", std::move(pieces)));
  }
}

}  // namespace torsion
