#include <reactor/descriptor.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using detail::UniqueFd;
using test::runUntil;
using test::spin;

namespace {

struct Socket : ReadDescriptor, WriteDescriptor {
  explicit Socket(int fd) : fd(fd) {}
  int fileno() const override { return fd; }
  void doRead() override {
    char buffer[100];
    const ssize_t n = ::read(fd, buffer, 4);
    if (n > 0) got += std::string(buffer, static_cast<std::size_t>(n));
    if (read) read();
  }
  void doWrite() override {
    ++writes;
    if (write) write();
  }
  void connectionLost(const Failure& reason) override {
    ++losses;
    lost = reason;
  }
  int fd;
  std::string got;
  int writes = 0, losses = 0;
  std::optional<Failure> lost;
  std::function<void()> read, write;
};

struct Fixture {
  Reactor reactor;
  UniqueFd ours, theirs;
  std::shared_ptr<Socket> socket;
  Fixture() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
    socket = std::make_shared<Socket>(ours.get());
  }
  void say(const std::string& text) {
    REQUIRE(::write(theirs.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "addReader: doRead is called for as long as there is something to read") {
  reactor.addReader(socket);
  reactor.addReader(socket);
  spin(reactor);
  CHECK(socket->got.empty());
  say("0123456789");
  runUntil(reactor, [&] { return socket->got == "0123456789"; });
  CHECK(socket->writes == 0);
  CHECK(reactor.getReaders().size() == 1);
  CHECK(reactor.getWriters().empty());
  reactor.removeReader(*socket);
  reactor.removeReader(*socket);
  say("more");
  spin(reactor);
  CHECK(socket->got == "0123456789");
  CHECK(socket.use_count() == 1);
  CHECK(socket->losses == 0);
}

TEST_CASE_FIXTURE(Fixture, "addWriter: doWrite is called each turn, beside doRead") {
  reactor.addWriter(socket);
  runUntil(reactor, [&] { return socket->writes > 3; });
  reactor.addReader(socket);
  say("x");
  runUntil(reactor, [&] { return socket->got == "x"; });
  reactor.removeWriter(*socket);
  const int writes = socket->writes;
  say("y");
  runUntil(reactor, [&] { return socket->got == "xy"; });
  CHECK(socket->writes == writes);
  reactor.removeReader(*socket);
}

TEST_CASE_FIXTURE(Fixture, "a reader and another writer of one descriptor; a second reader is refused") {
  const auto writer = std::make_shared<Socket>(ours.get());
  reactor.addReader(socket);
  reactor.addWriter(writer);
  say("x");
  runUntil(reactor, [&] { return socket->got == "x" && writer->writes > 0; });
  CHECK(socket->writes == 0);
  CHECK_THROWS_AS(reactor.addReader(writer), std::logic_error);
  CHECK_THROWS_AS(reactor.addWriter(socket), std::logic_error);
  CHECK(reactor.removeAll().size() == 2);
  CHECK(reactor.getReaders().empty());
}

TEST_CASE_FIXTURE(Fixture, "removed within its own call, and added again") {
  socket->read = [&] { reactor.removeReader(*socket); };
  reactor.addReader(socket);
  reactor.addWriter(socket);
  socket->write = [&] { reactor.removeWriter(*socket); };
  say("01234567");
  runUntil(reactor, [&] { return !socket->got.empty(); });
  spin(reactor);
  CHECK(socket->got == "0123");
  CHECK(socket->writes == 1);
  reactor.addReader(socket);
  runUntil(reactor, [&] { return socket->got == "01234567"; });
  CHECK(reactor.getReaders().empty());
}

TEST_CASE_FIXTURE(Fixture, "closed without being removed, and the number is used again: added again it is watched") {
  Fixture later;
  reactor.addReader(socket);
  spin(reactor);
  const int fd = ours.get();
  ours.reset();
  CHECK_THROWS_AS(reactor.addWriter(socket), std::system_error);
  CHECK(reactor.getWriters().empty());
  CHECK(reactor.getReaders().size() == 1);
  ours = UniqueFd(::dup3(later.ours.get(), fd, O_CLOEXEC));
  SUBCASE("as reader") {
    reactor.addReader(socket);
  }
  SUBCASE("as writer, too") {
    reactor.addWriter(socket);
    runUntil(reactor, [&] { return socket->writes > 0; });
  }
  later.say("x");
  runUntil(reactor, [&] { return socket->got == "x"; });
  reactor.removeAll();
}

TEST_CASE_FIXTURE(Fixture, "what doRead throws ends it with that, as reader and as writer") {
  LogCapture capture;
  std::size_t logged = 0;
  SUBCASE("an error, which is logged") {
    socket->read = [] { throw std::domain_error("bad"); };
    logged = 1;
  }
  SUBCASE("the end of the connection") {
    socket->read = [] { throw ConnectionDone(); };
  }
  reactor.addReader(socket);
  socket->write = [&] { reactor.removeWriter(*socket); };
  reactor.addWriter(socket);
  say("x");
  runUntil(reactor, [&] { return socket->lost.has_value(); });
  spin(reactor);
  CHECK(socket->losses == 1);
  CHECK(reactor.getReaders().empty());
  CHECK(reactor.getWriters().empty());
  CHECK((socket->lost->check<std::domain_error, ConnectionDone>()));
  CHECK(capture.flushLoggedErrors().size() == logged);
}

TEST_CASE_FIXTURE(Fixture, "a descriptor that hangs up: ConnectionDone for a reader, ConnectionLost for a writer") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_NONBLOCK) == 0);
  UniqueFd readEnd(ends[0]), writeEnd(ends[1]);
  SUBCASE("a reader") {
    const auto reader = std::make_shared<Socket>(readEnd.get());
    reactor.addReader(reader);
    writeEnd.reset();
    runUntil(reactor, [&] { return reader->lost.has_value(); });
    CHECK(reader->lost->check<ConnectionDone>());
  }
  SUBCASE("a writer") {
    const auto writer = std::make_shared<Socket>(writeEnd.get());
    reactor.addWriter(writer);
    readEnd.reset();
    runUntil(reactor, [&] { return writer->lost.has_value(); });
    CHECK(writer->lost->check<ConnectionLost>());
  }
  CHECK(reactor.getReaders().empty());
  CHECK(reactor.getWriters().empty());
}

TEST_CASE_FIXTURE(Fixture, "an object that has another descriptor by now is lost") {
  socket->read = [&] { socket->fd = -1; };
  reactor.addReader(socket);
  say("x");
  runUntil(reactor, [&] { return socket->lost.has_value(); });
  CHECK(socket->lost->check<ConnectionLost>());
  CHECK(reactor.getReaders().empty());
}

TEST_CASE_FIXTURE(Fixture, "a file is always ready") {
  test::TemporaryDirectory directory;
  const std::string path = directory.write("file", "0123456789");
  const UniqueFd file(::open(path.c_str(), O_RDWR));
  const auto reader = std::make_shared<Socket>(file.get());
  reactor.addReader(reader);
  reactor.addWriter(reader);
  reader->write = [&] { reactor.removeWriter(*reader); };
  runUntil(reactor, [&] { return reader->got == "0123456789"; });
  CHECK(reader->writes == 1);
  reactor.removeReader(*reader);
  spin(reactor);
  CHECK(reader.use_count() == 1);
}

TEST_CASE_FIXTURE(Fixture, "what cannot be watched") {
  CHECK_THROWS_AS(reactor.addReader(std::make_shared<Socket>(-1)), std::invalid_argument);
  const int closed = ::dup(ours.get());
  ::close(closed);
  CHECK_THROWS_AS(reactor.addWriter(std::make_shared<Socket>(closed)), std::system_error);
  CHECK(reactor.getWriters().empty());
}

TEST_CASE_FIXTURE(Fixture, "the reactor stops: connectionLost") {
  reactor.addReader(socket);
  reactor.addWriter(socket);
  reactor.callWhenRunning([&] { reactor.stop(); });
  reactor.run(false);
  REQUIRE(socket->lost);
  CHECK(socket->losses == 1);
  CHECK(socket->lost->check<ConnectionLost>());
  CHECK(reactor.getReaders().empty());
}

TEST_CASE("a reactor that goes ends what was added to it") {
  std::shared_ptr<Socket> socket;
  {
    Fixture f;
    socket = f.socket;
    f.reactor.addReader(socket);
  }
  CHECK(socket->losses == 1);
  CHECK(socket.use_count() == 1);
}

TEST_CASE("a descriptor that was closed before it is removed may be another's by then") {
  Fixture f;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  auto closed = std::make_shared<Socket>(ends[0]);
  const UniqueFd writer(ends[1]);
  f.reactor.addReader(closed);
  ::close(ends[0]);
  struct Reply : Protocol {
    void dataReceived(std::string_view data) override { transport().write(data); }
  };
  auto port = f.reactor.listenTCP(0, forProtocol<Reply>(), 50, "127.0.0.1");  // its socket takes the number
  SUBCASE("it is removed") {
    f.reactor.removeReader(*closed);
  }
  SUBCASE("it is to be written, too") {
    CHECK_THROWS_AS(f.reactor.addWriter(closed), std::system_error);
    f.reactor.removeReader(*closed);
  }
  SUBCASE("all are removed") {
    f.reactor.removeAll();
  }
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(std::get<IPv4Address>(port->getHost()).port);
  REQUIRE(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::write(client.get(), "hello", 5) == 5);
  char reply[5];
  runUntil(f.reactor, [&] { return ::recv(client.get(), reply, sizeof reply, MSG_DONTWAIT) == 5; });
  CHECK(std::string(reply, 5) == "hello");
}
