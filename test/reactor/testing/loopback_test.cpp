#include <reactor/testing/loopback.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <reactor/error.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/testing/reactor_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct Echo final : AccumulatingProtocol {
  void dataReceived(std::string_view bytes) override {
    ++calls;
    AccumulatingProtocol::dataReceived(bytes);
    transport().write(bytes);
  }
  int calls = 0;
};

// Sends a text, and ends the connection when it is back.
struct Client final : AccumulatingProtocol {
  explicit Client(std::string text = "hello") : text(std::move(text)) {}
  void connectionMade() override { transport().write(text); }
  void dataReceived(std::string_view bytes) override {
    AccumulatingProtocol::dataReceived(bytes);
    if (data == text) transport().loseConnection();
  }
  std::string text;
};

}  // namespace

TEST_CASE("loopbackAsync: until both ends have had their connectionLost, on turns of the clock") {
  Clock clock;
  auto server = std::make_shared<Echo>();
  auto client = std::make_shared<Client>();
  auto over = loopbackAsync(server, client, clock);
  CHECK(server->data.empty());
  clock.advance(0s);
  successResultOf(over);
  CHECK(client->data == "hello");
  CHECK(server->closedReason->check<ConnectionDone>());
  CHECK(client->closedReason->check<ConnectionDone>());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("loopbackAsync: idles, and goes on with whatever is done to an end") {
  Clock clock;
  auto server = std::make_shared<Echo>();
  auto client = std::make_shared<AccumulatingProtocol>();
  auto over = loopbackAsync(server, client, clock);
  clock.advance(1h);
  assertNoResult(over);
  client->transport().write("a");
  clock.advance(0s);
  CHECK(client->data == "a");
  server->transport().pauseProducing();
  client->transport().write("b");
  clock.advance(0s);
  CHECK(client->data == "a");
  server->transport().resumeProducing();
  clock.advance(0s);
  CHECK(client->data == "ab");
  SUBCASE("loseConnection") {
    client->transport().loseConnection();
  }
  SUBCASE("loseWriteConnection") {
    client->transport().loseWriteConnection();
  }
  SUBCASE("abortConnection") {
    server->transport().abortConnection();
  }
  clock.advance(0s);
  successResultOf(over);
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("loopbackAsync: in pieces") {
  Clock clock;
  auto server = std::make_shared<Echo>();
  auto client = std::make_shared<Client>(std::string(100, 'x'));
  SUBCASE("of one byte") {
    successResultOf([&] {
      auto over = loopbackAsync(server, client, clock, [](std::string_view) { return 1; });
      clock.advance(0s);
      return over;
    }());
    CHECK(server->calls == 100);
  }
  SUBCASE("of any length, and the same for the same seed") {
    int first = 0;
    for (int i = 0; i < 2; ++i) {
      auto echo = std::make_shared<Echo>();
      auto over = loopbackAsync(echo, std::make_shared<Client>(std::string(100, 'x')), clock, randomPumpPolicy(7));
      clock.advance(0s);
      successResultOf(over);
      CHECK(echo->data.size() == 100);
      CHECK(echo->calls > 1);
      if (i == 0) first = echo->calls;
      CHECK(echo->calls == first);
    }
  }
}

TEST_CASE("loopbackAsync: cancel() aborts the connection; one left open is a call that is left") {
  Clock clock;
  auto server = std::make_shared<Echo>(), client = std::make_shared<Echo>();
  const int line = __LINE__ + 1;
  auto over = loopbackAsync(server, client, clock);
  clock.advance(0s);
  REQUIRE(clock.getDelayedCalls().size() == 1);
  CHECK(clock.getDelayedCalls()[0].where().line() == static_cast<unsigned>(line));
  over.cancel();
  failureResultOf<CancelledError>(over);
  clock.advance(0s);
  CHECK(client->closedReason->check<ConnectionAborted>());
  CHECK(server->closed());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("loopbackAsync: the clock goes first") {
  auto client = std::make_shared<Echo>();
  std::optional<Clock> clock(std::in_place);
  auto over = loopbackAsync(std::make_shared<Echo>(), client, *clock);
  clock->advance(0s);
  clock.reset();
  failureResultOf<BrokenDeferred>(over);
  CHECK_FALSE(client->connected());
}

TEST_CASE_FIXTURE(ReactorFixture, "loopbackAsync, loopbackTCP and loopbackUNIX with a real reactor") {
  for (int kind = 0; kind < 3; ++kind) {
    CAPTURE(kind);
    auto server = std::make_shared<Echo>();
    auto client = std::make_shared<Client>();
    wait(kind == 0   ? loopbackAsync(server, client, reactor)
         : kind == 1 ? loopbackTCP(server, client, reactor)
                     : loopbackUNIX(server, client, reactor));
    CHECK(client->data == "hello");
    CHECK(server->closed());
    CHECK(client->closed());
  }
  CHECK(finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "loopbackTCP: cancel() ends the connection and the port") {
  auto server = std::make_shared<Echo>();
  auto client = std::make_shared<AccumulatingProtocol>();
  auto over = loopbackTCP(server, client, reactor);
  wait(deferLater(reactor, 0s));
  SUBCASE("while it connects") {}
  SUBCASE("later") {
    while (!server->made || !client->made) wait(deferLater(reactor, 0s));
  }
  over.cancel();
  CHECK_THROWS_AS(wait(std::move(over)), CancelledError);
  CHECK(finish().empty());
}

TEST_CASE("loopbackTCP: the attempt fails") {
  MemoryReactor reactor;
  auto over = loopbackTCP(std::make_shared<Echo>(), std::make_shared<Client>(), reactor);
  reactor.failOnce(NoRouteError("no route"));
  failureResultOf<NoRouteError>(over);
  CHECK(reactor.tcpServers().empty());
}
