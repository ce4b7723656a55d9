// Sends a PING to the local network every second, and answers each with a PONG. Usage: udpbroadcast [PORT]
#include <chrono>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>
#include <reactor/udp.hpp>

using namespace torsion;
using namespace std::chrono_literals;

class PingPongProtocol : public DatagramProtocol {
 public:
  explicit PingPongProtocol(std::uint16_t port) : everybody_(IPv4Address{"<broadcast>", port}) {}
  void startProtocol() override { transport().setBroadcastAllowed(true); }
  void sendPing() { send("PING " + std::to_string(random_())); }
  void datagramReceived(std::string_view datagram, const Address& from) override {
    const bool ping = datagram.starts_with("PING ");
    if (!ping && !datagram.starts_with("PONG ")) return;
    std::cout << "RECV " << datagram << " from " << describe(from) << std::endl;
    if (ping) send("PONG " + std::string(datagram.substr(5)));
  }

 private:
  void send(const std::string& message) {
    transport().write(message, everybody_);
    std::cout << "SEND " << message << std::endl;
  }
  Address everybody_;
  std::mt19937_64 random_{std::random_device()()};
};

int main(int argc, char** argv) {
  const std::uint16_t port = portArgument(argc, argv, 1, 8555);
  auto protocol = std::make_shared<PingPongProtocol>(port);
  reactor().listenUDP(port, protocol);
  LoopingCall ping([&] { protocol->sendPing(); });
  ping.start(1s).addErrback([](const Failure& failure) {
    std::cerr << failure.getErrorMessage() << '\n';
    reactor().stop();
  });
  reactor().run();
}
