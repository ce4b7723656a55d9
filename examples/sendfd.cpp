// Sends an open file to each client of a UNIX socket, and its name. Usage: sendfd SOCKET FILE
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>

#include <protocols/basic.hpp>
#include <reactor/reactor.hpp>
#include <reactor/unix.hpp>

using namespace torsion;
using namespace std::chrono_literals;

class SendFDProtocol : public LineOnlyReceiver {
 public:
  explicit SendFDProtocol(std::string content) : content_(std::move(content)) {}
  void connectionMade() override {
    const int fd = ::open(content_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw std::runtime_error("cannot open " + content_);
    UNIXTransport::from(transport())->sendFileDescriptor(fd);
    ::close(fd);  // it was duplicated
    // A descriptor goes with a byte: here the first of the name.
    sendLine(content_);
    timeout_ = reactor().callLater(60s, hold([this] { transport().loseConnection(); }));
  }
  void connectionLost(const Failure&) override {
    if (timeout_.active()) timeout_.cancel();
  }

 private:
  std::string content_;
  DelayedCall timeout_;
};

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: sendfd SOCKET FILE\n";
    return 2;
  }
  auto port = reactor().listenUNIX(argv[1], forProtocol<SendFDProtocol>(std::string(argv[2])));
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
