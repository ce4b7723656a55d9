// A push producer: sends as many random numbers as a client asks for, no faster than it reads. Usage: streaming [PORT]
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

/// Fills a client's transport, until it has to wait.
class RandomProducer final : public Producer {
 public:
  RandomProducer(LineReceiver& client, unsigned long long goal) : client_(client), left_(goal) {}
  /// Most likely called in the middle of sendLine().
  void pauseProducing() override {
    paused_ = true;
    std::cout << "Pausing connection from " << describe(client_.transport().getPeer()) << std::endl;
  }
  void resumeProducing() override {
    paused_ = false;
    std::uniform_int_distribution<int> number(0, 9999);
    for (; !paused_ && left_ > 0; --left_) client_.sendLine(std::to_string(number(random_)));
    if (left_ > 0 || paused_) return;
    client_.transport().unregisterProducer();
    client_.transport().loseConnection();
  }
  void stopProducing() override { left_ = 0; }

 private:
  LineReceiver& client_;
  unsigned long long left_;
  bool paused_ = false;
  std::minstd_rand random_{std::random_device()()};
};

class ServeRandom : public LineReceiver {
 public:
  void connectionMade() override {
    std::cout << "Connection made from " << describe(transport().getPeer()) << std::endl;
    sendLine("How many random integers do you want?");
  }
  void lineReceived(std::string_view line) override {
    if (producer_) return;
    const unsigned long long count = std::stoull(std::string(line));
    std::cout << "Client requested " << count << " random integers!" << std::endl;
    producer_.emplace(*this, count);
    transport().registerProducer(*producer_, true);
    producer_->resumeProducing();
  }
  void connectionLost(const Failure&) override { std::cout << "Connection lost" << std::endl; }

 private:
  std::optional<RandomProducer> producer_;
};

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 1234), forProtocol<ServeRandom>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
