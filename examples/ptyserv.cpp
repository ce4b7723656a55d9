// Gives everyone who connects a shell on a terminal (Twisted's ptyserv.py): telnet localhost 5823. Anybody on this
// machine may, so stop it when you have seen it.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include <reactor/process.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class FakeTelnet : public Protocol {
 public:
  void connectionMade() override;
  void dataReceived(std::string_view data) override { shell_->transport().write(data); }
  void connectionLost(const Failure&) override {
    std::cout << "connection lost" << std::endl;
    shell_->transport().loseConnection();
  }

 private:
  std::shared_ptr<ProcessProtocol> shell_;
};

class Shell : public ProcessProtocol {
 public:
  explicit Shell(std::shared_ptr<Protocol> telnet) : telnet_(std::move(telnet)) {}
  void outReceived(std::string_view data) override { telnet_->transport().write(data); }
  void processEnded(const Failure&) override {
    std::cout << "protocol connection lost" << std::endl;
    telnet_->transport().loseConnection();
    telnet_.reset();
  }

 private:
  std::shared_ptr<Protocol> telnet_;
};

void FakeTelnet::connectionMade() {
  std::cout << "connection made" << std::endl;
  shell_ = std::make_shared<Shell>(shared_from_this());
  reactor().spawnProcess(shell_, "/bin/sh", {"/bin/sh"}, {.path = "/tmp", .usePTY = true});
}

int main(int argc, char** argv) {
  if (argc > 2) {
    std::cerr << "usage: ptyserv [PORT]\n";
    return 2;
  }
  const int port = argc > 1 ? std::atoi(argv[1]) : 5823;
  const auto listening =
      reactor().listenTCP(static_cast<std::uint16_t>(port), forProtocol<FakeTelnet>(), 50, "127.0.0.1");
  std::cout << "telnet " << describe(listening->getHost()) << std::endl;
  reactor().run();
}
