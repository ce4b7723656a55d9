// Pings a multicast group, and prints what comes. Usage: multicast_client [PORT]
#include <iostream>
#include <memory>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

class MulticastPingClient : public DatagramProtocol {
 public:
  explicit MulticastPingClient(std::uint16_t port) : port_(port) {}
  void startProtocol() override {
    // As a member it hears its own ping, too.
    transport()
        .joinGroup("228.0.0.5")
        .addCallback(hold([this] { transport().write("Client: Ping", IPv4Address{"228.0.0.5", port_}); }))
        .addErrback([](const Failure& failure) {
          std::cerr << failure.getErrorMessage() << '\n';
          reactor().stop();
        });
  }
  void datagramReceived(std::string_view datagram, const Address& from) override {
    std::cout << "Datagram " << datagram << " received from " << describe(from) << std::endl;
  }

 private:
  std::uint16_t port_;
};

int main(int argc, char** argv) {
  const std::uint16_t port = portArgument(argc, argv, 1, 9999);
  reactor().listenMulticast(port, std::make_shared<MulticastPingClient>(port), "", 8192, true);
  reactor().run();
}
