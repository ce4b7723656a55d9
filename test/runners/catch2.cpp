// The testing kit under Catch2 (version 2, Debian's).
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include <memory>

#include <deferred/functions.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/fixture.hpp>
#include <test/runners/greeter.hpp>

using namespace torsion;

struct Fixture : TestFixture {
  ~Fixture() {
    for (const auto& problem : finish()) FAIL_CHECK(problem);
  }
};

TEST_CASE_METHOD(Fixture, "the greeting") {
  auto client = std::make_shared<AccumulatingProtocol>();
  connect(client, std::make_shared<Greeter>()).flush();
  CHECK(client->data == "hello");
  client->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_METHOD(Fixture, "a call that is left fails the test", "[!shouldfail]") {
  reactor.callLater(std::chrono::seconds(1), [] {});
}

TEST_CASE_METHOD(Fixture, "a check of the kit that does not hold fails the test", "[!shouldfail]") {
  successResultOf(fail<int>(std::runtime_error("x")));
}
