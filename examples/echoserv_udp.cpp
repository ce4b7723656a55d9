// Sends datagrams back. Usage: echoserv_udp [PORT]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

struct EchoUDP : DatagramProtocol {
  void datagramReceived(std::string_view datagram, const Address& address) override {
    transport().write(datagram, address);
  }
};

int main(int argc, char** argv) {
  auto port = reactor().listenUDP(portArgument(argc, argv, 1, 8000), std::make_shared<EchoUDP>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
