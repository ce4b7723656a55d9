#include <reactor/testing/cut.hpp>

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/string_transport.hpp>

using namespace torsion;

TEST_CASE("deliverCutEverywhere: in two at every position, and in pieces of every size") {
  std::vector<std::string> ways;
  deliverCutEverywhere("abcd", [&](const Cut& cut) {
    std::string way = cut.describe() + ":";
    for (const auto piece : cut.pieces()) way += " " + std::string(piece);
    ways.push_back(way);
  });
  CHECK(ways == std::vector<std::string>{"in two at 1: a bcd", "in two at 2: ab cd", "in two at 3: abc d",
                                         "every 1 bytes: a b c d", "every 2 bytes: ab cd", "every 3 bytes: abc d",
                                         "every 4 bytes: abcd"});
  deliverCutEverywhere("", [](const Cut&) { FAIL("nothing to cut"); });
}

TEST_CASE("Cut::deliver: until the connection is over") {
  struct Short final : AccumulatingProtocol {
    void dataReceived(std::string_view bytes) override {
      AccumulatingProtocol::dataReceived(bytes);
      if (data.size() >= 2) transport().loseConnection();
    }
  };
  auto all = std::make_shared<AccumulatingProtocol>();
  StringTransport transport;
  all->makeConnection(transport);
  const Cut cut("", {"ab", "c", "d"});
  cut.deliver(*all);
  CHECK(all->data == "abcd");

  auto some = std::make_shared<Short>();
  StringTransportWithDisconnection other;
  some->makeConnection(other);
  cut.deliver(*some);
  CHECK(some->data == "ab");
}
