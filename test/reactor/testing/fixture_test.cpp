#include <reactor/testing/fixture.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include <deferred/functions.hpp>
#include <reactor/logger.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

// The one problem that `f` leaves in a fixture.
template <class F>
std::string problemOf(F f) {
  TestFixture fixture;
  f(fixture);
  const auto problems = fixture.finish();
  REQUIRE(problems.size() == 1);
  return problems[0];
}

std::string here(int line) {
  return "fixture_test.cpp:" + std::to_string(line);
}

struct AnyClient final : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<AccumulatingProtocol>(); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "TestFixture: a test that leaves nothing behind passes") {
  auto client = std::make_shared<AccumulatingProtocol>();
  IOPump& pump = connect(client, std::make_shared<AccumulatingProtocol>());
  client->transport().loseConnection();
  pump.flush();
  reactor.callLater(1s, [] {});
  reactor.advance(1s);
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(Fixture, "TestFixture: errors that the test expects are flushed") {
  Logger("test").failure("bad", std::runtime_error("x"));
  CHECK(flushLoggedErrors<std::runtime_error>().size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a doctest that leaves a call behind fails" * doctest::should_fail()) {
  reactor.callLater(1s, [] {});
}

TEST_CASE("TestFixture: a call that is left is named with its creator") {
  const int line = __LINE__ + 1;
  const auto problem = problemOf([](TestFixture& fixture) { fixture.reactor.callLater(1500ms, [] {}); });
  CHECK(problem.starts_with("a call was left, due in 1.5 s, scheduled at "));
  CHECK(problem.ends_with(here(line)));
}

TEST_CASE("TestFixture: an open connection is named with its creator") {
  const int line = __LINE__ + 2;
  const auto problem = problemOf([](TestFixture& fixture) {
    fixture.connect(std::make_shared<AccumulatingProtocol>(), std::make_shared<AccumulatingProtocol>());
  });
  CHECK(
      problem.starts_with("a connection was left open: 10.0.0.1:12345 (torsion::AccumulatingProtocol) to "
                          "192.168.1.1:54321 (torsion::AccumulatingProtocol), made at "));
  CHECK(problem.ends_with(here(line)));
}

TEST_CASE("TestFixture: open connections of the reactor, and attempts") {
  CHECK(problemOf([](TestFixture& fixture) {
          fixture.reactor.listenTCP(80, forProtocol<AccumulatingProtocol>());
          fixture.reactor.connectTCP("10.0.0.5", 80, std::make_shared<AnyClient>());
          fixture.reactor.flush();
        }).ends_with(" (torsion::AccumulatingProtocol) to 10.0.0.5:80 (torsion::AccumulatingProtocol)"));
  CHECK(problemOf([](TestFixture& fixture) {
          fixture.reactor.connectTCP("10.0.0.5", 80, std::make_shared<AnyClient>());
        }) == "an attempt to connect was left: to 10.0.0.5:80");
  CHECK(problemOf([](TestFixture& fixture) { fixture.reactor.connectUNIX("/run/x", std::make_shared<AnyClient>()); }) ==
        "an attempt to connect was left: to unix:/run/x");
}

TEST_CASE("TestFixture: an error that was logged") {
  CHECK(problemOf([](TestFixture&) { Logger("test").failure("bad {n}", std::runtime_error("x"), {{"n", 1}}); }) ==
        "an error was logged: bad 1\nstd::runtime_error: x");
}

TEST_CASE("TestFixture: a Failure that no errback handled is named with where its Deferred was made") {
  const int line = __LINE__ + 1;
  const auto problem = problemOf([](TestFixture&) { fail<int>(std::runtime_error("lost")); });
  CHECK(problem.starts_with("an error was logged: Unhandled error in Deferred: lost (made at "));
  CHECK(problem.find(here(line) + ")") != std::string::npos);
}

TEST_CASE("TestFixture::finish reports errors once") {
  TestFixture fixture;
  Logger("test").failure("bad", std::runtime_error("x"));
  CHECK(fixture.finish().size() == 1);
  CHECK(fixture.finish().empty());
}
