// The simplest server: sends back what comes. Usage: simpleserv [PORT]
#include <iostream>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct Echo : Protocol {
  void dataReceived(std::string_view data) override { transport().write(data); }
};

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 8000), forProtocol<Echo>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
