// Long calculations that hold up nobody: multiplies the numbers of each line, a step a turn of the reactor.
// Usage: longex [PORT]
#include <cstddef>
#include <deque>
#include <iostream>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include <examples/arguments.hpp>
#include <examples/long_number.hpp>
#include <protocols/basic.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class LongMultiplicationProtocol : public LineReceiver {
 public:
  void lineReceived(std::string_view line) override {
    std::vector<LongNumber> numbers;
    try {
      numbers = longNumbers(line);
    } catch (const std::invalid_argument&) {
    }
    if (numbers.size() < 2) return sendLine("Error.");
    workQueue_.push_back(std::move(numbers));
    if (workQueue_.size() == 1) calculateLater();
    if (workQueue_.size() == kMaxWork) pauseProducing();
  }
  void connectionLost(const Failure&) override { workQueue_.clear(); }

 private:
  static constexpr std::size_t kMaxWork = 100;

  void calculateLater() {
    reactor().callLater(Duration::zero(), hold([this] { calculateChunk(); }));
  }
  // [a, ..., y, z] becomes [a * z, ..., y].
  void calculateChunk() {
    if (workQueue_.empty()) return;  // the connection is gone
    std::vector<LongNumber>& work = workQueue_.front();
    work.front() = work.front() * work.back();
    work.pop_back();
    if (work.size() == 1) {
      sendLine(work.front().toString());
      workQueue_.pop_front();
      if (workQueue_.size() == kMaxWork - 1) resumeProducing();
    }
    if (!workQueue_.empty()) calculateLater();
  }

  std::deque<std::vector<LongNumber>> workQueue_;
};

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 1234), forProtocol<LongMultiplicationProtocol>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
