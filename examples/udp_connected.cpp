// Sends one datagram from a connected port, and prints what comes, or that nobody listens.
// Usage: udp_connected [PORT [ADDRESS]]
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

class Helloer : public DatagramProtocol {
 public:
  Helloer(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}
  void startProtocol() override {
    transport().connect(host_, port_);
    std::cout << "now we can only send to host " << host_ << " port " << port_ << std::endl;
    transport().write("hello");  // no need for an address
  }
  void datagramReceived(std::string_view data, const Address& from) override {
    std::cout << "received " << data << " from " << describe(from) << std::endl;
  }
  void connectionRefused() override { std::cout << "No one listening" << std::endl; }

 private:
  std::string host_;
  std::uint16_t port_;
};

int main(int argc, char** argv) {
  reactor().listenUDP(
      0, std::make_shared<Helloer>(argument(argc, argv, 2, "192.168.1.1"), portArgument(argc, argv, 1, 1234)));
  reactor().run();
}
