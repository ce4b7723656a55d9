// An echo server of the library's own Echo, which reads no faster than its client. Usage: echoserv [PORT]
#include <iostream>

#include <examples/arguments.hpp>
#include <protocols/wire.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 8000), forProtocol<Echo>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
