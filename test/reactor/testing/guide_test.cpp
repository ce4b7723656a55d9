// The programs and tests of docs/testing.md.
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/cut.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

// Answers each line with a greeting; an empty line ends the conversation.
class Greeter : public Protocol {
 public:
  void dataReceived(std::string_view data) override {
    received_ += data;
    for (std::size_t end; (end = received_.find('\n')) != std::string::npos; received_.erase(0, end + 1)) {
      if (end == 0) return transport().loseConnection();
      transport().write("Hello, " + received_.substr(0, end) + "!\n");
    }
  }

 private:
  std::string received_;
};

// Gets one line from a server.
class LineClient : public Protocol {
 public:
  Deferred<std::string> line() {
    line_.onCancel([this](const auto&) { transport().abortConnection(); });
    return line_.deferred();
  }
  void dataReceived(std::string_view data) override {
    received_ += data;
    if (received_.ends_with('\n') && !line_.called()) {
      transport().loseConnection();
      line_.callback(received_);
    }
  }
  void connectionLost(const Failure& reason) override {
    if (!line_.called()) line_.errback(reason);
  }

 private:
  std::string received_;
  Resolver<std::string> line_;
};

Deferred<std::string> getQuote(NetworkReactor& reactor) {
  HostnameEndpoint endpoint("quotes.example", 17, reactor);
  auto client = co_await connectProtocol(endpoint, std::make_shared<LineClient>());
  co_return co_await client->line();
}

// Tries again after 1, 2, 4, ... seconds.
Deferred<std::string> getQuoteWithRetries(NetworkReactor& reactor, int tries) {
  for (Duration wait = 1s;; wait *= 2) {
    try {
      co_return co_await getQuote(reactor);
    } catch (const ConnectError&) {
      if (--tries == 0) throw;
    }
    co_await deferLater(reactor, wait);
  }
}

// Sends a line when the connection is made.
class QuoteServer : public Protocol {
  void connectionMade() override { transport().write("To be, or not to be.\n"); }
};

}  // namespace

TEST_CASE("the greeter greets, and ends the conversation") {
  auto greeter = std::make_shared<Greeter>();
  StringTransport transport;
  greeter->makeConnection(transport);

  greeter->dataReceived("Ada\nGra");
  CHECK(transport.value() == "Hello, Ada!\n");
  transport.clear();
  greeter->dataReceived("ce\n\n");
  CHECK(transport.value() == "Hello, Grace!\n");
  CHECK(transport.disconnecting());
}

TEST_CASE("the greeter greets, wherever its input is cut") {
  deliverCutEverywhere("Ada\nGrace\n\n", [](const Cut& cut) {
    CAPTURE(cut.describe());
    auto greeter = std::make_shared<Greeter>();
    StringTransport transport;
    greeter->makeConnection(transport);
    cut.deliver(*greeter);
    CHECK(transport.value() == "Hello, Ada!\nHello, Grace!\n");
  });
}

TEST_CASE("a conversation, byte by byte") {
  auto client = std::make_shared<AccumulatingProtocol>();
  IOPump pump(client, std::make_shared<Greeter>());
  pump.setPieceSize(1);

  client->transport().write("Ada\n\n");
  pump.flush();
  CHECK(client->data == "Hello, Ada!\n");
  CHECK(client->closedReason->check<ConnectionDone>());
}

TEST_CASE_FIXTURE(Fixture, "the client tries again until there is a server") {
  reactor.addName("quotes.example", {"10.0.0.17"});
  auto quote = getQuoteWithRetries(reactor, 3);
  reactor.flush();  // refused: nobody listens
  reactor.advance(1s);
  reactor.flush();  // refused again
  assertNoResult(quote);

  auto port = reactor.listenTCP(17, forProtocol<QuoteServer>());
  reactor.advance(1999ms);
  CHECK(reactor.tcpClients().empty());
  reactor.advance(1ms);
  reactor.flush();
  CHECK(successResultOf(quote) == "To be, or not to be.\n");
}

TEST_CASE_FIXTURE(Fixture, "the client gives up after its last try") {
  reactor.addName("quotes.example", {"10.0.0.17"});
  auto quote = getQuoteWithRetries(reactor, 1);
  reactor.failOnce(NoRouteError("no route to host"));
  failureResultOf<NoRouteError>(quote);
}

TEST_CASE_FIXTURE(Fixture, "a server that says nothing: the client times out, and closes the connection") {
  reactor.addName("quotes.example", {"10.0.0.17"});
  auto server = std::make_shared<AccumulatingProtocol>();
  reactor.listenTCP(17, makeFactory([&] { return server; }));
  auto quote = getQuote(reactor).addTimeout(5s, reactor);
  reactor.flush();
  CHECK(server->made);

  reactor.advance(5s);
  failureResultOf<TimeoutError>(quote);
  reactor.flush();
  CHECK(server->closedReason->check<ConnectionLost>());
}

TEST_CASE_FIXTURE(Fixture, "a request over UDP") {
  struct Clock : DatagramProtocol {
    void startProtocol() override { transport().write("what time is it?", IPv4Address{"10.0.0.13", 13}); }
    void datagramReceived(std::string_view data, const Address&) override { answer = data; }
    std::string answer;
  };
  auto clock = std::make_shared<Clock>();
  reactor.listenUDP(0, clock);
  auto& port = *reactor.udpPorts().front().transport;
  CHECK(port.written() == std::vector<Datagram>{{"what time is it?", IPv4Address{"10.0.0.13", 13}}});
  port.deliver("noon", IPv4Address{"10.0.0.13", 13});
  CHECK(clock->answer == "noon");
}

TEST_CASE_FIXTURE(Fixture, "an error that the test expects to be logged") {
  struct Fragile : Protocol {
    void dataReceived(std::string_view) override { throw std::runtime_error("not prepared for this"); }
  };
  auto client = std::make_shared<AccumulatingProtocol>();
  IOPump& pump = connect(client, std::make_shared<Fragile>());
  client->transport().write("x");
  pump.flush();
  CHECK(client->closed());
  CHECK(flushLoggedErrors<std::runtime_error>().size() == 1);
}
