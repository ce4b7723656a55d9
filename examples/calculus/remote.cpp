// Serves the calculator. Usage: remote [PORT]
#include <iostream>

#include <examples/arguments.hpp>
#include <examples/calculus/remote.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 0), forProtocol<RemoteCalculationProtocol>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
