// Verifies a server's certificate, and prints whose it is. Usage: check_server_certificate HOST [PORT [AUTHORITY]]
// With AUTHORITY, the PEM of an authority to trust, it is Twisted's check_echo_certificate.py.
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/task.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

class ShowCertificate : public Protocol, public HandshakeListener {
 public:
  Deferred<void> whenDone() { return done_.deferred(); }

  void handshakeCompleted() override {
    if (auto certificate = TLSTransport::from(transport())->getPeerCertificate()) {
      std::cout << "OK: " << certificate->subject << ", issued by " << certificate->issuer << '\n';
    }
    transport().abortConnection();
  }
  void connectionLost(const Failure& reason) override {
    if (reason.check<ConnectionAborted>()) {
      done_.callback();
    } else {
      std::cout << "BAD: " << reason.getErrorMessage() << '\n';
      done_.errback(SystemExit(1));
    }
  }

 private:
  Resolver<void> done_;
};

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: check_server_certificate HOST [PORT [AUTHORITY]]\n";
    return 2;
  }
  return react([&](Reactor&) {
    TLSOptions options = optionsForClientTLS(argv[1], {.trustRoots = argument(argc, argv, 3, "")});
    auto tcp = std::make_shared<HostnameEndpoint>(argv[1], portArgument(argc, argv, 2, 443));
    return connectProtocol(*wrapClientTLS(options, tcp), std::make_shared<ShowCertificate>())
        .addCallback([](std::shared_ptr<ShowCertificate> shown) { return shown->whenDone(); });
  });
}
