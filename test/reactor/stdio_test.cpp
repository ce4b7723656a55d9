// Against real pipes, terminals, files and sockets; the program itself is tested by the examples.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stdio.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using torsion::detail::UniqueFd;
using torsion::test::runUntil;
using torsion::test::spin;

namespace {

using Log = std::vector<std::string>;

struct Recorder : Protocol {
  void connectionMade() override {
    log.push_back("made");
    if (made) made();
  }
  void dataReceived(std::string_view data) override {
    received += data;
    if (got) got(data);
  }
  void connectionLost(const Failure& reason) override {
    log.push_back("lost: " + reason.getErrorMessage());
    over = true;
    if (lost) lost();
  }
  std::function<void()> made, lost;
  std::function<void(std::string_view)> got;
  std::string received;
  Log log;
  bool over = false;
};
struct HalfCloseable : Recorder, HalfCloseableProtocol {
  void readConnectionLost() override {
    log.push_back("read lost");
    if (readLost) readLost();
  }
  void writeConnectionLost() override { log.push_back("write lost"); }
  std::function<void()> readLost;
};

const std::string kDone = "lost: " + std::string(ConnectionDone().what());

struct Ends {
  UniqueFd read, write;
};
Ends makePipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}
std::pair<UniqueFd, UniqueFd> makeSocketPair() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}
bool blocks(const UniqueFd& fd) {
  return !(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
}
void put(const UniqueFd& fd, std::string_view data) {
  REQUIRE(::write(fd.get(), data.data(), data.size()) == static_cast<ssize_t>(data.size()));
}
// What is there now.
std::string take(const UniqueFd& fd) {
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  std::string all;
  char buffer[65536];
  for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<std::size_t>(n));
  return all;
}
std::string contentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <class P>
struct PipeFixture {
  Reactor reactor;
  Ends in = makePipe(), out = makePipe();
  std::shared_ptr<P> protocol = std::make_shared<P>();
  void start() { standardIO(protocol, in.read.get(), out.write.get(), reactor); }
  void end() {
    runUntil(reactor, [&] { return protocol->over; });
  }
};
using Fixture = PipeFixture<Recorder>;
using HalfFixture = PipeFixture<HalfCloseable>;

TEST_CASE_FIXTURE(Fixture, "standardIO: what comes in is received, what is written goes out") {
  protocol->made = [&] {
    const std::string_view pieces[] = {"o", "k", "!"};
    protocol->transport().writeSequence(pieces);
    CHECK(describe(protocol->transport().getHost()) == "-");
    CHECK(describe(protocol->transport().getPeer()) == "-");
  };
  start();
  CHECK(protocol->log == Log{"made"});
  put(in.write, "hello");
  runUntil(reactor, [&] { return protocol->received == "hello"; });
  spin(reactor);
  CHECK(take(out.read) == "ok!");
}

TEST_CASE_FIXTURE(Fixture, "loseConnection: what is queued is written, the descriptors stay open") {
  protocol->got = [&](std::string_view) {
    protocol->transport().write("bye");
    protocol->transport().loseConnection();
    CHECK(protocol->transport().disconnecting());
    protocol->transport().write("not written");
    protocol->transport().resumeProducing();
    CHECK(protocol->log == Log{"made"});
  };
  start();
  put(in.write, "quit");
  end();
  put(in.write, "unread");
  put(out.write, " and a last word");
  CHECK(take(out.read) == "bye and a last word");
  spin(reactor);
  CHECK(protocol->received == "quit");
  CHECK(protocol->log == Log{"made", kDone});
  CHECK(take(in.read) == "unread");
}

TEST_CASE_FIXTURE(Fixture,
                  "the end of the input, without half-close: what is queued is still written, however slowly") {
  start();
  protocol->transport().write(std::string(1 << 20, 'x'));
  put(in.write, "last");
  in.write.reset();
  std::size_t written = 0;
  runUntil(reactor, [&] {
    written += take(out.read).size();
    return protocol->over;
  });
  CHECK(written + take(out.read).size() == 1 << 20);
  CHECK(protocol->received == "last");
  CHECK(protocol->log == Log{"made", kDone});
}

TEST_CASE_FIXTURE(HalfFixture, "half-close: the end of the input is readConnectionLost, and writing goes on") {
  start();
  in.write.reset();
  runUntil(reactor, [&] { return protocol->log.size() == 2; });
  CHECK(protocol->log.back() == "read lost");
  protocol->transport().write("still here");
  protocol->transport().loseConnection();
  end();
  CHECK(take(out.read) == "still here");
  CHECK(protocol->log == Log{"made", "read lost", kDone});
}

TEST_CASE_FIXTURE(HalfFixture, "loseWriteConnection: writeConnectionLost after what is queued, and reading goes on") {
  start();
  protocol->transport().write("all");
  protocol->transport().loseWriteConnection();
  runUntil(reactor, [&] { return protocol->log.size() == 2; });
  CHECK(protocol->log.back() == "write lost");
  CHECK(take(out.read) == "all");
  failureResultOf<ConnectionDone>(protocol->transport().drained());
  put(in.write, "more");
  runUntil(reactor, [&] { return protocol->received == "more"; });
  SUBCASE("the end of the input is then the end") {
    in.write.reset();
    end();
    CHECK(protocol->log == Log{"made", "write lost", "read lost", kDone});
  }
  SUBCASE("so is loseConnection") {
    protocol->transport().loseConnection();
    CHECK(!protocol->over);
    end();
    CHECK(protocol->log == Log{"made", "write lost", kDone});
  }
}

TEST_CASE_FIXTURE(HalfFixture, "what readConnectionLost throws is logged and ends the connection") {
  LogCapture logs;
  protocol->readLost = [] { throw std::runtime_error("oops"); };
  start();
  in.write.reset();
  end();
  CHECK(protocol->log == Log{"made", "read lost", "lost: oops"});
  CHECK(logs.flushLoggedErrors().size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "what the protocol throws is logged and ends the connection") {
  LogCapture logs;
  SUBCASE("in connectionMade") {
    protocol->made = [] { throw std::runtime_error("oops"); };
    start();
    CHECK(!protocol->over);
  }
  SUBCASE("in dataReceived") {
    protocol->got = [](std::string_view) { throw std::runtime_error("oops"); };
    start();
    put(in.write, "x");
  }
  end();
  CHECK(protocol->log == Log{"made", "lost: oops"});
  CHECK(logs.flushLoggedErrors().size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "nobody reads the output any more: ConnectionLost, without a write, a signal or an end") {
  start();
  spin(reactor);
  out.read.reset();
  end();
  CHECK(protocol->log.back().find("non-clean") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "abortConnection drops what is queued") {
  start();
  protocol->transport().write(std::string(1 << 20, 'x'));
  protocol->transport().abortConnection();
  CHECK(!protocol->over);
  end();
  CHECK(protocol->log.back() == "lost: " + std::string(ConnectionAborted().what()));
  CHECK(take(out.read).empty());
}

TEST_CASE_FIXTURE(Fixture, "setWriteLimit, and loseConnection with a reason") {
  start();
  SUBCASE("more than the limit ends the connection") {
    protocol->transport().setWriteLimit(10);
    protocol->transport().write("0123456789");
    CHECK(!protocol->transport().disconnecting());
    protocol->transport().write("x");
    end();
    CHECK(protocol->log.back().find("setWriteLimit") != std::string::npos);
  }
  SUBCASE("a reason of one's own") {
    protocol->transport().loseConnection(std::runtime_error("had enough"));
    end();
    CHECK(protocol->log.back() == "lost: had enough");
  }
}

struct Counter final : Producer {
  void pauseProducing() override { log.push_back("pause"); }
  void resumeProducing() override {
    log.push_back("resume");
    if (resumed) resumed();
  }
  void stopProducing() override { log.push_back("stop"); }
  std::function<void()> resumed;
  Log log;
};

TEST_CASE_FIXTURE(Fixture, "a push producer is paused above 64 KiB and resumed when all is written; drained() waits") {
  Counter producer;
  start();
  auto& transport = protocol->transport();
  transport.registerProducer(producer, true);
  CHECK_THROWS_AS(transport.registerProducer(producer, true), std::logic_error);
  transport.write(std::string(65536, 'x'));
  CHECK(producer.log.empty());
  transport.write(std::string(200000, 'x'));
  CHECK(producer.log == Log{"pause"});
  auto drained = transport.drained();
  assertNoResult(drained);
  spin(reactor);
  assertNoResult(drained);
  std::size_t written = 0;
  runUntil(reactor, [&] {
    written += take(out.read).size();
    return producer.log.size() == 2;
  });
  successResultOf(std::move(drained));
  successResultOf(transport.drained());
  CHECK(written + take(out.read).size() == 265536);
  SUBCASE("loseConnection waits for it") {
    transport.loseConnection();
    spin(reactor);
    CHECK(!protocol->over);
    transport.write("late");
    transport.unregisterProducer();
    end();
    CHECK(take(out.read) == "late");
    CHECK(producer.log == Log{"pause", "resume"});
  }
  SUBCASE("the end of the input stops it") {
    in.write.reset();
    end();
    CHECK(producer.log == Log{"pause", "resume", "stop"});
  }
  SUBCASE("so does the loss of the output, and those who wait for drained() fail") {
    transport.write(std::string(200000, 'x'));
    auto never = transport.drained();
    out.read.reset();
    end();
    CHECK(producer.log == Log{"pause", "resume", "pause", "stop"});
    failureResultOf<ConnectionLost>(std::move(never));
  }
}

TEST_CASE_FIXTURE(Fixture, "a pull producer is asked again when the queue is empty") {
  Counter producer;
  start();
  producer.resumed = [&, left = 3]() mutable {
    protocol->transport().write("line\n");
    if (--left == 0) protocol->transport().unregisterProducer();
  };
  protocol->transport().registerProducer(producer, false);
  spin(reactor);
  CHECK(take(out.read) == "line\nline\nline\n");
  protocol->transport().loseConnection();
  end();
  protocol->transport().registerProducer(producer, false);
  CHECK(producer.log == Log{"resume", "resume", "resume", "stop"});
}

TEST_CASE_FIXTURE(Fixture, "pauseProducing stops dataReceived until resumeProducing") {
  protocol->got = [&](std::string_view) { protocol->transport().pauseProducing(); };
  start();
  put(in.write, "one");
  runUntil(reactor, [&] { return protocol->received == "one"; });
  put(in.write, "two");
  spin(reactor);
  CHECK(protocol->received == "one");
  protocol->transport().resumeProducing();
  runUntil(reactor, [&] { return protocol->received == "onetwo"; });
}

TEST_CASE("regular files and /dev/null, which epoll refuses") {
  Reactor reactor;
  test::TemporaryDirectory directory;
  const std::string text(300000, 'f');
  const std::string target = directory.path() + "/out";
  const UniqueFd in(::open(directory.write("in", text).c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd out(::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto protocol = std::make_shared<Recorder>();
  SUBCASE("a file copied to another") {
    protocol->got = [&](std::string_view data) { protocol->transport().write(data); };
    standardIO(protocol, in.get(), out.get(), reactor);
    runUntil(reactor, [&] { return protocol->over; });
    CHECK(contentOf(target) == text);
    CHECK(blocks(in));
    CHECK(blocks(out));
  }
  SUBCASE("the output stays connected though it is a file, and is written where the program is") {
    put(out, "before ");
    Ends pipe = makePipe();
    standardIO(protocol, pipe.read.get(), out.get(), reactor);
    spin(reactor);
    for (const char* piece : {"0", "1", "2"}) {
      protocol->transport().write(piece);
      spin(reactor);
    }
    CHECK(!protocol->over);
    protocol->transport().loseConnection();
    runUntil(reactor, [&] { return protocol->over; });
    CHECK(contentOf(target) == "before 012");
  }
  SUBCASE("/dev/null for both") {
    protocol->made = [&] { protocol->transport().write("gone"); };
    standardIO(protocol, null.get(), null.get(), reactor);
    runUntil(reactor, [&] { return protocol->over; });
    CHECK(protocol->log == Log{"made", kDone});
  }
}

TEST_CASE("a terminal: typed lines come in; its flags are left alone, in a crash too; the program writes beside") {
  Reactor reactor;
  int masterFD, slaveFD;
  termios raw{};
  ::cfmakeraw(&raw);
  if (::openpty(&masterFD, &slaveFD, nullptr, &raw, nullptr) < 0) {
    MESSAGE("not tested: this machine has no terminal to give");
    return;
  }
  const UniqueFd master(masterFD), slave(slaveFD);
  const auto protocol = std::make_shared<Recorder>();
  // One descriptor for both, as they are in a shell.
  standardIO(protocol, slave.get(), slave.get(), reactor);
  CHECK(blocks(slave));
  protocol->transport().write("> ");
  put(master, "typed");
  runUntil(reactor, [&] { return protocol->received == "typed"; });
  SUBCASE("loseConnection") {
    protocol->transport().loseConnection();
    runUntil(reactor, [&] { return protocol->over; });
    put(slave, "last");
    CHECK(take(master) == "> last");
    CHECK(protocol->log == Log{"made", kDone});
  }
  SUBCASE("the terminal goes away") {
    const_cast<UniqueFd&>(master).reset();
    runUntil(reactor, [&] { return protocol->over; });
  }
  CHECK(blocks(slave));
}

TEST_CASE("the controlling side of a terminal is used as it is, and not opened anew") {
  Reactor reactor;
  int masterFD, slaveFD;
  termios raw{};
  ::cfmakeraw(&raw);
  if (::openpty(&masterFD, &slaveFD, nullptr, &raw, nullptr) < 0) {
    MESSAGE("not tested: this machine has no terminal to give");
    return;
  }
  const UniqueFd master(masterFD), slave(slaveFD);
  const auto protocol = std::make_shared<Recorder>();
  standardIO(protocol, master.get(), master.get(), reactor);
  put(slave, "out of it");
  runUntil(reactor, [&] { return protocol->received == "out of it"; });
}

TEST_CASE("a socket for both: O_NONBLOCK, which is shared, is as it was when it is over") {
  enum { kOne, kTwo, kNonBlocking };
  int kind = kOne;
  SUBCASE("one descriptor") {}
  SUBCASE("two of one socket") {
    kind = kTwo;
  }
  SUBCASE("that did not block before") {
    kind = kNonBlocking;
  }
  auto [near, far] = makeSocketPair();
  const UniqueFd second(::dup(near.get()));
  if (kind == kNonBlocking) ::fcntl(near.get(), F_SETFL, O_NONBLOCK);
  for (const std::string_view end : {"loseConnection", "stop", "half by half"}) {
    CAPTURE(end);
    Reactor reactor;
    const auto protocol = std::make_shared<HalfCloseable>();
    protocol->got = [&](std::string_view data) { protocol->transport().write(data); };
    standardIO(protocol, near.get(), kind == kTwo ? second.get() : near.get(), reactor);
    CHECK(!blocks(near));
    put(far, "echo");
    runUntil(reactor, [&] { return protocol->received == "echo"; });
    spin(reactor);
    CHECK(take(far) == "echo");
    if (end == "loseConnection") {
      protocol->transport().loseConnection();
      runUntil(reactor, [&] { return protocol->over; });
    } else if (end == "stop") {
      reactor.callLater(Duration::zero(), [&] { reactor.stop(); });
      reactor.run(false);
      CHECK(protocol->log.back() == "lost: " + std::string(ConnectionLost().what()));
    } else {
      ::shutdown(far.get(), SHUT_WR);
      runUntil(reactor, [&] { return protocol->log.back() == "read lost"; });
      CHECK(!blocks(near));
      protocol->transport().write("more");
      spin(reactor);
      CHECK(take(far) == "more");
      protocol->transport().loseWriteConnection();
      runUntil(reactor, [&] { return protocol->over; });
      CHECK(protocol->log == Log{"made", "read lost", "write lost", kDone});
    }
    CHECK(blocks(near) == (kind != kNonBlocking));
  }
}

TEST_CASE("what is no descriptor is refused, and nothing is left of it") {
  Reactor reactor;
  const Ends pipe = makePipe();
  const auto protocol = std::make_shared<Recorder>();
  CHECK_THROWS_AS(standardIO(protocol, 12345, pipe.write.get(), reactor), std::system_error);
  CHECK_THROWS_AS(standardIO(protocol, pipe.read.get(), 12345, reactor), std::system_error);
  CHECK(protocol->log.empty());
  CHECK(protocol.use_count() == 1);
}

TEST_CASE("a protocol that outlives its reactor: connectionLost has come, the transport is inert") {
  const Ends in = makePipe(), out = makePipe();
  const auto protocol = std::make_shared<Recorder>();
  auto reactor = std::make_unique<Reactor>();
  standardIO(protocol, in.read.get(), out.write.get(), *reactor);
  CHECK(protocol.use_count() == 2);
  reactor.reset();
  CHECK(protocol->over);
  CHECK(protocol.use_count() == 1);
  protocol->transport().write("nowhere");
  protocol->transport().loseConnection();
  CHECK_FALSE(protocol->connected());
}

TEST_CASE("StandardIOEndpoint: its one connection is made by listen()") {
  Reactor reactor;
  Ends in = makePipe(), out = makePipe();
  StandardIOEndpoint endpoint(reactor, in.read.get(), out.write.get());
  auto protocol = std::make_shared<Recorder>();
  SUBCASE("served") {
    const auto port = successResultOf(endpoint.listen(makeFactory([&] { return protocol; })));
    CHECK(protocol->log == Log{"made"});
    CHECK(std::holds_alternative<std::monostate>(port->getHost()));
    successResultOf(port->stopListening());
    protocol->got = [&](std::string_view data) { protocol->transport().write(data); };
    put(in.write, "hello");
    in.write.reset();
    runUntil(reactor, [&] { return protocol->over; });
    CHECK(take(out.read) == "hello");
  }
  SUBCASE("no protocol") {
    failureResultOf<NoProtocol>(endpoint.listen(makeFactory([]() -> std::shared_ptr<Protocol> { return nullptr; })));
  }
}

}  // namespace
