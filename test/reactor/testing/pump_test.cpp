#include <reactor/testing/pump.hpp>

#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>

using namespace torsion;

namespace {

using Probe = AccumulatingProtocol;

// Two probes that are connected.
struct Pair {
  std::shared_ptr<Probe> client = std::make_shared<Probe>();
  std::shared_ptr<Probe> server = std::make_shared<Probe>();
  IOPump pump{client, server};
};

struct HalfProbe final : Probe, HalfCloseableProtocol {
  bool readLost = false, writeLost = false;
  void readConnectionLost() override { readLost = true; }
  void writeConnectionLost() override { writeLost = true; }
};

struct HalfPair {
  std::shared_ptr<HalfProbe> client = std::make_shared<HalfProbe>();
  std::shared_ptr<HalfProbe> server = std::make_shared<HalfProbe>();
  IOPump pump{client, server};
};

// Throws when it is called in a state in which no transport should call it (Twisted's StrictPushProducer).
struct StrictPushProducer final : Producer {
  std::string state = "running";
  void stopProducing() override { change("stopped", state != "stopped"); }
  void pauseProducing() override { change("paused", state == "running"); }
  void resumeProducing() override { change("running", state == "paused"); }
  void change(const char* next, bool allowed) {
    if (!allowed) throw std::logic_error("from " + state + " to " + next);
    state = next;
  }
};

struct PullProducer final : Producer {
  explicit PullProducer(Transport& transport, int pieces) : transport(transport), pieces(pieces) {}
  void resumeProducing() override {
    ++resumed;
    transport.write(std::to_string(pieces));
    if (--pieces == 0) transport.unregisterProducer();
  }
  void pauseProducing() override { throw std::logic_error("a pull producer is never paused"); }
  void stopProducing() override { stopped = true; }
  Transport& transport;
  int pieces;
  int resumed = 0;
  bool stopped = false;
};

template <class F>
struct OnData final : Probe {
  explicit OnData(F f) : f(std::move(f)) {}
  void dataReceived(std::string_view bytes) override {
    Probe::dataReceived(bytes);
    f(*this);
  }
  F f;
};
template <class F>
std::shared_ptr<OnData<F>> onData(F f) {
  return std::make_shared<OnData<F>>(std::move(f));
}

}  // namespace

TEST_CASE("IOPump: connects both ends, with addresses that fit together") {
  Pair p;
  CHECK(p.client->made);
  CHECK(p.server->made);
  CHECK(p.client->transport().getHost() == Address(IPv4Address{"10.0.0.1", 12345}));
  CHECK(p.client->transport().getPeer() == Address(IPv4Address{"192.168.1.1", 54321}));
  CHECK(p.server->transport().getHost() == p.client->transport().getPeer());
  CHECK(p.server->transport().getPeer() == p.client->transport().getHost());
  CHECK_FALSE(p.pump.pump());
  CHECK_FALSE(p.pump.flush());
  CHECK(p.pump.connected());
}

TEST_CASE("IOPump: what is written in connectionMade waits for the pump") {
  struct Greeter final : Probe {
    void connectionMade() override { transport().write("welcome"); }
  };
  auto client = std::make_shared<Probe>();
  IOPump pump(client, std::make_shared<Greeter>());
  CHECK(client->data == "");
  CHECK(pump.flush());
  CHECK(client->data == "welcome");
}

TEST_CASE("FakeTransport: writeSequence writes its pieces") {
  Pair p;
  p.client->transport().write("a");
  const std::string_view pieces[] = {"b", "c", "d"};
  p.client->transport().writeSequence(pieces);
  CHECK(p.pump.clientIO().queued() == 4);
  p.pump.flush();
  CHECK(p.server->data == "abcd");
}

TEST_CASE("FakeTransport: loseConnection with a reason") {
  Pair t;
  t.client->transport().loseConnection(std::runtime_error("had enough"));
  t.pump.flush();
  CHECK(t.client->closedReason->getErrorMessage() == "had enough");
  CHECK(t.server->closedReason->check<ConnectionDone>());
}

TEST_CASE("FakeTransport: what is written after loseConnection is dropped") {
  Pair p;
  p.client->transport().write("before");
  p.client->transport().loseConnection();
  CHECK(p.client->transport().disconnecting());
  p.client->transport().write("after");
  p.pump.flush();
  CHECK(p.server->data == "before");
}

TEST_CASE("IOPump::pump is one exchange: answers come with the next") {
  auto server = onData([](Probe& self) { self.transport().write("pong"); });
  auto client = std::make_shared<Probe>();
  IOPump pump(client, server);
  client->transport().write("ping");
  CHECK(pump.pump());
  CHECK(server->data == "ping");
  CHECK(client->data == "");
  CHECK(pump.pump());
  CHECK(client->data == "pong");
  CHECK_FALSE(pump.pump());
}

TEST_CASE("IOPump::flush gives up on ends that never stop") {
  auto answer = [](Probe& self) { self.transport().write("x"); };
  auto client = onData(answer);
  IOPump pump(client, onData(answer));
  client->transport().write("x");
  CHECK_THROWS_AS(pump.flush(), std::runtime_error);
}

TEST_CASE("IOPump: refuses to be pumped by the protocols") {
  LogCapture log;
  IOPump* self = nullptr;
  auto client = std::make_shared<Probe>();
  IOPump pump(client, onData([&](Probe&) { self->flush(); }));
  self = &pump;
  client->transport().write("x");
  pump.flush();
  CHECK(log.flushLoggedErrors<std::logic_error>().size() == 1);
}

TEST_CASE("IOPump: cuts what it delivers into pieces, byte by byte if asked") {
  std::vector<std::string> pieces;
  struct Pieces final : Protocol {
    explicit Pieces(std::vector<std::string>& pieces) : pieces(pieces) {}
    void dataReceived(std::string_view data) override { pieces.emplace_back(data); }
    std::vector<std::string>& pieces;
  };
  auto client = std::make_shared<Probe>();
  IOPump pump(client, std::make_shared<Pieces>(pieces));
  pump.setPieceSize(1);
  client->transport().write("abc");
  pump.pump();
  CHECK(pieces == std::vector<std::string>{"a", "b", "c"});

  pieces.clear();
  pump.setPieceSize(65536);
  client->transport().write(std::string(70000, 'x'));
  pump.pump();
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[0].size() == 65536);
}

TEST_CASE("loseConnection: ConnectionDone at both ends, after what was queued, on a later turn") {
  Pair p;
  p.server->transport().write("last");
  p.server->transport().loseConnection();
  CHECK_FALSE(p.server->closed());
  CHECK(p.pump.flush());
  CHECK(p.client->data == "last");
  REQUIRE(p.server->closed());
  REQUIRE(p.client->closed());
  CHECK(p.server->closedReason->check<ConnectionDone>());
  CHECK(p.client->closedReason->check<ConnectionDone>());
  CHECK_FALSE(p.pump.connected());
  CHECK_FALSE(p.client->connected());
  p.client->transport().write("into the void");
  CHECK_FALSE(p.pump.pump());
}

TEST_CASE("loseConnection stops reading at once") {
  Pair p;
  p.client->transport().loseConnection();
  p.server->transport().write("too late");
  p.pump.flush();
  CHECK(p.client->data == "");
  CHECK(p.client->closedReason->check<ConnectionDone>());
  CHECK(p.server->closedReason->check<ConnectionDone>());
}

TEST_CASE("loseConnection by both at once, with bytes under way: ConnectionDone for both") {
  Pair p;
  for (const auto& probe : {p.client, p.server}) {
    probe->transport().write("x");
    probe->transport().loseConnection();
  }
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionDone>());
  CHECK(p.server->closedReason->check<ConnectionDone>());
  CHECK(p.client->data + p.server->data == "");
}

TEST_CASE("loseConnection in dataReceived: the rest of what arrived is not delivered") {
  auto server = onData([](Probe& self) {
    self.transport().write("enough");
    self.transport().loseConnection();
    CHECK_FALSE(self.closed());
  });
  auto client = std::make_shared<Probe>();
  IOPump pump(client, server);
  pump.setPieceSize(2);
  client->transport().write("aabbcc");
  pump.flush();
  CHECK(server->data == "aa");
  CHECK(client->data == "enough");
  CHECK(server->closedReason->check<ConnectionDone>());
  CHECK(client->closedReason->check<ConnectionDone>());
}

TEST_CASE("abortConnection: ConnectionAborted here, ConnectionLost there, and nothing queued arrives") {
  Pair p;
  p.server->transport().write("dropped");
  p.server->transport().abortConnection();
  CHECK_FALSE(p.server->closed());
  CHECK(p.server->transport().disconnecting());
  p.pump.flush();
  CHECK(p.client->data == "");
  CHECK(p.server->closedReason->check<ConnectionAborted>());
  REQUIRE(p.client->closed());
  CHECK(p.client->closedReason->check<ConnectionLost>());
  CHECK_FALSE(p.client->closedReason->check<ConnectionAborted>());
}

TEST_CASE("abortConnection reaches a paused end; loseConnection does not until it resumes") {
  {
    Pair p;
    p.client->transport().pauseProducing();
    p.server->transport().abortConnection();
    p.pump.flush();
    CHECK(p.client->closedReason->check<ConnectionLost>());
  }
  Pair p;
  p.client->transport().pauseProducing();
  p.server->transport().loseConnection();
  p.pump.flush();
  CHECK(p.server->closed());
  CHECK_FALSE(p.client->closed());
  p.client->transport().resumeProducing();
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionDone>());
}

TEST_CASE("a paused end writing to one that has gone is reset") {
  Pair p;
  p.client->transport().pauseProducing();
  p.server->transport().loseConnection();
  p.pump.flush();
  p.client->transport().write("hello?");
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionLost>());
}

TEST_CASE("pauseProducing: nothing is delivered until resumeProducing") {
  Pair p;
  p.server->transport().pauseProducing();
  CHECK(p.pump.serverIO().paused());
  p.client->transport().write("abc");
  CHECK_FALSE(p.pump.flush());
  CHECK(p.server->data == "");
  p.server->transport().resumeProducing();
  CHECK(p.pump.flush());
  CHECK(p.server->data == "abc");
}

TEST_CASE("pauseProducing in dataReceived holds back the rest") {
  auto server = onData([](Probe& self) { self.transport().pauseProducing(); });
  auto client = std::make_shared<Probe>();
  IOPump pump(client, server);
  pump.setPieceSize(1);
  client->transport().write("ab");
  pump.flush();
  CHECK(server->data == "a");
  server->transport().resumeProducing();
  pump.flush();
  CHECK(server->data == "ab");
}

TEST_CASE("what dataReceived throws is logged, ends that end with it, and the other with ConnectionDone") {
  LogCapture log;
  auto server = onData([](Probe&) { throw std::range_error("oops"); });
  auto client = std::make_shared<Probe>();
  IOPump pump(client, server);
  client->transport().write("x");
  CHECK(pump.pump());
  CHECK_FALSE(server->closed());
  pump.flush();
  CHECK(server->closedReason->check<std::range_error>());
  CHECK(client->closedReason->check<ConnectionDone>());
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
}

TEST_CASE("what connectionMade throws is logged and ends the connection; connectionLost is called all the same") {
  LogCapture log;
  struct Bad final : Probe {
    void connectionMade() override { throw std::range_error("made"); }
    void connectionLost(const Failure& reason) override {
      Probe::connectionLost(reason);
      throw std::domain_error("lost");
    }
  };
  auto client = std::make_shared<Probe>();
  auto server = std::make_shared<Bad>();
  IOPump pump(client, server);
  pump.flush();
  CHECK(server->closedReason->check<std::range_error>());
  CHECK(client->closedReason->check<ConnectionDone>());
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
  CHECK(log.flushLoggedErrors<std::domain_error>().size() == 1);
}

TEST_CASE("loseWriteConnection: the peer's end of file, while bytes go on in the other direction") {
  HalfPair p;
  p.client->transport().write("request");
  p.client->transport().loseWriteConnection();
  p.client->transport().write("ignored");
  p.pump.flush();
  CHECK(p.server->data == "request");
  CHECK(p.client->writeLost);
  CHECK(p.server->readLost);
  CHECK_FALSE(p.client->readLost);
  CHECK_FALSE(p.client->closed());
  p.server->transport().write("response");
  p.server->transport().loseConnection();
  p.pump.flush();
  CHECK(p.client->data == "response");
  CHECK(p.client->readLost);
  CHECK(p.client->closedReason->check<ConnectionDone>());
  CHECK(p.server->closedReason->check<ConnectionDone>());
}

TEST_CASE("loseWriteConnection by both ends the connection") {
  HalfPair p;
  p.client->transport().loseWriteConnection();
  p.pump.flush();
  p.server->transport().loseWriteConnection();
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionDone>());
  CHECK(p.server->closedReason->check<ConnectionDone>());
}

TEST_CASE("loseWriteConnection: a peer that cannot be half-closed is gone") {
  auto client = std::make_shared<HalfProbe>();
  auto server = std::make_shared<Probe>();
  IOPump pump(client, server);
  client->transport().loseWriteConnection();
  pump.flush();
  CHECK(server->closedReason->check<ConnectionDone>());
  CHECK(client->closedReason->check<ConnectionDone>());
}

TEST_CASE("a half-closed end writing to one that has gone is reset") {
  HalfPair p;
  p.server->transport().loseConnection();
  p.pump.flush();
  CHECK(p.client->readLost);
  CHECK_FALSE(p.client->closed());
  p.client->transport().write("hello?");
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionLost>());
}

TEST_CASE("what readConnectionLost throws ends the connection with it") {
  LogCapture log;
  struct Bad final : Probe, HalfCloseableProtocol {
    void readConnectionLost() override { throw std::range_error("read"); }
    void writeConnectionLost() override { throw std::range_error("write"); }
  };
  for (bool reading : {true, false}) {
    auto bad = std::make_shared<Bad>();
    auto other = std::make_shared<HalfProbe>();
    IOPump pump(bad, other);
    (reading ? other->transport() : bad->transport()).loseWriteConnection();
    pump.flush();
    CHECK(bad->closedReason->check<std::range_error>());
    CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
  }
}

TEST_CASE("a push producer is left alone while little is queued") {
  for (bool ofClient : {true, false}) {
    Pair p;
    StrictPushProducer producer;
    (ofClient ? p.client : p.server)->transport().registerProducer(producer, true);
    p.pump.pump();
    CHECK(producer.state == "running");
    (ofClient ? p.client : p.server)->transport().write(std::string(65536, 'x'));
    p.pump.flush();
    CHECK(producer.state == "running");
    (ofClient ? p.client : p.server)->transport().unregisterProducer();
  }
}

TEST_CASE("a push producer is paused above 64 KiB and resumed when all is gone") {
  Pair p;
  StrictPushProducer producer;
  Transport& transport = p.client->transport();
  transport.registerProducer(producer, true);
  p.server->transport().pauseProducing();
  transport.write(std::string(65536, 'x'));
  CHECK(producer.state == "running");
  transport.write("x");
  CHECK(producer.state == "paused");
  transport.write("not twice");
  p.pump.flush();
  CHECK(producer.state == "paused");
  p.server->transport().resumeProducing();
  p.pump.flush();
  CHECK(producer.state == "running");
  transport.unregisterProducer();
}

TEST_CASE("a pull producer is asked at once, and whenever all is gone") {
  Pair p;
  PullProducer producer(p.server->transport(), 3);
  p.server->transport().registerProducer(producer, false);
  CHECK(producer.resumed == 1);
  p.pump.pump();
  CHECK(producer.resumed == 2);
  p.pump.flush();
  CHECK(producer.resumed == 3);
  CHECK(p.client->data == "321");
  CHECK_FALSE(producer.stopped);
}

TEST_CASE("a second producer is refused; one registered on a lost connection is stopped") {
  Pair p;
  StrictPushProducer producer, second;
  Transport& transport = p.client->transport();
  transport.registerProducer(producer, true);
  CHECK_THROWS_AS(transport.registerProducer(second, true), std::logic_error);
  transport.unregisterProducer();
  transport.abortConnection();
  transport.registerProducer(second, true);
  CHECK(second.state == "stopped");
}

TEST_CASE("loseConnection waits for a registered producer, which may still write") {
  Pair p;
  StrictPushProducer producer;
  Transport& transport = p.client->transport();
  transport.registerProducer(producer, true);
  transport.loseConnection();
  transport.write("more");
  p.pump.flush();
  CHECK(p.server->data == "more");
  CHECK_FALSE(p.client->closed());
  transport.unregisterProducer();
  transport.write("too late");
  p.pump.flush();
  CHECK(p.server->data == "more");
  CHECK(p.client->closed());
  CHECK(producer.state == "running");
}

TEST_CASE("a producer is stopped when the connection is lost") {
  Pair p;
  StrictPushProducer producer;
  p.client->transport().registerProducer(producer, true);
  p.server->transport().abortConnection();
  p.pump.flush();
  CHECK(producer.state == "stopped");
}

TEST_CASE("drained: at once while less than 64 KiB is queued, else when it is again") {
  Pair p;
  successResultOf(p.client->transport().drained());
  p.server->transport().pauseProducing();
  p.client->transport().write(std::string(65536, 'x'));
  auto d = p.client->transport().drained();
  auto other = p.client->transport().drained();
  p.pump.flush();
  assertNoResult(d);
  p.server->transport().resumeProducing();
  p.pump.flush();
  successResultOf(d);
  successResultOf(other);
}

TEST_CASE("drained fails with the reason if the connection ends") {
  Pair p;
  Transport& transport = p.client->transport();
  p.server->transport().pauseProducing();
  transport.write(std::string(65536, 'x'));
  auto d = transport.drained();
  transport.abortConnection();
  failureResultOf<ConnectionAborted>(transport.drained());
  assertNoResult(d);
  p.pump.flush();
  failureResultOf<ConnectionAborted>(d);
}

TEST_CASE("cancelling drained stops only the wait") {
  Pair p;
  p.server->transport().pauseProducing();
  p.client->transport().write(std::string(65536, 'x'));
  auto d = p.client->transport().drained();
  d.cancel();
  failureResultOf<CancelledError>(d);
  p.server->transport().resumeProducing();
  p.pump.flush();
  CHECK(p.server->data.size() == 65536);
  CHECK_FALSE(p.client->closed());
}

TEST_CASE("setWriteLimit ends the connection of a peer that does not read") {
  Pair p;
  p.server->transport().pauseProducing();
  p.client->transport().setWriteLimit(10);
  p.client->transport().write("0123456789");
  CHECK_FALSE(p.client->transport().disconnecting());
  p.client->transport().write("x");
  CHECK(p.client->transport().disconnecting());
  CHECK_FALSE(p.client->closed());
  p.pump.flush();
  CHECK(p.client->closedReason->check<ConnectionLost>());
  CHECK_FALSE(p.client->closedReason->check<ConnectionAborted>());
}

TEST_CASE("a protocol that nobody keeps lives until connectionLost has returned, and goes then") {
  struct Tracked final : Protocol {
    explicit Tracked(bool& gone) : gone(gone) {}
    ~Tracked() override { gone = true; }
    void connectionLost(const Failure&) override { CHECK_FALSE(gone); }
    bool& gone;
  };
  bool gone = false;
  auto client = std::make_shared<Probe>();
  IOPump pump(client, std::make_shared<Tracked>(gone));
  CHECK_FALSE(gone);
  client->transport().loseConnection();
  pump.flush();
  CHECK(gone);
}

TEST_CASE("a protocol that outlives the pump has an inert transport") {
  auto client = std::make_shared<Probe>();
  {
    IOPump pump(client, std::make_shared<Probe>());
    CHECK(client->connected());
  }
  CHECK_FALSE(client->connected());
  client->transport().write("x");
  client->transport().loseConnection();
  CHECK_FALSE(client->closed());
}

TEST_CASE("connectedServerAndClient: both, and what they say at first has arrived") {
  struct Greeter final : Probe {
    void connectionMade() override { transport().write("ready"); }
  };
  const auto line = std::source_location::current().line() + 1;
  auto [client, server, pump] = connectedServerAndClient<Greeter, Probe>();
  CHECK(client->data == "ready");
  CHECK(pump->where().line() == line);
  CHECK_FALSE(pump->flush());
  client->transport().loseConnection();
  pump->flush();
  CHECK(server->closed());

  auto mine = std::make_shared<Probe>();
  const auto other = connectedServerAndClient(std::make_shared<Greeter>(), mine);
  CHECK(other.client == mine);
  CHECK(mine->data == "ready");
}

TEST_CASE("setPumpPolicy: pieces of the lengths that it says") {
  std::vector<std::string> pieces;
  auto server = onData([&, before = std::size_t{0}](Probe& me) mutable {
    pieces.push_back(me.data.substr(before));
    before = me.data.size();
  });
  auto client = std::make_shared<Probe>();
  IOPump pump(client, server);
  client->transport().write("a,bc,,d");
  SUBCASE("at commas") {
    pump.setPumpPolicy([](std::string_view queued) { return queued.find(',') + 1; });
    pump.flush();
    CHECK(pieces == std::vector<std::string>{"a,", "bc,", ",", "d"});
  }
  SUBCASE("any length, and all arrives") {
    pump.setPumpPolicy(randomPumpPolicy(1));
    pump.flush();
    CHECK(server->data == "a,bc,,d");
  }
  SUBCASE("more than there is") {
    pump.setPumpPolicy([](std::string_view) { return 1000; });
    pump.flush();
    CHECK(pieces == std::vector<std::string>{"a,bc,,d"});
  }
  SUBCASE("setPieceSize takes its place") {
    pump.setPumpPolicy(randomPumpPolicy(1));
    pump.setPieceSize(6);
    pump.flush();
    CHECK(pieces == std::vector<std::string>{"a,bc,,", "d"});
  }
}
