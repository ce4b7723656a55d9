// Echoes the lines of standard input, without blocking the reactor (Twisted's stdin.py).
#include <memory>
#include <string>
#include <string_view>

#include <protocols/basic.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stdio.hpp>

using namespace torsion;

struct Echo : LineReceiver {
  Echo() { setDelimiter("\n"); }
  void connectionMade() override { transport().write(">>> "); }
  void lineReceived(std::string_view line) override {
    sendLine("Echo: " + std::string(line));
    transport().write(">>> ");
  }
  void connectionLost(const Failure&) override { reactor().stop(); }
};

int main() {
  standardIO(std::make_shared<Echo>());
  reactor().run();
}
