// Prints the protocol that a server has agreed on by ALPN. Usage: tls_alpn_npn_client [PORT [CERTIFICATE]]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

// As in the original the protocol is known when something has come; a HandshakeListener would know it before.
class BasicH2Request : public Protocol {
 public:
  Deferred<void> whenDone() { return done_.deferred(); }

  void connectionMade() override {
    std::cout << "Connection made\n";
    transport().write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  }
  void dataReceived(std::string_view) override {
    std::cout << "Next protocol is: " << TLSTransport::from(transport())->negotiatedProtocol() << '\n';
    complete_ = true;
    transport().loseConnection();
  }
  void connectionLost(const Failure& reason) override {
    if (complete_) {
      std::cout << "Connection closed cleanly\n";
      done_.callback();
    } else {
      done_.errback(reason);
    }
  }

 private:
  bool complete_ = false;
  Resolver<void> done_;
};

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    ClientTLS asked;
    asked.trustRoots = argument(argc, argv, 2, "server-cert.pem");
    asked.acceptableProtocols = {"h2", "http/1.1"};
    auto tcp = std::make_shared<HostnameEndpoint>("localhost", portArgument(argc, argv, 1, 8080));
    return connectProtocol(*wrapClientTLS(optionsForClientTLS("localhost", asked), tcp),
                           std::make_shared<BasicH2Request>())
        .addCallback([](std::shared_ptr<BasicH2Request> request) { return request->whenDone(); });
  });
}
