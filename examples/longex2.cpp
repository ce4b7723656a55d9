// The same as longex in parts of one duty each: a protocol that reads and writes, a calculation in steps that gives a
// Deferred, and a function that runs any steps, one a turn of the reactor. Usage: longex2 [PORT]
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <examples/arguments.hpp>
#include <examples/long_number.hpp>
#include <protocols/basic.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

// Calls step() once a turn for as long as it returns true.
void runIterator(Time& time, UniqueFunction<bool()> step) {
  if (!step()) return;
  time.callLater(Duration::zero(), [&time, step = std::move(step)]() mutable { runIterator(time, std::move(step)); });
}

// Fires with the product of `numbers`, of none with 1.
Deferred<LongNumber> multiply(Time& time, std::vector<LongNumber> numbers) {
  Resolver<LongNumber> product;
  auto result = product.deferred();
  runIterator(time, [product, numbers = std::move(numbers), accumulated = LongNumber("1")]() mutable {
    if (numbers.empty()) {
      product.callback(accumulated);
      return false;
    }
    accumulated = accumulated * numbers.back();
    numbers.pop_back();
    return true;
  });
  return result;
}

class Numbers : public LineReceiver {
 public:
  void lineReceived(std::string_view line) override {
    std::vector<LongNumber> numbers;
    try {
      numbers = longNumbers(line);
    } catch (const std::invalid_argument&) {
      return sendLine("Error.");
    }
    if (++running_ == kMaxRunning) pauseProducing();
    multiply(reactor(), std::move(numbers)).addCallback(hold([this](const LongNumber& product) {
      sendLine(product.toString());
      if (running_-- == kMaxRunning) resumeProducing();
    }));
  }

 private:
  static constexpr int kMaxRunning = 100;
  int running_ = 0;
};

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 1234), forProtocol<Numbers>());
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
