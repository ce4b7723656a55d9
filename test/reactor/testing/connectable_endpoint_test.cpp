#include <reactor/testing/connectable_endpoint.hpp>

#include <memory>

#include <reactor/client_service.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

TEST_CASE_FIXTURE(Fixture, "connectableEndpoint: connects, and fails, when the test says so") {
  auto endpoint = connectableEndpoint(reactor);
  auto client = std::make_shared<AccumulatingProtocol>();
  auto failing = connectProtocol(*endpoint, client);
  auto connecting = connectProtocol(*endpoint, client);
  assertNoResult(failing);
  CHECK(reactor.failOnce(ConnectTimeoutError("too late")));
  failureResultOf<ConnectTimeoutError>(failing);
  assertNoResult(connecting);
  CHECK(reactor.succeedOnce());
  CHECK(successResultOf(connecting) == client);
  CHECK(client->made);
  client->transport().loseConnection();
  reactor.flush();
}
