// Answers each ping to a multicast group. Usage: multicast_server [PORT]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

struct MulticastPingPong : DatagramProtocol {
  void startProtocol() override {
    transport().setTTL(5);  // more than 1, so that it crosses routers
    transport().joinGroup("228.0.0.5").addErrback([](const Failure& failure) {
      std::cerr << failure.getErrorMessage() << '\n';
      reactor().stop();
    });
  }
  void datagramReceived(std::string_view datagram, const Address& from) override {
    std::cout << "Datagram " << datagram << " received from " << describe(from) << std::endl;
    // To who asked, and not to the group.
    if (datagram == "Client: Ping") transport().write("Server: Pong", from);
  }
};

int main(int argc, char** argv) {
  // listenMultiple, so that the client runs on this machine, too.
  auto port = reactor().listenMulticast(portArgument(argc, argv, 1, 9999), std::make_shared<MulticastPingPong>(), "",
                                        8192, true);
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
