// Receives a file from sendfd, and prints its beginning. Usage: recvfd SOCKET
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string_view>

#include <protocols/basic.hpp>
#include <reactor/reactor.hpp>
#include <reactor/unix.hpp>

using namespace torsion;

class ReceiveFDProtocol : public LineOnlyReceiver, public FileDescriptorReceiver {
 public:
  ~ReceiveFDProtocol() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  void fileDescriptorReceived(int fd) override {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = fd;
  }
  void lineReceived(std::string_view line) override {
    char data[80];
    const ssize_t size = ::read(descriptor_, data, sizeof data);
    if (size < 0) {
      std::cout << "Received " << line << " without a descriptor to read!\n";
    } else {
      std::cout << "Received " << line << " from the server.\nFirst 80 bytes are:\n"
                << std::string_view(data, static_cast<std::size_t>(size)) << '\n';
    }
    transport().loseConnection();
  }

 private:
  int descriptor_ = -1;
};

struct ReceiveFDFactory : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<ReceiveFDProtocol>(); }
  void clientConnectionFailed(Connector&, const Failure& reason) override {
    std::cout << "Could not connect: " << reason.getErrorMessage() << '\n';
    reactor().stop();
  }
  void clientConnectionLost(Connector&, const Failure&) override { reactor().stop(); }
};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: recvfd SOCKET\n";
    return 2;
  }
  reactor().connectUNIX(argv[1], std::make_shared<ReceiveFDFactory>());
  reactor().run();
}
