#include <reactor/protocol.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/string_transport.hpp>

using namespace torsion;

namespace {

struct NoOpTransport : Transport {
  void write(std::string_view data) override { written += data; }
  void loseConnection() override { lost = true; }
  void abortConnection() override { lost = true; }
  bool disconnecting() const noexcept override { return lost; }
  Address getPeer() const override { return IPv4Address{"10.0.0.1", 1}; }
  Address getHost() const override { return IPv4Address{"10.0.0.2", 2}; }
  void registerProducer(Producer&, bool) override {}
  void unregisterProducer() override {}
  Deferred<void> drained() override { return succeed(); }
  void setWriteLimit(std::size_t) override {}
  void pauseProducing() override {}
  void resumeProducing() override {}
  std::string written;
  bool lost = false;
};

struct Greeter : Protocol {
  explicit Greeter(int* alive = nullptr) : alive(alive) {
    if (alive) ++*alive;
  }
  ~Greeter() override {
    if (alive) --*alive;
  }
  void connectionMade() override { transport().write("hello"); }
  int* alive;
};

}  // namespace

TEST_CASE("makeConnection attaches the transport before connectionMade") {
  NoOpTransport transport;
  Greeter protocol;
  CHECK_FALSE(protocol.connected());
  protocol.makeConnection(transport);
  CHECK(transport.written == "hello");
  CHECK(&protocol.transport() == &transport);
  CHECK(transport.protocol() == &protocol);
  CHECK(protocol.connected());
}

TEST_CASE("a transport keeps its protocol until it lets go of it") {
  int alive = 0;
  NoOpTransport transport;
  std::weak_ptr<Protocol> weak;
  {
    auto protocol = std::make_shared<Greeter>(&alive);
    weak = protocol;
    protocol->makeConnection(transport);
  }
  CHECK(alive == 1);
  transport.protocol()->detachTransport();
  CHECK(alive == 0);
  CHECK(transport.protocol() == nullptr);
}

TEST_CASE("a protocol that outlives its transport has the inert one") {
  auto protocol = std::make_shared<Greeter>();
  {
    NoOpTransport transport;
    protocol->makeConnection(transport);
  }
  CHECK(&protocol->transport() == &Transport::inert());
  CHECK_FALSE(protocol->connected());
  protocol->transport().write("x");
  protocol->transport().loseConnection();
}

TEST_CASE("a transport that outlives a protocol on the stack forgets it") {
  NoOpTransport transport;
  {
    Greeter protocol;
    protocol.makeConnection(transport);
  }
  CHECK(transport.protocol() == nullptr);
}

TEST_CASE("attachTransport moves a protocol to another transport, and calls nothing") {
  int alive = 0;
  NoOpTransport below, above;
  std::make_shared<Greeter>(&alive)->makeConnection(below);
  Protocol* user = below.protocol();
  user->attachTransport(above);
  CHECK(alive == 1);
  CHECK(below.protocol() == nullptr);
  CHECK(above.protocol() == user);
  CHECK(above.written.empty());

  SUBCASE("one that takes a transport over leaves the former protocol inert") {
    auto kept = user->shared_from_this();
    std::make_shared<Protocol>()->attachTransport(above);
    CHECK(&kept->transport() == &Transport::inert());
    CHECK(above.protocol() != user);
  }
  SUBCASE("attaching twice is harmless") {
    user->attachTransport(above);
    CHECK(alive == 1);
    CHECK(above.protocol() == user);
  }
}

TEST_CASE("hold keeps the protocol until the callback has run or been dropped") {
  int alive = 0;
  auto protocol = std::make_shared<Greeter>(&alive);
  auto callback = protocol->hold([raw = protocol.get()](int n) { return raw->alive ? n + 1 : 0; });
  protocol.reset();
  CHECK(alive == 1);
  CHECK(callback(1) == 2);
  auto moved = std::move(callback);
  {
    auto dropped = std::move(moved);
  }
  CHECK(alive == 0);
}

TEST_CASE("a callback in hold goes wherever it could go by itself") {
  auto protocol = std::make_shared<Protocol>();
  std::string seen;
  const auto chain = [&](Failure failure) {
    fail<int>(std::move(failure))
        .addErrback(protocol->hold([&](const ConnectionRefusedError&) {
          seen += "refused ";
          return 1;
        }))
        .addCallback(protocol->hold([](int n) { return succeed(n + 1); }))
        .addErrback(protocol->hold([&](const Failure&) {
          seen += "failed ";
          return 0;
        }))
        .addBoth(protocol->hold([&](Result<int> result) { seen += std::to_string(result.value()); }))
        .addBoth(protocol->hold([&] { seen += " ended"; }));
  };
  chain(ConnectionRefusedError("nobody listens"));
  CHECK(seen == "refused 2 ended");
  seen.clear();
  chain(ConnectionDone());
  CHECK(seen == "failed 0 ended");
}

TEST_CASE("a factory is started by its first user and stopped by its last") {
  struct Counting : Factory {
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return nullptr; }
    void startFactory() override { ++started; }
    void stopFactory() override { ++stopped; }
    int started = 0, stopped = 0;
  } factory;
  factory.doStart();
  factory.doStart();
  CHECK(factory.numPorts() == 2);
  CHECK(factory.started == 1);
  factory.doStop();
  CHECK(factory.stopped == 0);
  factory.doStop();
  CHECK(factory.stopped == 1);
  factory.doStop();  // one too many is ignored
  CHECK(factory.stopped == 1);
  CHECK(factory.numPorts() == 0);
  factory.doStart();
  CHECK(factory.started == 2);
}

TEST_CASE("makeFactory takes callables with and without the address, forProtocol a class") {
  const Address peer = IPv4Address{"10.0.0.1", 80};
  std::string seen;
  auto with = makeFactory([&](const Address& a) {
    seen = describe(a);
    return std::make_shared<Greeter>();
  });
  CHECK(with->buildProtocol(peer) != nullptr);
  CHECK(seen == "10.0.0.1:80");
  auto without = makeFactory([] { return std::make_shared<Greeter>(); });
  CHECK(without->buildProtocol(peer) != without->buildProtocol(peer));
  int alive = 0;
  auto made = forProtocol<Greeter>(&alive)->buildProtocol(peer);
  CHECK(alive == 1);
}

TEST_CASE("notifyOnDisconnect: each callback is called once, after connectionLost; what it throws is logged") {
  LogCapture capture;
  std::string events;
  auto protocol = std::make_shared<AccumulatingProtocol>();
  StringTransportWithDisconnection transport;
  protocol->makeConnection(transport);
  protocol->notifyOnDisconnect([&] { events += protocol->closed() ? "first " : "too early "; });
  protocol->notifyOnDisconnect([&] { throw std::domain_error("bad"); });
  protocol->notifyOnDisconnect([&] { events += "last"; });
  transport.loseConnection();
  CHECK(events == "first last");
  CHECK(capture.flushLoggedErrors<std::domain_error>().size() == 1);
  protocol->detachTransport();
  CHECK(events == "first last");
}

namespace {

// A transport as ours are: it delivers.
struct Delivering : NoOpTransport {
  using NoOpTransport::deliver;
};

// Keeps all that it gets, and calls `act` with it.
struct Keeper : Protocol {
  void connectionMade() override { log += "made;"; }
  void dataReceived(std::string_view data) override {
    kept += data;
    log += std::string(data) + ";";
    if (act) act(*this);
    CHECK(alive == "on the heap, for AddressSanitizer's sake");
  }
  std::string takeUnread() override { return std::exchange(kept, {}); }
  std::string kept, log, alive = "on the heap, for AddressSanitizer's sake";
  std::function<void(Keeper&)> act;
};

}  // namespace

TEST_CASE("a protocol that gives its transport away lives until its call has returned") {
  Delivering transport;
  auto first = std::make_shared<Keeper>();
  auto second = std::make_shared<Keeper>();
  auto third = std::make_shared<Keeper>();
  std::weak_ptr<Keeper> gone = first;
  first->makeConnection(transport);
  SUBCASE("to one") {
    first->act = [&](Keeper& self) {
      second->makeConnection(self.transport());
      CHECK(second->log == "made;");
    };
  }
  SUBCASE("to one that gives it on at once") {
    first->act = [&](Keeper& self) {
      second->makeConnection(self.transport());
      third->makeConnection(second->transport());
      std::swap(second, third);
    };
  }
  SUBCASE("to one that gives it on when it has got something") {
    second->act = [&](Keeper& self) {
      third->makeConnection(self.transport());
      std::swap(second, third);
      self.act = nullptr;
    };
    first->act = [&](Keeper& self) { second->makeConnection(self.transport()); };
  }
  first.reset();
  transport.deliver("some");
  CHECK(gone.expired());
  CHECK(second->log == "made;some;");
  transport.deliver("more");
  CHECK(second->kept == "somemore");
  CHECK(transport.protocol() == second.get());
}

TEST_CASE("what a protocol throws after it has given its transport away goes to the transport") {
  Delivering transport;
  auto first = std::make_shared<Keeper>();
  auto second = std::make_shared<Keeper>();
  first->makeConnection(transport);
  first->act = [&](Keeper& self) {
    second->makeConnection(self.transport());
    throw std::runtime_error("no");
  };
  CHECK_THROWS_AS(transport.deliver("some"), std::runtime_error);
  CHECK_FALSE(transport.delivering());
  transport.deliver("more");
  CHECK(second->kept == "more");
}
