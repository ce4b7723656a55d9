// A client that comes back, after longer and longer: prints what the server sends. Usage: reconnecting [PORT [HOST]]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/reconnecting.hpp>

using namespace torsion;

struct Echo : Protocol {
  void dataReceived(std::string_view data) override { std::cout << data << std::flush; }
};

struct EchoClientFactory : ReconnectingClientFactory {
  void startedConnecting(Connector&) override { std::cout << "Started to connect." << std::endl; }
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    std::cout << "Connected.\nResetting reconnection delay" << std::endl;
    resetDelay();
    return std::make_shared<Echo>();
  }
  void clientConnectionLost(Connector& connector, const Failure& reason) override {
    std::cout << "Lost connection.  Reason: " << reason.getErrorMessage() << std::endl;
    ReconnectingClientFactory::clientConnectionLost(connector, reason);
  }
  void clientConnectionFailed(Connector& connector, const Failure& reason) override {
    std::cout << "Connection failed. Reason: " << reason.getErrorMessage() << std::endl;
    ReconnectingClientFactory::clientConnectionFailed(connector, reason);
  }
};

int main(int argc, char** argv) {
  reactor().connectTCP(argument(argc, argv, 2, "127.0.0.1"), portArgument(argc, argv, 1, 8000),
                       std::make_shared<EchoClientFactory>());
  reactor().run();
}
