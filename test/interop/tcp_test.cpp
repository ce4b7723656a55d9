// TCP: our ends with Python Twisted's.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <protocols/policies.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/interop/interop.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace torsion::test;
using namespace std::chrono_literals;

namespace {

/// One connection between `ours` and the peer's `theirs` (a class of peer.py), which has said "made".
struct Connection {
  Connection(bool weListen, const std::string& theirs, std::shared_ptr<Recorder> protocol,
             const std::string& host = "127.0.0.1")
      : ours(std::move(protocol)), peer(reactor) {
    if (weListen) {
      auto port = reactor.listenTCP(0, factoryOf(ours), 50, host);
      peer.tell("connectTCP " + host + " " + std::to_string(portOf(port->getHost())) + " " + theirs);
    } else {
      const std::uint16_t port = peer.listen("listenTCP " + host + " " + theirs);
      reactor.connectTCP(host, port, std::make_shared<RecorderClientFactory>(ours));
    }
    runUntil(reactor, [&] { return ours->connected(); });
    CHECK(peer.hear() == "made");
  }
  std::string ourLoss() {
    runUntil(reactor, [&] { return !ours->lost.empty(); });
    return ours->lost;
  }
  Reactor reactor;
  std::shared_ptr<Recorder> ours;
  Peer peer;
};

const std::string nothing = sum("");

/// The bytes that tcp_peer.py produces.
std::string bytes(std::size_t size) {
  std::string data;
  for (char c = 32; c < 127; ++c) data += c;
  while (data.size() < size) data += data;
  data.resize(size);
  return data;
}

/// Writes `bytes(size)`, as a push or as a pull producer, then closes.
struct Sender : Recorder, private Producer {
  Sender(std::size_t size, bool streaming) : data(bytes(size)), streaming(streaming) {}
  void connectionMade() override {
    transport().registerProducer(*this, streaming);
    if (streaming) resumeProducing();
  }
  void pauseProducing() override {
    paused = true;
    ++pauses;
  }
  void resumeProducing() override {
    paused = false;
    ++calls;
    do {
      transport().write(std::string_view(data).substr(sent, 10'000));
      sent = std::min(sent + 10'000, data.size());
    } while (streaming && !paused && sent < data.size());
    if (sent < data.size()) return;
    transport().unregisterProducer();
    transport().loseConnection();
  }
  void stopProducing() override {}
  std::string data;
  bool streaming, paused = false;
  std::size_t sent = 0;
  int pauses = 0, calls = 0;
};

}  // namespace

TEST_CASE_TEMPLATE("TCP: echo, over IPv4 and IPv6", Side, WeListen, TheyListen) {
  const std::string text(100'000, 'e');
  for (std::string host : {"127.0.0.1", "::1"}) {
    CAPTURE(host);
    {
      Connection c(Side::value, "Echo", std::make_shared<Recorder>(), host);
      c.ours->transport().write(text);
      runUntil(c.reactor, [&] { return c.ours->received.size() == text.size(); });
      CHECK(c.ours->received == text);
      c.ours->transport().loseConnection();
      CHECK(c.peer.hear() == "lost ConnectionDone " + sum(text));
      CHECK(c.ourLoss() == "ConnectionDone");
    }
    auto ours = std::make_shared<Recorder>();
    ours->echo = true;
    Connection c(Side::value, "Recorder", ours, host);
    c.peer.tell("write hello");
    CHECK(c.peer.hear() == "line hello");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum("hello\n"));
    CHECK(c.ourLoss() == "ConnectionDone");
  }
}

TEST_CASE_TEMPLATE("TCP: how a connection ends, as both sides see it", Side, WeListen, TheyListen) {
  SUBCASE("we close") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.ours->transport().write("goodbye\n");
    c.ours->transport().loseConnection();
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(c.peer.hear() == "line goodbye");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum("goodbye\n"));
  }
  SUBCASE("they close") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.peer.tell("write goodbye");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(c.ours->received == "goodbye\n");
  }
  SUBCASE("we abort") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.ours->transport().abortConnection();
    CHECK(c.ourLoss() == "ConnectionAborted");
    CHECK(c.peer.hear() == "lost ConnectionLost " + nothing);
  }
  SUBCASE("they abort") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.peer.tell("abort");
    CHECK(c.peer.hear() == "lost ConnectionAborted " + nothing);
    CHECK(c.ourLoss() == "ConnectionLost");
  }
  SUBCASE("their dataReceived throws") {
    Connection c(Side::value, "Thrower", std::make_shared<Recorder>());
    c.ours->transport().write("x");
    CHECK(c.peer.hear() == "lost ValueError " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("our dataReceived throws") {
    struct Thrower : Recorder {
      void dataReceived(std::string_view) override { throw std::runtime_error("planted"); }
    };
    LogCapture log;
    Connection c(Side::value, "Recorder", std::make_shared<Thrower>());
    c.peer.tell("write x");
    CHECK(c.ourLoss() == "planted");
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(log.flushLoggedErrors<std::runtime_error>().size() == 1);
  }
  SUBCASE("our reactor shuts down") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    auto ours = c.ours;
    c.reactor.callLater(0s, [&] { c.reactor.stop(); });
    c.reactor.run(false);
    CHECK(ours->lost == "ConnectionLost");
  }
}

TEST_CASE_TEMPLATE("TCP: half of a connection is closed", Side, WeListen, TheyListen) {
  SUBCASE("ours, to a protocol that goes on") {
    auto ours = std::make_shared<HalfCloser>();
    Connection c(Side::value, "HalfCloser", ours);
    ours->transport().write("question\n");
    ours->transport().loseWriteConnection();
    CHECK(c.peer.hear() == "line question");
    CHECK(c.peer.hear() == "read lost");
    CHECK(ours->writeLost);
    c.peer.tell("write answer");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum("question\n"));
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(ours->received == "answer\n");
  }
  SUBCASE("theirs, to a protocol that goes on") {
    auto ours = std::make_shared<HalfCloser>();
    Connection c(Side::value, "HalfCloser", ours);
    c.peer.tell("write question");
    c.peer.tell("loseWrite");
    CHECK(c.peer.hear() == "write lost");
    runUntil(c.reactor, [&] { return ours->readLost; });
    CHECK(ours->received == "question\n");
    CHECK(ours->lost.empty());
    ours->transport().write("answer\n");
    ours->transport().loseConnection();
    CHECK(c.peer.hear() == "line answer");
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("ours, to a protocol that knows no halves") {
    auto ours = std::make_shared<HalfCloser>();
    Connection c(Side::value, "Recorder", ours);
    ours->transport().loseWriteConnection();
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("theirs, to a protocol that knows no halves") {
    Connection c(Side::value, "HalfCloser", std::make_shared<Recorder>());
    c.peer.tell("loseWrite");
    CHECK(c.peer.hear() == "write lost");
    CHECK(c.ourLoss() == "ConnectionDone");
  }
}

TEST_CASE("TCP: nc closes its half and waits for the answer") {
  struct Answerer : HalfCloser {
    void readConnectionLost() override {
      transport().write("got " + received);
      transport().loseConnection();
    }
  };
  Reactor reactor;
  auto ours = std::make_shared<Answerer>();
  auto port = reactor.listenTCP(0, factoryOf(ours), 50, "127.0.0.1");
  Process nc({"nc", "-N", "127.0.0.1", std::to_string(portOf(port->getHost()))}, "the question\n");
  runUntil(reactor, [&] { return !ours->lost.empty(); });
  CHECK(ours->lost == "ConnectionDone");
  CHECK(nc.wait() == 0);
  CHECK(nc.output() == "got the question\n");
}

TEST_CASE("TCP: nobody listens") {
  Reactor reactor;
  Peer peer(reactor);
  SUBCASE("there") {
    const std::uint16_t port = peer.listen("listenTCP 127.0.0.1 Recorder");
    peer.tell("stopListening");
    CHECK(peer.hear() == "stopped");
    auto factory = std::make_shared<RecorderClientFactory>(std::make_shared<Recorder>());
    reactor.connectTCP("127.0.0.1", port, factory);
    runUntil(reactor, [&] { return !factory->failed.empty(); });
    CHECK(factory->failed == "ConnectionRefusedError");
  }
  SUBCASE("here") {
    auto port = reactor.listenTCP(0, forProtocol<Recorder>(), 50, "127.0.0.1");
    const std::uint16_t number = portOf(port->getHost());
    bool stopped = false;
    port->stopListening().addCallback([&] { stopped = true; });
    runUntil(reactor, [&] { return stopped; });
    peer.tell("connectTCP 127.0.0.1 " + std::to_string(number) + " Recorder");
    CHECK(peer.hear() == "failed ConnectionRefusedError");
  }
}

TEST_CASE("TCP: a protocol's own time limit") {
  SUBCASE("theirs") {
    Connection c(TheyListen::value, "Recorder", std::make_shared<Recorder>());
    c.peer.tell("timeout 0.01");
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("ours") {
    struct Waiter : Recorder, TimeoutMixin {
      explicit Waiter(Time& time) : TimeoutMixin(time) {}
      void connectionMade() override { setTimeout(10ms); }
    };
    Reactor reactor;
    Peer peer(reactor);
    auto waiter = std::make_shared<Waiter>(reactor);
    const std::uint16_t port = peer.listen("listenTCP 127.0.0.1 Recorder");
    reactor.connectTCP("127.0.0.1", port, std::make_shared<RecorderClientFactory>(waiter));
    runUntil(reactor, [&] { return !waiter->lost.empty(); });
    CHECK(waiter->lost == "TimeoutError");
    CHECK(peer.hear() == "made");
    CHECK(peer.hear() == "lost ConnectionDone " + nothing);
  }
}

TEST_CASE_TEMPLATE("TCP: some megabytes from a producer, to a reader that stalls and then reads on", Side, WeListen,
                   TheyListen) {
  constexpr std::size_t size = 12'000'000;  // more than the system's buffers
  SUBCASE("our push producer") {
    auto ours = std::make_shared<Sender>(size, true);
    Connection c(Side::value, "Stalled", ours);
    runUntil(c.reactor, [&] { return ours->paused; });
    // It is stalled when nothing more goes for some turns.
    for (std::size_t before = 0; before != ours->sent || !ours->paused;) {
      before = ours->sent;
      for (int i = 0; i < 20; ++i) c.reactor.iterate();
    }
    CHECK(ours->sent < size);
    c.peer.tell("resume");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum(ours->data));
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(ours->pauses > 1);
  }
  SUBCASE("our pull producer") {
    auto ours = std::make_shared<Sender>(size, false);
    Connection c(Side::value, "Stalled", ours);
    c.peer.tell("resume");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum(ours->data));
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(ours->calls == size / 10'000);
  }
  SUBCASE("their producer") {
    std::string kind = "push";
    SUBCASE("push") {}
    SUBCASE("pull") {
      kind = "pull";
    }
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.ours->transport().pauseProducing();
    c.peer.tell("produce " + std::to_string(size) + " " + kind);
    if (kind == "push") CHECK(c.peer.hear() == "producer paused");
    spin(c.reactor);
    CHECK(c.ours->received.empty());
    c.ours->transport().resumeProducing();
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(sum(c.ours->received) == sum(bytes(size)));
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
  }
  SUBCASE("their producer is stopped when we abort") {
    Connection c(Side::value, "Recorder", std::make_shared<Recorder>());
    c.ours->transport().pauseProducing();
    c.peer.tell("produce " + std::to_string(size) + " push");
    CHECK(c.peer.hear() == "producer paused");
    // Until nothing more goes: while they can send, it is 128 KiB a turn. A reset in the middle of that Twisted takes
    // for a clean close now and then, also from Python: Linux may tell of the error before the end of what can be read.
    for (std::size_t turn = 0; turn <= size / 131'072; ++turn) {
      c.peer.tell("turn");
      CHECK(c.peer.hear() == "turned");
    }
    c.ours->transport().abortConnection();
    CHECK(c.peer.hear() == "producer stopped");
    CHECK(c.peer.hear() == "lost ConnectionLost " + nothing);
  }
}
