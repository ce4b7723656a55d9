#include <reactor/testing/fixture.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>
#include <reactor/reconnecting.hpp>
#include <reactor/streams.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/tls.hpp>
#include <test/doctest_fixture.hpp>
#include <test/support/certificates.hpp>

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

template <class T>
void ignore(Deferred<T> d) {
  std::move(d).addBoth([](Result<T>) {});
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
  const auto client = std::make_shared<AnyClient>();
  int line = __LINE__ + 3;
  const auto connection = problemOf([&](TestFixture& fixture) {
    fixture.reactor.listenTCP(80, forProtocol<AccumulatingProtocol>());
    fixture.reactor.connectTCP("10.0.0.5", 80, client);
    fixture.reactor.flush();
  });
  CHECK(connection.find(" (torsion::AccumulatingProtocol) to 10.0.0.5:80 (torsion::AccumulatingProtocol), made at ") !=
        std::string::npos);
  CHECK(connection.ends_with(here(line)));

  line = __LINE__ + 1;
  const auto tcp = problemOf([&](TestFixture& fixture) { fixture.reactor.connectTCP("10.0.0.5", 80, client); });
  CHECK(tcp.starts_with("an attempt to connect was left: to 10.0.0.5:80, made at "));
  CHECK(tcp.ends_with(here(line)));
  line = __LINE__ + 1;
  const auto unix = problemOf([&](TestFixture& fixture) { fixture.reactor.connectUNIX("/run/x", client); });
  CHECK(unix.starts_with("an attempt to connect was left: to unix:/run/x, made at "));
  CHECK(unix.ends_with(here(line)));
}

TEST_CASE("TestFixture: what is made through the library is named with the user's place") {
  const auto made = [](auto f) {
    const auto problem = problemOf(f);
    return problem.substr(problem.rfind('/') + 1);
  };
  const auto client = [] { return std::make_shared<AccumulatingProtocol>(); };
  int line = __LINE__ + 3;
  const auto tcp = made([&](TestFixture& fixture) {
    TCP4ClientEndpoint endpoint("10.0.0.5", 80, fixture.reactor);
    ignore(connectProtocol(endpoint, client()));
  });
  CHECK(tcp == here(line));
  line = __LINE__ + 4;
  const auto name = made([&](TestFixture& fixture) {
    HostnameEndpoint endpoint("x.example", 80, fixture.reactor);
    fixture.reactor.addName("x.example", {"10.0.0.5"});
    ignore(endpoint.connect(makeFactory(client)));
  });
  CHECK(name == here(line));
  line = __LINE__ + 3;
  const auto stream = made([&](TestFixture& fixture) {
    UNIXClientEndpoint endpoint("/run/x", fixture.reactor);
    ignore(openConnection(endpoint));
  });
  CHECK(stream == here(line));
  struct Stubborn final : ReconnectingClientFactory {
    explicit Stubborn(Time& time) : ReconnectingClientFactory(time) {}
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return nullptr; }
  };
  line = __LINE__ - 3;
  std::shared_ptr<Stubborn> factory;
  const auto retry = made([&](TestFixture& fixture) {
    factory = std::make_shared<Stubborn>(fixture.reactor);
    fixture.reactor.connectTCP("10.0.0.5", 80, factory);
    fixture.reactor.failOnce();
  });
  CHECK(retry == here(line));
}

TEST_CASE_FIXTURE(Fixture, "TestFixture: TLS between two protocols, in memory") {
  const auto& pki = test::testPKI();
  auto server = std::make_shared<AccumulatingProtocol>(), client = std::make_shared<AccumulatingProtocol>();
  const auto options =
      optionsForServerTLS({.privateKey = pki.localhost.privateKey, .certificate = pki.localhost.certificate});
  const auto trust = optionsForClientTLS("localhost", {.trustRoots = pki.authority.certificate});
  connect(tlsFactory(trust, makeFactory([&] { return client; }), reactor)->buildProtocol({}),
          tlsFactory(options, makeFactory([&] { return server; }), reactor)->buildProtocol({}));
  client->transport().write("hello");
  reactor.flush();
  CHECK(server->data == "hello");
  server->transport().loseConnection();
  reactor.flush();
  CHECK(client->closedReason->check<ConnectionDone>());
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
