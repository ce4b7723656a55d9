// Echo on a UDP socket that the program has made itself. Usage: udp_adopt_datagram_port [PORT]
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
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
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(portArgument(argc, argv, 1, 9999));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    std::perror("udp_adopt_datagram_port");
    return 1;
  }
  auto port = reactor().adoptDatagramPort(fd, AF_INET, std::make_shared<Echo>());
  ::close(fd);  // the reactor has a duplicate
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
