// Prints the protocol that each connection has agreed on by ALPN, sends back what came, and closes.
// Usage: tls_alpn_npn_server [PORT [KEY [CERTIFICATE]]]; to make a pair:
//   openssl req -new -newkey rsa:2048 -days 3 -nodes -x509 -keyout server-key.pem -out server-cert.pem
//     -subj /CN=localhost -addext subjectAltName=DNS:localhost
#include <iostream>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

class NPNPrinterProtocol : public Protocol {
 public:
  void connectionMade() override { std::cout << "Connection made" << std::endl; }
  void dataReceived(std::string_view data) override {
    std::cout << TLSTransport::from(transport())->negotiatedProtocol() << std::endl;
    transport().write(data);
    complete_ = true;
    transport().loseConnection();
  }
  void connectionLost(const Failure& reason) override {
    if (complete_) {
      std::cout << "Connection closed cleanly" << std::endl;
    } else {
      std::cout << "Connection lost due to error " << reason.getErrorMessage() << std::endl;
    }
  }

 private:
  bool complete_ = false;
};

int main(int argc, char** argv) {
  TLSOptions options = optionsForServerTLS({
      .privateKey = argument(argc, argv, 2, "server-key.pem"),
      .certificate = argument(argc, argv, 3, "server-cert.pem"),
      .acceptableProtocols = {"h2", "http/1.1"},
  });
  auto port = reactor().listenSSL(portArgument(argc, argv, 1, 8080), forProtocol<NPNPrinterProtocol>(), options);
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
