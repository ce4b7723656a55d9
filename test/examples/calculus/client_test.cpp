#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include <examples/calculus/client.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct ClientFixture : Fixture {
  std::shared_ptr<RemoteCalculationClient> proto = std::make_shared<RemoteCalculationClient>(reactor);
  StringTransportWithDisconnection transport;
  ClientFixture() { proto->makeConnection(transport); }

  void test(Deferred<std::int64_t> d, const std::string& line, const std::string& answer, std::int64_t expected) {
    CHECK(transport.value() == line);
    transport.clear();
    assertNoResult(d);
    proto->dataReceived(answer);
    CHECK(successResultOf(d) == expected);
  }
};

}  // namespace

TEST_CASE_FIXTURE(ClientFixture, "calculus client: the four operations") {
  test(proto->add(7, 6), "add 7 6\r\n", "13\r\n", 13);
  test(proto->subtract(82, 78), "subtract 82 78\r\n", "4\r\n", 4);
  test(proto->multiply(2, 8), "multiply 2 8\r\n", "16\r\n", 16);
  test(proto->divide(14, 3), "divide 14 3\r\n", "4\r\n", 4);
}
TEST_CASE_FIXTURE(ClientFixture, "calculus client: a timeout fails what waits and closes the connection") {
  auto d = proto->add(9, 4), other = proto->add(1, 1);
  reactor.advance(RemoteCalculationClient::timeOut - 1ns);
  assertNoResult(d);
  reactor.advance(1ns);
  failureResultOf<ClientTimeoutError>(d);
  failureResultOf<ClientTimeoutError>(other);
  CHECK_FALSE(proto->connected());
}
TEST_CASE_FIXTURE(ClientFixture, "calculus client: each answer starts the wait for the next anew") {
  auto first = proto->add(9, 4), second = proto->add(1, 1);
  reactor.advance(40s);
  proto->dataReceived("13\r\n");
  CHECK(successResultOf(first) == 13);
  reactor.advance(40s);
  assertNoResult(second);
  reactor.advance(20s);
  failureResultOf<ClientTimeoutError>(second);
}
TEST_CASE_FIXTURE(ClientFixture, "calculus client: the end of the connection fails what waits") {
  auto d = proto->add(9, 4);
  transport.loseConnection();
  failureResultOf<ConnectionDone>(d);
}
TEST_CASE_FIXTURE(ClientFixture, "calculus client: errors") {
  auto d = proto->divide(1, 0);
  proto->dataReceived("error\r\n");
  failureResultOf<CalculationError>(d);
  CHECK_THROWS_AS(proto->dataReceived("13\r\n"), std::runtime_error);
}
