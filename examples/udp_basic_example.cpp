// Prints datagrams and sends them back: over IPv4, or with the address "::" over IPv6 and IPv4.
// Usage: udp_basic_example [PORT [ADDRESS]]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

struct Echo : DatagramProtocol {
  void datagramReceived(std::string_view data, const Address& from) override {
    std::cout << "received " << data << " from " << describe(from) << std::endl;
    transport().write(data, from);
  }
};

int main(int argc, char** argv) {
  auto port =
      reactor().listenUDP(portArgument(argc, argv, 1, 9999), std::make_shared<Echo>(), argument(argc, argv, 2, ""));
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
