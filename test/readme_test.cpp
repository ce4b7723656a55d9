// The test that README.md shows.
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <reactor/protocol.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/string_transport.hpp>

using namespace torsion;
using namespace std::chrono_literals;

class Greeter : public Protocol {
 public:
  explicit Greeter(Time& time) : time_(time) {}
  void connectionMade() override {
    transport().write("Who is there? ");
    giveUp_ = time_.callLater(10s, hold([this] { transport().loseConnection(); }));
  }
  void dataReceived(std::string_view name) override {
    if (giveUp_.active()) giveUp_.cancel();
    transport().write("Hello, " + std::string(name));
  }

 private:
  Time& time_;
  DelayedCall giveUp_;
};

TEST_CASE("the greeter waits ten seconds for a name") {
  Clock clock;
  StringTransport transport;
  auto greeter = std::make_shared<Greeter>(clock);
  greeter->makeConnection(transport);
  CHECK(transport.value() == "Who is there? ");
  SUBCASE("and greets it") {
    greeter->dataReceived("Ada");
    CHECK(transport.value() == "Who is there? Hello, Ada");
    CHECK(clock.getDelayedCalls().empty());
  }
  SUBCASE("but no longer") {
    clock.advance(10s);
    CHECK(transport.disconnecting());
  }
}
