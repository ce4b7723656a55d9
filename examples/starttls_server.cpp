// Switches a connection to TLS when its client asks for it. Usage: starttls_server [PORT [PEM]]
#include <iostream>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

class TLSServer : public LineReceiver {
 public:
  explicit TLSServer(TLSOptions options) : options_(std::move(options)) {}
  void lineReceived(std::string_view line) override {
    std::cout << "received: " << line << std::endl;
    if (line == "STARTTLS") {
      std::cout << "-- Switching to TLS" << std::endl;
      sendLine("READY");
      clearLineBuffer();  // what came in clear after STARTTLS must not pass for protected
      startTLS(*this, options_);
    }
  }

 private:
  TLSOptions options_;
};

int main(int argc, char** argv) {
  TLSOptions options = optionsForServerTLS({.certificate = argument(argc, argv, 2, "server.pem")});
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 8000), forProtocol<TLSServer>(options));
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
