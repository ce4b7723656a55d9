// Sends a line in clear, asks for TLS, and sends one that is protected. Usage: starttls_client [PORT [PEM]]
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/task.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

class StartTLSClient : public LineReceiver {
 public:
  explicit StartTLSClient(TLSOptions options) : options_(std::move(options)) {}
  Deferred<void> whenDone() { return done_.deferred(); }

  void connectionMade() override {
    sendLine("plain text");
    sendLine("STARTTLS");
  }
  void lineReceived(std::string_view line) override {
    std::cout << "received: " << line << '\n';
    if (line == "READY") {
      clearLineBuffer();
      startTLS(*this, options_);
      sendLine("secure text");
      transport().loseConnection();
    }
  }
  void connectionLost(const Failure& reason) override {
    if (reason.check<ConnectionDone>()) {
      done_.callback();
    } else {
      done_.errback(reason);
    }
  }

 private:
  TLSOptions options_;
  Resolver<void> done_;
};

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    TLSOptions options = optionsForClientTLS("example.com", {.trustRoots = argument(argc, argv, 2, "public.pem")});
    HostnameEndpoint endpoint("localhost", portArgument(argc, argv, 1, 8000));
    return connectProtocol(endpoint, std::make_shared<StartTLSClient>(options))
        .addCallback([](std::shared_ptr<StartTLSClient> client) { return client->whenDone(); });
  });
}
