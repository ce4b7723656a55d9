#include <reactor/testing/reactor_fixture.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>

#include <doctest/doctest.h>

#include <deferred/functions.hpp>
#include <reactor/address.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/logger.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/udp.hpp>

using namespace torsion;
using namespace std::chrono_literals;

TEST_CASE_FIXTURE(ReactorFixture, "ReactorFixture::wait turns the reactor until there is a result") {
  CHECK(wait(succeed(5)) == 5);
  CHECK(wait(deferLater(reactor, 0s, [] { return std::string("x"); })) == "x");
  wait(deferLater(reactor, 0s));
  CHECK_THROWS_AS(wait(deferLater(reactor, 0s, [] { throw std::range_error("x"); })), std::range_error);
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "ReactorFixture::wait gives up") {
  Resolver<int> never;
  CHECK_THROWS_AS(wait(never.deferred(), 0s), TestFailure);
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "ReactorFixture: ports and connections that are left open") {
  auto port = reactor.listenTCP(0, forProtocol<AccumulatingProtocol>(), 50, "127.0.0.1");
  auto problems = finish();
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].starts_with("left open: "));
  CHECK(problems[0].find(describe(port->getHost())) != std::string::npos);

  HostnameEndpoint endpoint("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, reactor);
  auto client = wait(connectProtocol(endpoint, std::make_shared<AccumulatingProtocol>()));
  CHECK(finish().size() >= 2);
  client->transport().loseConnection();
  port->stopListening();
  wait(client->whenClosed());
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "ReactorFixture::finish names what was left, and who made it") {
  const std::string here = "reactor_fixture_test.cpp:" + std::to_string(__LINE__ + 1);
  auto left = reactor.callLater(1h, [] {});
  Logger("test").failure("bad", std::runtime_error("x"));
  const auto problems = finish();
  REQUIRE(problems.size() == 2);
  CHECK(problems[0] == "an error was logged: bad\nstd::runtime_error: x");
  CHECK(problems[1].starts_with("a call was left, due in "));
  CHECK(problems[1].ends_with(here));
  left.cancel();
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "ReactorFixture: ports and connections are named with the user's place") {
  const auto here = [](int line) { return "reactor_fixture_test.cpp:" + std::to_string(line); };
  const int listen = __LINE__ + 1;
  auto port = reactor.listenTCP(0, forProtocol<AccumulatingProtocol>(), 50, "127.0.0.1");
  HostnameEndpoint endpoint("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, reactor);
  const int connect = __LINE__ + 1;
  auto client = wait(connectProtocol(endpoint, std::make_shared<AccumulatingProtocol>()));
  auto udp = std::make_shared<DatagramProtocol>();
  const int bind = __LINE__ + 1;
  reactor.listenUDP(0, udp, "127.0.0.1");
  const int unix = __LINE__ + 1;
  auto local = reactor.listenUNIX(mktemp(), forProtocol<AccumulatingProtocol>());
  auto problems = finish();
  const auto named = [&](int line) {
    return std::count_if(problems.begin(), problems.end(),
                         [&](const auto& text) { return text.ends_with(here(line)); });
  };
  CHECK(problems.size() == 5);
  CHECK(named(listen) == 2);  // the port, and the connection that it accepted
  CHECK(named(connect) == 1);
  CHECK(named(bind) == 1);
  CHECK(named(unix) == 1);
  client->transport().loseConnection();
  udp->transport().stopListening();
  local->stopListening();
  port->stopListening();
  wait(client->whenClosed());
  CHECK(finish().empty());
}
