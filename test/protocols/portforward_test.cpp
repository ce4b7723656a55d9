#include <protocols/portforward.hpp>

#include <memory>
#include <string>

#include <doctest/doctest.h>

#include <protocols/wire.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

// A client of port 80, where a ProxyFactory hands on to port 81.
struct Forwarded {
  MemoryReactor reactor;
  std::shared_ptr<AccumulatingProtocol> client = std::make_shared<AccumulatingProtocol>();
  std::shared_ptr<AccumulatingProtocol> server = std::make_shared<AccumulatingProtocol>();
  TCP4ClientEndpoint front{"10.0.0.1", 80, reactor};
  Deferred<std::shared_ptr<AccumulatingProtocol>> connecting;

  Forwarded() : connecting(start()) {}
  Deferred<std::shared_ptr<AccumulatingProtocol>> start() {
    reactor.listenTCP(80, std::make_shared<ProxyFactory>(
                              std::make_shared<TCP4ClientEndpoint>("10.0.0.1", std::uint16_t{81}, reactor)));
    return connectProtocol(front, client);
  }
  void serve() {
    reactor.listenTCP(81, makeFactory([this] { return server; }));
  }
};

}  // namespace

TEST_CASE("ProxyFactory: bytes go both ways, and what came before there was a connection is not lost") {
  Forwarded t;
  t.serve();
  REQUIRE(t.reactor.succeedOnce());  // the client's
  t.client->transport().write("early ");
  t.reactor.flush();
  t.client->transport().write("hello");
  t.server->transport().write("hi");
  t.reactor.flush();
  CHECK(t.server->data == "early hello");
  CHECK(t.client->data == "hi");
  SUBCASE("the client ends it") {
    t.client->transport().write(" bye");
    t.client->transport().loseConnection();
  }
  SUBCASE("the server ends it") {
    t.server->transport().write(" bye");
    t.server->transport().loseConnection();
  }
  SUBCASE("the client is cut off") {
    t.client->transport().abortConnection();
  }
  t.reactor.flush();
  CHECK((t.server->data == "early hello bye" || t.client->data == "hi bye" ||
         t.client->closedReason->check<ConnectionAborted>()));
  CHECK(t.client->closed());
  CHECK(t.server->closed());
  CHECK(t.reactor.connections().empty());
}

TEST_CASE("ProxyFactory: neither side is read faster than the other takes it") {
  Forwarded t;
  t.serve();
  t.reactor.flush();
  t.server->transport().pauseProducing();
  std::size_t written = 0;
  for (; written < 10'000'000; written += 10000) {
    t.client->transport().write(std::string(10000, 'x'));
    t.reactor.flush();
  }
  std::size_t queued = 0;
  for (const auto& pump : t.reactor.connections()) queued += pump->clientIO().queued();
  CHECK(queued + t.server->data.size() == written);
  CHECK(t.reactor.connections().back()->clientIO().queued() < 300'000);
  t.server->transport().resumeProducing();
  t.reactor.flush();
  CHECK(t.server->data.size() == written);
  t.client->transport().loseConnection();
  t.reactor.flush();
  CHECK(t.server->closed());
}

TEST_CASE("ProxyFactory: nobody to hand on to: the client is closed, and why is logged") {
  LogCapture capture;
  Forwarded t;
  t.reactor.flush();
  CHECK(t.client->closedReason->check<ConnectionDone>());
  REQUIRE(capture.events().size() == 1);
  CHECK(capture.events().front().text().find("cannot be forwarded: ") != std::string::npos);
}

TEST_CASE("ProxyFactory: a client that goes before there is a connection ends the attempt") {
  LogCapture capture;
  Forwarded t;
  REQUIRE(t.reactor.succeedOnce());
  CHECK(t.reactor.tcpClients().size() == 1);
  t.client->transport().abortConnection();
  for (const auto& pump : t.reactor.connections()) pump->flush();
  CHECK(t.client->closed());
  t.reactor.advance(0s);
  CHECK(t.reactor.tcpClients().empty());
  CHECK(capture.events().empty());
}
