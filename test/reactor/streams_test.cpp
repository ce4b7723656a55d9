#include <reactor/streams.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/tls_endpoints.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;

namespace {

// A stream to a protocol that the test drives.
struct Connected {
  explicit Connected(std::size_t limit = kStreamLimit) {
    reactor.listenTCP(80, makeFactory([this] { return peer; }));
    TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor);
    auto d = openConnection(endpoint, limit);
    reactor.flush();
    pair.emplace(successResultOf(d));
    pump = reactor.connections().at(0);
  }
  StreamReader& reader() { return pair->reader; }
  StreamWriter& writer() { return pair->writer; }
  void send(std::string_view data) {
    peer->transport().write(data);
    reactor.flush();
  }
  void endOfFile() {
    peer->transport().loseConnection();
    reactor.flush();
  }
  void breakOff() {
    peer->transport().abortConnection();
    reactor.flush();
  }

  LogCapture log;
  MemoryReactor reactor;
  std::shared_ptr<AccumulatingProtocol> peer = std::make_shared<AccumulatingProtocol>();
  std::optional<StreamPair> pair;
  std::shared_ptr<IOPump> pump;
};

Deferred<void> echo(StreamReader reader, StreamWriter writer) {
  for (;;) {
    std::string line = co_await reader.readLine();
    if (line.empty()) break;
    writer.write(line);
    co_await writer.drain();
  }
}

Deferred<std::string> greeting(StreamClientEndpoint& endpoint) {
  auto [reader, writer] = co_await openConnection(endpoint);
  writer.write("HELO\r\n");
  co_await writer.drain();
  co_return co_await reader.readLine();
}

Deferred<std::string> conversation(StreamClientEndpoint& endpoint) {
  auto [reader, writer] = co_await openConnection(endpoint);
  writer.write("one\ntwo\n");
  co_await writer.drain();
  std::string got = co_await reader.readLine();
  got += co_await reader.readExactly(2);
  got += co_await reader.readUntil("o");
  writer.write("END");
  writer.transport().loseWriteConnection();
  got += co_await reader.read();
  CHECK(reader.atEof());
  writer.close();
  co_await writer.waitClosed();
  co_return got;
}

// Over TLS, where there is no half-close.
Deferred<std::string> shortConversation(StreamClientEndpoint& endpoint) {
  auto [reader, writer] = co_await openConnection(endpoint);
  const std::string big(300000, 'x');
  writer.write(big + "\n");
  std::string got = co_await reader.readExactly(big.size());
  CHECK(got == big);
  got = co_await reader.readLine();
  writer.close();
  got += co_await reader.read();
  co_await writer.waitClosed();
  co_return got;
}

}  // namespace

TEST_CASE("a read gives what is there at once, and waits where there is nothing") {
  Connected c;
  c.send("hello world");
  CHECK(successResultOf(c.reader().read(5)) == "hello");
  CHECK(successResultOf(c.reader().read(0)).empty());
  CHECK(successResultOf(c.reader().read(100)) == " world");
  auto d = c.reader().read(3);
  assertNoResult(d);
  CHECK_FALSE(c.reader().atEof());
  c.send("more");
  CHECK(successResultOf(d) == "mor");
  CHECK(successResultOf(c.reader().readExactly(1)) == "e");
}

TEST_CASE("readExactly, readUntil and readLine over bytes that come one by one") {
  Connected c;
  c.pump->setPieceSize(1);
  auto exactly = c.reader().readExactly(4);
  c.send("abc");
  assertNoResult(exactly);
  c.send("defg\r\r\nhij\nk");
  CHECK(successResultOf(exactly) == "abcd");
  CHECK(successResultOf(c.reader().readUntil("\r\n")) == "efg\r\r\n");
  CHECK(successResultOf(c.reader().readLine()) == "hij\n");
  auto until = c.reader().readUntil("--end--");
  c.send("--en--end-");
  assertNoResult(until);
  c.send("-x");
  CHECK(successResultOf(until) == "k--en--end--");
  CHECK(successResultOf(c.reader().read(1)) == "x");
  CHECK(successResultOf(c.reader().readExactly(0)).empty());
  failureResultOf<std::invalid_argument>(c.reader().readUntil(""));
}

TEST_CASE("the end of the stream") {
  Connected c;
  c.send("rest");
  SUBCASE("read and readLine give what is left, then nothing") {
    c.endOfFile();
    CHECK_FALSE(c.reader().atEof());
    CHECK(successResultOf(c.reader().read(2)) == "re");
    CHECK(successResultOf(c.reader().readLine()) == "st");
    CHECK(c.reader().atEof());
    CHECK(successResultOf(c.reader().readLine()).empty());
    CHECK(successResultOf(c.reader().read(9)).empty());
    CHECK(successResultOf(c.reader().read()).empty());
  }
  SUBCASE("readExactly fails with the part") {
    auto d = c.reader().readExactly(9);
    c.endOfFile();
    const Failure failure = failureResultOf<IncompleteReadError>(d);
    CHECK(failure.get<IncompleteReadError>()->partial == "rest");
    CHECK(failure.get<IncompleteReadError>()->expected == 9);
    CHECK(c.reader().atEof());
  }
  SUBCASE("readUntil, too") {
    auto d = c.reader().readUntil("\n");
    c.endOfFile();
    const Failure failure = failureResultOf<IncompleteReadError>(d);
    CHECK(failure.get<IncompleteReadError>()->partial == "rest");
    CHECK_FALSE(failure.get<IncompleteReadError>()->expected);
  }
  SUBCASE("read() waits for it") {
    auto d = c.reader().read();
    c.send(" and more");
    assertNoResult(d);
    c.endOfFile();
    CHECK(successResultOf(d) == "rest and more");
  }
  SUBCASE("a peer that only stops writing still hears us") {
    c.peer->transport().loseWriteConnection();
    c.reactor.flush();
    CHECK(successResultOf(c.reader().read()) == "rest");
    CHECK(c.reader().atEof());
    c.writer().write("heard");
    c.reactor.flush();
    CHECK(c.peer->data == "heard");
  }
  SUBCASE("close() ends the stream on this side, too") {
    c.reader().read(4);
    auto d = c.reader().read(1);
    auto closed = c.writer().waitClosed();
    c.writer().close();
    c.reactor.flush();
    CHECK(successResultOf(d).empty());
    successResultOf(closed);
    successResultOf(c.writer().waitClosed());
  }
}

TEST_CASE("a lost connection: the data first, then the reason") {
  Connected c;
  c.send("data");
  SUBCASE("later reads") {
    auto closed = c.writer().waitClosed();
    c.breakOff();
    failureResultOf<ConnectionLost>(closed);
    failureResultOf<ConnectionLost>(c.writer().waitClosed());
    failureResultOf<ConnectionLost>(c.writer().drain());
    failureResultOf<ConnectionLost>(c.reader().readExactly(5));
    failureResultOf<ConnectionLost>(c.reader().readLine());
    failureResultOf<ConnectionLost>(c.reader().read());
    CHECK(successResultOf(c.reader().read(9)) == "data");
    failureResultOf<ConnectionLost>(c.reader().read(9));
    c.writer().write("ignored");
  }
  SUBCASE("a read that waits") {
    auto d = c.reader().readExactly(5);
    c.breakOff();
    failureResultOf<ConnectionLost>(d);
    CHECK(successResultOf(c.reader().readExactly(4)) == "data");
  }
}

TEST_CASE("one read at a time") {
  Connected c;
  auto d = c.reader().readLine();
  failureResultOf<std::logic_error>(c.reader().read(1));
  c.send("x\n");
  CHECK(successResultOf(d) == "x\n");
}

TEST_CASE("cancelling a read takes no byte") {
  Connected c;
  auto d = c.reader().readExactly(5);
  c.send("abc");
  d.cancel();
  failureResultOf<CancelledError>(d);
  auto next = c.reader().readExactly(4);
  c.send("d");
  CHECK(successResultOf(next) == "abcd");
}

TEST_CASE("the limit: the transport is paused above twice as much, and resumed by reading") {
  Connected c(4);
  c.send("12345678");
  CHECK_FALSE(c.pump->clientIO().paused());
  c.send("9");
  CHECK(c.pump->clientIO().paused());
  c.send("more");
  CHECK(successResultOf(c.reader().read(4)) == "1234");
  CHECK(c.pump->clientIO().paused());
  CHECK(successResultOf(c.reader().read(1)) == "5");
  CHECK_FALSE(c.pump->clientIO().paused());
  c.reactor.flush();
  CHECK(c.pump->clientIO().paused() == false);  // 6789more are eight
  c.send("!");
  CHECK(c.pump->clientIO().paused());
  // A read that needs more than the limit gets it.
  auto d = c.reader().readExactly(12);
  CHECK_FALSE(c.pump->clientIO().paused());
  c.send("abc");
  CHECK(successResultOf(d) == "6789more!abc");
}

TEST_CASE("the limit: a separator that does not come within it") {
  Connected c(4);
  SUBCASE("readUntil leaves all in the stream") {
    c.send("123456\n");
    auto failure = failureResultOf<LimitOverrunError>(c.reader().readUntil("\n"));
    CHECK(failure.get<LimitOverrunError>()->consumed == 6);
    CHECK(successResultOf(c.reader().readExactly(7)) == "123456\n");
    c.send("123456");
    failure = failureResultOf<LimitOverrunError>(c.reader().readUntil("ab"));
    CHECK(failure.get<LimitOverrunError>()->consumed == 5);
    CHECK(successResultOf(c.reader().read(9)) == "123456");
  }
  SUBCASE("exactly the limit is within it") {
    c.send("1234\n");
    CHECK(successResultOf(c.reader().readLine()) == "1234\n");
  }
  SUBCASE("readLine drops the line") {
    c.send("123456\nab\n");
    failureResultOf<LimitOverrunError>(c.reader().readLine());
    CHECK(successResultOf(c.reader().readLine()) == "ab\n");
    auto d = c.reader().readLine();
    c.send("123456");
    failureResultOf<LimitOverrunError>(d);
    c.send("7\n");
    CHECK(successResultOf(c.reader().readLine()) == "7\n");
  }
}

TEST_CASE("the connection closes when both handles are gone") {
  Connected c;
  std::optional<StreamReader> reader(std::move(c.pair->reader));
  {
    StreamWriter writer = std::move(c.pair->writer);
  }
  c.pair.reset();
  c.reactor.flush();
  CHECK_FALSE(c.peer->closed());
  auto d = reader->read(1);
  reader.reset();
  c.reactor.flush();
  CHECK(c.peer->closed());
  failureResultOf<ConnectionDone>(d);
}

TEST_CASE("a coroutine that waits for a connection that is dropped goes with it") {
  struct Gone {
    bool& gone;
    ~Gone() { gone = true; }
  };
  bool gone = false;
  {
    Connected c;
    const auto waiting = [](StreamPair pair, bool& gone) -> Deferred<void> {
      const Gone local{gone};
      try {
        co_await pair.reader.readLine();
      } catch (const BrokenDeferred&) {
      }
    };
    waiting(std::move(*c.pair), gone);
    c.pair.reset();
    CHECK_FALSE(gone);
  }
  CHECK(gone);
}

TEST_CASE("drain waits while the queue is long") {
  Connected c;
  c.peer->transport().pauseProducing();
  successResultOf(c.writer().drain());
  c.writer().write(std::string(100000, 'x'));
  auto d = c.writer().drain();
  c.reactor.flush();
  assertNoResult(d);
  c.peer->transport().resumeProducing();
  c.reactor.flush();
  successResultOf(d);
  CHECK(c.peer->data.size() == 100000);
}

TEST_CASE("openConnection fails and is cancelled as the endpoint") {
  MemoryReactor reactor;
  TCP4ClientEndpoint endpoint("10.0.0.5", 80, reactor);
  auto refused = openConnection(endpoint);
  reactor.flush();
  failureResultOf<ConnectionRefusedError>(refused);
  auto cancelled = openConnection(endpoint);
  cancelled.cancel();
  failureResultOf<ConnectingCancelledError>(cancelled);
  CHECK(reactor.tcpClients().empty());
}

TEST_CASE("startServer: a coroutine for each connection, over memory, byte by byte") {
  MemoryReactor reactor;
  reactor.setPieceSize(1);
  TCP4ServerEndpoint server(7, "", reactor);
  auto port = successResultOf(startServer(server, echo));
  TCP4ClientEndpoint client("10.0.0.5", 7, reactor);
  auto first = conversation(client), second = conversation(client);
  reactor.flush();
  CHECK(successResultOf(first) == "one\ntwo\nEND");
  CHECK(successResultOf(second) == "one\ntwo\nEND");
  auto third = greeting(client);
  reactor.flush();
  CHECK(successResultOf(third) == "HELO\r\n");
  CHECK(reactor.connections().empty());
  port->stopListening();
}

TEST_CASE("startServer: over TCP, and over TLS") {
  LogCapture log;
  Reactor reactor;
  std::optional<std::string> got;
  const auto done = [&](Deferred<std::string> d) {
    std::move(d).addCallback([&](const std::string& text) { got = text; });
    test::runUntil(reactor, [&] { return got.has_value(); });
  };
  SUBCASE("TCP") {
    TCP4ServerEndpoint server(0, "127.0.0.1", reactor);
    auto port = successResultOf(startServer(server, echo));
    TCP4ClientEndpoint client("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, reactor);
    done(conversation(client));
    CHECK(*got == "one\ntwo\nEND");
  }
  SUBCASE("TLS") {
    const auto& pki = test::testPKI();
    CertificateOptions options;
    options.privateKey = pki.localhost.privateKey;
    options.certificate = pki.localhost.certificate;
    SSL4ServerEndpoint server(0, optionsForServerTLS(options), "127.0.0.1", reactor);
    const auto bigEcho = [](StreamReader reader, StreamWriter writer) -> Deferred<void> {
      writer.write(co_await reader.readUntil("\n"));
      co_await reader.read();
    };
    auto port = successResultOf(startServer(server, bigEcho, 1000000));
    ClientTLS trust;
    trust.trustRoots = pki.authority.certificate;
    SSL4ClientEndpoint client("127.0.0.1", std::get<IPv4Address>(port->getHost()).port,
                              optionsForClientTLS("localhost", trust), reactor);
    done(shortConversation(client));
    CHECK(*got == "\n");
  }
  CHECK(log.flushLoggedErrors().empty());
}

TEST_CASE("a certificate that is refused comes out of the read") {
  LogCapture log;
  MemoryReactor reactor;
  const auto& pki = test::testPKI();
  CertificateOptions options;
  options.privateKey = pki.wrongName.privateKey;
  options.certificate = pki.wrongName.certificate;
  SSL4ServerEndpoint server(443, optionsForServerTLS(options), "", reactor);
  successResultOf(server.listen(forProtocol<AccumulatingProtocol>()));
  ClientTLS trust;
  trust.trustRoots = pki.authority.certificate;
  SSL4ClientEndpoint client("10.0.0.5", 443, optionsForClientTLS("localhost", trust), reactor);
  auto d = conversation(client);
  reactor.flush();
  failureResultOf<VerifyError>(d);
}

TEST_CASE("startServer: what a handler throws is logged and ends its connection alone") {
  LogCapture log;
  MemoryReactor reactor;
  TCP4ServerEndpoint server(7, "", reactor);
  bool early = false;
  const auto handler = [&early](StreamReader reader, StreamWriter writer) -> Deferred<void> {
    if (early) throw std::range_error("early");
    if (co_await reader.readLine() == "bad\n") throw std::range_error("bad");
    writer.write("good");
  };
  auto port = successResultOf(startServer(server, handler));
  TCP4ClientEndpoint endpoint("10.0.0.5", 7, reactor);
  const auto talk = [&](const char* line) {
    auto d = openConnection(endpoint);
    reactor.flush();
    StreamPair pair = successResultOf(d);
    pair.writer.write(line);
    reactor.flush();
    return pair;
  };
  StreamPair quiet = talk("");
  StreamPair bad = talk("bad\n");
  failureResultOf<ConnectionLost>(bad.reader.read());
  CHECK(log.flushLoggedErrors<std::range_error>().size() == 1);
  // The handler outlives the port, and its captures with it.
  port->stopListening();
  quiet.writer.write("x\n");
  reactor.flush();
  CHECK(successResultOf(quiet.reader.read()) == "good");
}

// ---- against asyncio

TEST_CASE("random reads give what asyncio's give") {
  constexpr const char* kAsyncio = R"(
import asyncio, sys
class T:
    def pause_reading(self): pass
    def resume_reading(self): pass
    def is_closing(self): return False
async def main():
    reader = task = None
    for line in sys.stdin:
        op, *a = line.split()
        if op == "new":
            if task and not task.done(): task.cancel()
            reader, task = asyncio.StreamReader(limit=8), None
            reader.set_transport(T())
        elif op == "feed": reader.feed_data(bytes.fromhex(a[0]))
        elif op == "eof": reader.feed_eof()
        elif op == "cancel":
            if task and kind != "all": task.cancel()
        elif task is None:
            kind = op
            task = asyncio.ensure_future({"some": lambda: reader.read(int(a[0])), "all": lambda: reader.read(),
                "exactly": lambda: reader.readexactly(int(a[0])), "line": lambda: reader.readline(),
                "until": lambda: reader.readuntil(bytes.fromhex(a[0]))}[op]())
        for _ in range(6): await asyncio.sleep(0)
        if task and task.done():
            try: print("got", task.result().hex())
            except asyncio.CancelledError: print("cancelled")
            except asyncio.IncompleteReadError as e: print("incomplete", e.partial.hex(), e.expected)
            except asyncio.LimitOverrunError as e: print("overrun", e.consumed)
            except ValueError: print("line overrun")
            task = None
        else: print("-" if task else ".")
    print("END")
asyncio.run(main())
)";
  const auto hex = [](std::string_view text) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string result;
    for (const unsigned char c : text) result += {kDigits[c >> 4], kDigits[c & 15]};
    return result;
  };
  std::mt19937 random(3);
  const auto any = [&](std::initializer_list<const char*> words) {
    return std::string(words.begin()[random() % words.size()]);
  };
  std::vector<std::pair<std::string, std::string>> steps;
  for (int program = 0; program < 150; ++program) {
    steps.emplace_back("new", "");
    for (int i = 0; i < 14; ++i) {
      switch (random() % 8) {
        case 0:
        case 1:
        case 2:
          steps.emplace_back("feed", any({"a", "b\n", "ab", "abab", "\n", "abc\n", "aaaaaaaaa", "ba", "aab"}));
          break;
        case 3:
          steps.emplace_back(any({"some", "exactly"}), any({"1", "2", "5", "12", "0"}));
          break;
        case 4:
          steps.emplace_back("line", "");
          break;
        case 5:
          steps.emplace_back("until", any({"b", "ab", "aab", "\n"}));
          break;
        case 6:
          steps.emplace_back(any({"some", "all"}), "3");
          break;
        default:
          if (random() % 3 == 0) steps.emplace_back(any({"eof", "cancel"}), "");
      }
    }
  }
  // Nothing comes after the end.
  bool ended = false;
  std::erase_if(steps, [&](const auto& step) {
    if (step.first == "new") ended = false;
    if (step.first == "eof") return std::exchange(ended, true);
    return ended && step.first == "feed";
  });
  std::string input;
  for (const auto& [op, argument] : steps) {
    input += op + " " + (op == "feed" || op == "until" ? hex(argument) : argument) + "\n";
  }
  test::Process asyncio({"/usr/bin/python3", "-c", kAsyncio}, input);
  std::istringstream answers(asyncio.waitFor("END\n"));

  std::optional<Connected> c;
  std::optional<Deferred<std::string>> waiting;
  std::string kind;
  std::string trail;
  for (const auto& [op, argument] : steps) {
    trail += op + " " + hex(argument) + "; ";
    std::optional<std::string> result;
    if (op == "new") {
      waiting.reset();
      c.emplace(8);
      trail.clear();
    } else if (op == "feed") {
      // As asyncio's feed_data, which knows no pause.
      static_cast<Protocol&>(*c->pump->clientIO().protocol()).dataReceived(argument);
    } else if (op == "eof") {
      c->peer->transport().loseWriteConnection();
      c->pump->clientIO().resumeProducing();
      c->reactor.flush();
    } else if (op == "cancel") {
      if (waiting && kind != "all") waiting->cancel();  // asyncio's forgets what it has read so far
    } else if (!waiting) {
      kind = op;
      waiting.emplace(op == "some"      ? c->reader().read(std::stoul(argument))
                      : op == "all"     ? c->reader().read()
                      : op == "exactly" ? c->reader().readExactly(std::stoul(argument))
                      : op == "until"   ? c->reader().readUntil(argument)
                                        : c->reader().readLine());
    }
    if (waiting && waiting->called()) {
      std::move(*waiting).addBoth([&](Result<std::string> r) {
        if (r) {
          result = "got " + hex(r.value());
        } else if (const auto* incomplete = r.failure().get<IncompleteReadError>()) {
          result = "incomplete " + hex(incomplete->partial) + " " +
                   (incomplete->expected ? std::to_string(*incomplete->expected) : "None");
        } else if (const auto* overrun = r.failure().get<LimitOverrunError>()) {
          result = kind == "line" ? "line overrun" : "overrun " + std::to_string(overrun->consumed);
        } else if (r.failure().check<CancelledError>()) {
          result = "cancelled";
        }
      });
      waiting.reset();
    }
    std::string theirs;
    REQUIRE(std::getline(answers, theirs));
    INFO(trail);
    CHECK((result ? *result : waiting ? "-" : ".") == theirs);
  }
}
