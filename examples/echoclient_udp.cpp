// Sends the next datagram when the last has come back. Usage: echoclient_udp [PORT [ADDRESS]]
#include <deque>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

using namespace torsion;

class EchoClientDatagramProtocol : public DatagramProtocol {
 public:
  EchoClientDatagramProtocol(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}
  void startProtocol() override {
    transport().connect(host_, port_);
    sendDatagram();
  }
  void datagramReceived(std::string_view datagram, const Address&) override {
    std::cout << "Datagram received: " << datagram << '\n';
    sendDatagram();
  }
  void connectionRefused() override {
    std::cout << "Nobody listens there\n";
    reactor().stop();
  }

 private:
  void sendDatagram() {
    if (strings_.empty()) {
      reactor().stop();
    } else {
      transport().write(strings_.front());
      strings_.pop_front();
    }
  }
  std::string host_;
  std::uint16_t port_;
  std::deque<std::string> strings_{"Hello, world!", "What a fine day it is.", "Bye-bye!"};
};

int main(int argc, char** argv) {
  const std::string host = argument(argc, argv, 2, "127.0.0.1");
  reactor().listenUDP(0, std::make_shared<EchoClientDatagramProtocol>(host, portArgument(argc, argv, 1, 8000)),
                      isIPv6Address(host) ? "::" : "");
  reactor().run();
}
