// What a peer may send to TLS: anything at all, before and in the handshake. The first byte of the input says whether
// this side is a client, the second how the rest is cut into pieces.
#include <algorithm>
#include <memory>
#include <string_view>

#include <reactor/protocol.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/string_transport.hpp>
#include <reactor/tls.hpp>

#include "require.hpp"

using namespace torsion;

namespace {

struct Checked : Protocol {
  bool lost = false;
  void connectionMade() override { transport().write("held until the peer is verified"); }
  // Nobody can finish a handshake by chance: the peer's secret is not in the input.
  void dataReceived(std::string_view) override { REQUIRE(!"data without a handshake"); }
  void connectionLost(const Failure&) override {
    REQUIRE(!lost);
    lost = true;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static const TLSOptions client = optionsForClientTLS("localhost");
  // No certificate is needed to read a ClientHello: what selects one is asked first, and refuses.
  static const TLSOptions server =
      selectServerTLS([](const std::string& name) { return client.forHostname(name.empty() ? "nobody" : name); });
  Clock clock;
  auto checked = std::make_shared<Checked>();
  StringTransportWithDisconnection transport;
  auto protocol =
      tlsFactory((data[0] & 1) != 0 ? client : server, makeFactory([&] { return checked; }), clock)->buildProtocol({});
  protocol->makeConnection(transport);
  const std::size_t most = data[1] == 0 ? size : data[1];
  std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  while (!rest.empty() && !checked->lost) {
    std::string_view piece = rest.substr(0, std::min(most, rest.size()));
    rest.remove_prefix(piece.size());
    protocol->dataReceived(piece);
  }
  REQUIRE(transport.value().find("held until") == std::string::npos);
  clock.advance(kHandshakeTimeout);  // nothing is held by a handshake that goes no further
  REQUIRE(checked->lost);
  REQUIRE(clock.getDelayedCalls().empty());
  return 0;
}
