#include <memory>
#include <stdexcept>
#include <string>

#include <examples/calculus/client.hpp>
#include <examples/calculus/remote.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;

namespace {

struct RemoteFixture : Fixture {
  std::shared_ptr<RemoteCalculationProtocol> proto = std::make_shared<RemoteCalculationProtocol>();
  StringTransport transport;
  RemoteFixture() { proto->makeConnection(transport); }

  std::string answer(const std::string& line) {
    transport.clear();
    proto->dataReceived(line + "\r\n");
    return transport.value();
  }
};

}  // namespace

TEST_CASE_FIXTURE(RemoteFixture, "remote calculus: the four operations") {
  CHECK(answer("add 7 6") == "13\r\n");
  CHECK(answer("subtract 82 78") == "4\r\n");
  CHECK(answer("multiply 2 8") == "16\r\n");
  CHECK(answer("divide 14 3") == "4\r\n");
}
TEST_CASE_FIXTURE(RemoteFixture, "remote calculus: invalid parameters") {
  CHECK(answer("add foo bar") == "error\r\n");
  CHECK(flushLoggedErrors<CalculationError>().size() == 1);
}
TEST_CASE_FIXTURE(RemoteFixture, "remote calculus: what is no operation ends the connection") {
  CHECK_THROWS_AS(answer("power 2 3"), std::out_of_range);
  CHECK_THROWS_AS(answer("add 2"), std::invalid_argument);
  CHECK_THROWS_AS(answer("add 2 3 4"), std::invalid_argument);
}
TEST_CASE_FIXTURE(Fixture, "remote calculus: with its client") {
  auto client = std::make_shared<RemoteCalculationClient>(reactor);
  IOPump& pump = connect(client, std::make_shared<RemoteCalculationProtocol>());
  auto sum = client->add(5, 9), difference = client->subtract(47, 13), product = client->multiply(7, 3);
  auto quotient = client->divide(84, 10), error = client->divide(84, 0);
  pump.flush();
  CHECK(successResultOf(sum) == 14);
  CHECK(successResultOf(difference) == 34);
  CHECK(successResultOf(product) == 21);
  CHECK(successResultOf(quotient) == 8);
  failureResultOf<CalculationError>(error);
  CHECK(flushLoggedErrors<CalculationError>().size() == 1);
  client->transport().loseConnection();
  pump.flush();
}
