// The simplest client, with a ClientFactory: sends a message, and prints the answer. Usage: simpleclient [PORT [HOST]]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct EchoClient : Protocol {
  void connectionMade() override { transport().write("hello, world!"); }
  void dataReceived(std::string_view data) override {
    std::cout << "Server said: " << data << '\n';
    transport().loseConnection();
  }
  void connectionLost(const Failure&) override { std::cout << "connection lost\n"; }
};

struct EchoFactory : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<EchoClient>(); }
  void clientConnectionFailed(Connector&, const Failure&) override {
    std::cout << "Connection failed - goodbye!\n";
    reactor().stop();
  }
  void clientConnectionLost(Connector&, const Failure&) override {
    std::cout << "Connection lost - goodbye!\n";
    reactor().stop();
  }
};

int main(int argc, char** argv) {
  reactor().connectTCP(argument(argc, argv, 2, "127.0.0.1"), portArgument(argc, argv, 1, 8000),
                       std::make_shared<EchoFactory>());
  reactor().run();
}
