// An echo server of Torsion's: `echo_torsion`, or with TLS `echo_torsion KEY CERTIFICATE`.
#include <memory>
#include <string_view>
#include <variant>

#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>

#include "echo.hpp"

using namespace torsion;

namespace {

class Echo : public Protocol {
 public:
  void dataReceived(std::string_view data) override { transport().write(data); }
};

}  // namespace

int main(int argc, char** argv) {
  bench::raiseDescriptorLimit();
  const auto factory = forProtocol<Echo>();
  const auto port =
      argc > 2 ? reactor().listenSSL(0, factory, optionsForServerTLS({.privateKey = argv[1], .certificate = argv[2]}),
                                     bench::kBacklog, "127.0.0.1")
               : reactor().listenTCP(0, factory, bench::kBacklog, "127.0.0.1");
  bench::serving(std::get<IPv4Address>(port->getHost()).port);
  reactor().run();
}
