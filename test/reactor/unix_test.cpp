// UNIX sockets: paths, modes, locks, abstract names, descriptors that are passed.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/lockfile.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/unix.hpp>
#include <test/support/process.hpp>
#include <test/support/resources.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using torsion::detail::UniqueFd;
using torsion::test::runUntil;
using torsion::test::spin;
namespace fs = std::filesystem;

namespace {

struct Recorder : Protocol {
  void connectionMade() override {
    if (made) made(*this);
  }
  void dataReceived(std::string_view data) override {
    received += data;
    if (heard) heard(*this);
  }
  void connectionLost(const Failure& failure) override { reason = failure; }
  std::function<void(Recorder&)> made, heard;
  std::string received;
  std::optional<Failure> reason;
};

// Notes how many bytes had come before each descriptor.
struct DescriptorRecorder : Recorder, FileDescriptorReceiver {
  void fileDescriptorReceived(int fd) override {
    descriptors.push_back(fd);
    before.push_back(received.size());
    if (thrown) throw std::runtime_error("no descriptors, please");
  }
  ~DescriptorRecorder() override {
    for (int fd : descriptors) ::close(fd);
  }
  std::vector<int> descriptors;
  std::vector<std::size_t> before;
  bool thrown = false;
};

struct HalfRecorder : Recorder, HalfCloseableProtocol {
  void readConnectionLost() override { events += "read lost "; }
  void writeConnectionLost() override { events += "write lost "; }
  std::string events;
};

struct RecordingClientFactory : ClientFactory {
  explicit RecordingClientFactory(std::shared_ptr<Protocol> protocol) : protocol(std::move(protocol)) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return protocol; }
  void clientConnectionFailed(Connector&, const Failure& reason) override { failed = reason; }
  std::shared_ptr<Protocol> protocol;
  std::optional<Failure> failed;
};

template <class Server = Recorder>
struct Pair {
  explicit Pair(const std::string& given = "", bool lock = false)
      : name(given.empty() ? directory.path() + "/socket" : given) {
    port = reactor.listenUNIX(name, makeFactory([this] { return server; }), 50, 0666, lock);
    reactor.connectUNIX(name, std::make_shared<RecordingClientFactory>(client), 30s, lock);
  }
  void connect() {
    runUntil(reactor, [&] { return server->connected() && client->connected(); });
  }
  torsion::test::TemporaryDirectory directory;
  Reactor reactor;
  std::string name;
  std::shared_ptr<Server> server = std::make_shared<Server>();
  std::shared_ptr<Recorder> client = std::make_shared<Recorder>();
  std::shared_ptr<ListeningPort> port;
};

int boundSocket(const std::string& name) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, name.c_str());
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

struct Pipe {
  Pipe() {
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  }
  ~Pipe() {
    closeWriter();
    ::close(fds[0]);
  }
  void closeWriter() {
    if (fds[1] >= 0) ::close(std::exchange(fds[1], -1));
  }
  std::string read() {
    char buffer[16];
    const ssize_t n = ::read(fds[0], buffer, sizeof buffer);
    return n < 0 ? "nothing" : std::string(buffer, static_cast<std::size_t>(n));
  }
  int fds[2];
};

template <class E>
Failure connectFailure(const std::string& name, bool checkPID = false) {
  Reactor reactor;
  auto factory = std::make_shared<RecordingClientFactory>(nullptr);
  reactor.connectUNIX(name, factory, 30s, checkPID);
  CHECK_FALSE(factory->failed);
  runUntil(reactor, [&] { return factory->failed.has_value(); });
  CHECK(factory->failed->check<E>());
  return *factory->failed;
}

}  // namespace

TEST_CASE("bytes go both ways over a path, which is gone when the port is") {
  Pair t;
  t.server->heard = [](Recorder& p) {
    p.transport().write("echo " + p.received);
    p.transport().loseConnection();
  };
  t.client->made = [](Recorder& p) { p.transport().write("x"); };
  t.connect();
  CHECK(t.port->getHost() == Address(UNIXAddress{t.name}));
  CHECK(t.client->transport().getPeer() == Address(UNIXAddress{t.name}));
  CHECK(t.server->transport().getPeer() == Address(UNIXAddress{}));
  CHECK(t.server->transport().getHost() == Address(UNIXAddress{t.name}));
  runUntil(t.reactor, [&] { return t.client->reason && t.server->reason; });
  CHECK(t.client->received == "echo x");
  CHECK(t.client->reason->check<ConnectionDone>());
  CHECK(fs::is_socket(t.name));
  t.port->stopListening();
  CHECK_FALSE(fs::exists(t.name));
}

TEST_CASE("more than the socket holds arrives whole") {
  Pair t;
  t.client->made = [](Recorder& p) {
    p.transport().write(std::string(3'000'000, 'y'));
    p.transport().loseConnection();
  };
  runUntil(t.reactor, [&] { return t.server->reason.has_value(); });
  CHECK(t.server->received == std::string(3'000'000, 'y'));
}

TEST_CASE("the socket gets the mode, whatever the umask") {
  torsion::test::TemporaryDirectory directory;
  Reactor reactor;
  const auto factory = forProtocol<Recorder>();
  const mode_t before = ::umask(077);
  for (unsigned mode : {0666u, 0600u}) {
    const std::string name = directory.path() + "/" + std::to_string(mode);
    reactor.listenUNIX(name, factory, 50, mode);
    struct stat status;
    REQUIRE(::stat(name.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == mode);
  }
  ::umask(before);
}

TEST_CASE("an abstract name needs no file") {
  const std::string name = std::string(1, '\0') + "torsion-test-" + std::to_string(::getpid());
  Pair t(name);
  t.connect();
  CHECK(t.port->getHost() == Address(UNIXAddress{name}));
  CHECK_THROWS_AS(t.reactor.listenUNIX(name, forProtocol<Recorder>()), CannotListenError);
}

TEST_CASE("a path that is taken, too long, or in no directory: CannotListenError; what is there stays") {
  Pair t;
  try {
    t.reactor.listenUNIX(t.name, forProtocol<Recorder>());
    FAIL("listened twice");
  } catch (const CannotListenError& error) {
    CHECK(error.osError == EADDRINUSE);
    CHECK(std::string(error.what()).find(t.name) != std::string::npos);
    CHECK(std::string(error.what()).find("wantPID") != std::string::npos);
  }
  t.connect();
  CHECK_THROWS_AS(t.reactor.listenUNIX(std::string(108, 'x'), forProtocol<Recorder>()), CannotListenError);
  CHECK_THROWS_AS(t.reactor.listenUNIX("", forProtocol<Recorder>()), CannotListenError);
  CHECK_THROWS_AS(t.reactor.listenUNIX(t.directory.path() + "/no/socket", forProtocol<Recorder>()), CannotListenError);
  CHECK_THROWS_AS(t.reactor.listenUNIX(t.directory.path() + "/no/socket", forProtocol<Recorder>(), 50, 0666, true),
                  CannotListenError);
}

TEST_CASE("a port leaves the socket of a server that took its place") {
  torsion::test::TemporaryDirectory directory;
  Reactor reactor;
  const std::string name = directory.path() + "/socket";
  auto first = reactor.listenUNIX(name, forProtocol<Recorder>());
  fs::remove(name);
  auto second = reactor.listenUNIX(name, forProtocol<Recorder>());
  first->stopListening();
  CHECK(fs::is_socket(name));
  second->stopListening();
  CHECK_FALSE(fs::exists(name));
}

TEST_CASE("wantPID: one server at a time, and one that crashed is cleared away") {
  torsion::test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/socket";
  {
    // What a crash leaves: the socket, and a lock with the id of no process.
    ::close(boundSocket(name));
    fs::create_symlink("4194304", name + ".lock");
  }
  connectFailure<BadFileError>(name, true);
  connectFailure<ConnectionRefusedError>(name);
  Reactor reactor;
  auto port = reactor.listenUNIX(name, forProtocol<Recorder>(), 50, 0666, true);
  CHECK(isLocked(name + ".lock"));
  CHECK_THROWS_AS(reactor.listenUNIX(name, forProtocol<Recorder>(), 50, 0666, true), CannotListenError);
  port->stopListening();
  CHECK_FALSE(isLocked(name + ".lock"));
  Pair t("", true);
  t.connect();
}

TEST_CASE("connecting to no socket: BadFileError; to a name that is too long: an error, too") {
  torsion::test::TemporaryDirectory directory;
  connectFailure<BadFileError>(directory.path() + "/nothing");
  connectFailure<ConnectError>(std::string(200, 'x'));
  connectFailure<BadFileError>("");
}

TEST_CASE("a server whose backlog is full: the attempt goes on until there is room, or its limit") {
  torsion::test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/socket";
  const int fd = boundSocket(name);
  REQUIRE(::listen(fd, 0) == 0);
  Reactor reactor;
  auto first = std::make_shared<RecordingClientFactory>(std::make_shared<Recorder>());
  auto second = std::make_shared<RecordingClientFactory>(std::make_shared<Recorder>());
  auto third = std::make_shared<RecordingClientFactory>(std::make_shared<Recorder>());
  reactor.connectUNIX(name, first);
  runUntil(reactor, [&] { return first->protocol->connected(); });
  reactor.connectUNIX(name, second);
  reactor.connectUNIX(name, third, 50ms);
  runUntil(reactor, [&] { return third->failed.has_value(); });
  CHECK(third->failed->check<ConnectTimeoutError>());
  CHECK_FALSE(second->failed);
  CHECK_FALSE(second->protocol->connected());
  ::close(::accept(fd, nullptr, nullptr));
  runUntil(reactor, [&] { return second->protocol->connected(); });
  ::close(fd);
}

TEST_CASE("a descriptor arrives before the byte written after it") {
  Pair<DescriptorRecorder> t;
  t.connect();
  Pipe one, two;
  UNIXTransport* transport = UNIXTransport::from(t.client->transport());
  REQUIRE(transport);
  t.client->transport().write("abc");
  transport->sendFileDescriptor(one.fds[1]);
  transport->sendFileDescriptor(two.fds[1]);
  one.closeWriter();
  two.closeWriter();
  t.client->transport().write("def");
  runUntil(t.reactor, [&] { return t.server->received.size() == 6; });
  CHECK(t.server->received == "abcdef");
  REQUIRE(t.server->descriptors.size() == 2);
  for (std::size_t before : t.server->before) CHECK(before <= 3);
  CHECK(::fcntl(t.server->descriptors[0], F_GETFD) == FD_CLOEXEC);
  CHECK(one.read() == "nothing");
  REQUIRE(::write(t.server->descriptors[0], "1", 1) == 1);
  REQUIRE(::write(t.server->descriptors[1], "2", 1) == 1);
  CHECK(one.read() == "1");
  CHECK(two.read() == "2");
  for (int fd : std::exchange(t.server->descriptors, {})) ::close(fd);
  CHECK(one.read() == "");  // no copy is left
  CHECK(two.read() == "");
}

TEST_CASE("many descriptors among much data, in order") {
  Pair<DescriptorRecorder> t;
  t.connect();
  Pipe pipe;
  UNIXTransport* transport = UNIXTransport::from(t.client->transport());
  std::vector<std::size_t> expected;
  std::size_t written = 0;
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j <= i % 3; ++j) {
      transport->sendFileDescriptor(pipe.fds[1]);
      expected.push_back(written);
    }
    t.client->transport().write(std::string(20'000, 'z'));
    written += 20'000;
  }
  for (int i = 0; i < 300; ++i) transport->sendFileDescriptor(pipe.fds[1]);
  t.client->transport().write("end");
  runUntil(t.reactor, [&] { return t.server->received.size() == written + 3; });
  REQUIRE(t.server->before.size() == expected.size() + 300);
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(t.server->before[i] <= expected[i]);
  CHECK(std::is_sorted(t.server->before.begin(), t.server->before.end()));
  CHECK(t.server->before.back() > written - 70'000);
}

TEST_CASE("a protocol that is no FileDescriptorReceiver: descriptors are closed, and the log says so") {
  LogCapture log;
  Pair t;
  t.connect();
  Pipe pipe;
  UNIXTransport::from(t.client->transport())->sendFileDescriptor(pipe.fds[1]);
  t.client->transport().write("x");
  pipe.closeWriter();
  runUntil(t.reactor, [&] { return t.server->received == "x"; });
  CHECK(pipe.read() == "");
}

TEST_CASE("what fileDescriptorReceived throws ends the connection with it") {
  LogCapture log;
  Pair<DescriptorRecorder> t;
  t.server->thrown = true;
  t.connect();
  UNIXTransport::from(t.client->transport())->sendFileDescriptor(0);
  t.client->transport().write("x");
  runUntil(t.reactor, [&] { return t.server->reason.has_value(); });
  CHECK(t.server->reason->check<std::runtime_error>());
  CHECK(t.server->received.empty());
  CHECK(log.flushLoggedErrors().size() == 1);
}

TEST_CASE("a descriptor with no byte to go with: FileDescriptorOverrun; one that is none: system_error") {
  Pair t;
  t.connect();
  UNIXTransport* transport = UNIXTransport::from(t.client->transport());
  CHECK_THROWS_AS(transport->sendFileDescriptor(-1), std::system_error);
  transport->sendFileDescriptor(0);
  t.client->transport().loseConnection();
  CHECK_FALSE(t.client->reason);
  runUntil(t.reactor, [&] { return t.client->reason.has_value(); });
  CHECK(t.client->reason->check<FileDescriptorOverrun>());
}

TEST_CASE("half-closing: what was written arrives before the end of file, and the other direction goes on") {
  Pair<HalfRecorder> t;
  t.connect();
  t.client->transport().write("last");
  t.client->transport().loseWriteConnection();
  t.client->transport().write("ignored");
  runUntil(t.reactor, [&] { return !t.server->events.empty(); });
  CHECK(t.server->received == "last");
  t.server->transport().write("still here");
  runUntil(t.reactor, [&] { return t.client->received == "still here"; });
  CHECK_FALSE(t.client->reason);
  CHECK_FALSE(t.server->reason);
  t.server->transport().loseWriteConnection();
  runUntil(t.reactor, [&] { return t.client->reason && t.server->reason; });
  CHECK(t.server->events == "read lost write lost ");
  CHECK(t.server->reason->check<ConnectionDone>());
  CHECK(t.client->reason->check<ConnectionDone>());
}

TEST_CASE("drained fires when the other side has read, descriptors and all, or fails when the connection ends") {
  Pair<DescriptorRecorder> t;
  t.connect();
  Transport& client = t.client->transport();
  bool fired = false;
  client.drained().addCallback([&] { fired = true; });
  CHECK(fired);

  t.server->transport().pauseProducing();
  client.write(std::string(2'000'000, 'x'));
  UNIXTransport::from(client)->sendFileDescriptor(0);
  client.write(std::string(2'000'000, 'y'));
  std::string outcome;
  client.drained().addCallback([&] { outcome = "drained"; }).addErrback([&](const ConnectionAborted&) {
    outcome = "aborted";
  });
  spin(t.reactor, 50);
  CHECK(outcome.empty());
  SUBCASE("read") {
    t.server->transport().resumeProducing();
    runUntil(t.reactor, [&] { return t.server->received.size() == 4'000'000; });
    CHECK(outcome == "drained");
    CHECK(t.server->descriptors.size() == 1);
  }
  SUBCASE("aborted") {
    client.abortConnection();
    runUntil(t.reactor, [&] { return t.client->reason.has_value(); });
    CHECK(outcome == "aborted");
  }
}

TEST_CASE("a UNIX socket has none of TCP's options") {
  Pair t;
  t.connect();
  Transport& client = t.client->transport();
  client.setTcpNoDelay(true);
  client.setTcpKeepAlive(true);
  CHECK_FALSE(client.getTcpNoDelay());
  CHECK_FALSE(client.getTcpKeepAlive());
}

TEST_CASE("out of file descriptors: a UNIX port closes connections as they come, and recovers") {
  torsion::test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/socket";
  LogCapture log;
  Reactor reactor;
  int accepted = 0;
  auto port = reactor.listenUNIX(name, makeFactory([&] {
                                   ++accepted;
                                   return std::make_shared<Recorder>();
                                 }));
  auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  reactor.connectUNIX(name, std::make_shared<RecordingClientFactory>(first));
  {
    const torsion::test::NoDescriptors none;
    runUntil(reactor, [&] { return first->reason.has_value(); });
    CHECK(accepted == 0);
    CHECK(log.events().size() == 1);
  }
  reactor.connectUNIX(name, std::make_shared<RecordingClientFactory>(second));
  runUntil(reactor, [&] { return accepted == 1; });
  spin(reactor);
  CHECK(second->connected());
}

TEST_CASE("a descriptor for which there is no room ends the connection: what comes after it would be misunderstood") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const UniqueFd ours(ends[0]), theirs(ends[1]);
  Reactor reactor;
  auto protocol = std::make_shared<DescriptorRecorder>();
  reactor.adoptStreamConnection(ours.get(), AF_UNIX, makeFactory([&] { return protocol; }));

  char text[] = "with a descriptor";
  iovec bytes{text, sizeof text};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
  REQUIRE(::sendmsg(theirs.get(), &message, 0) == sizeof text);

  const torsion::test::NoDescriptors none;
  runUntil(reactor, [&] { return protocol->reason.has_value(); });
  CHECK(protocol->reason->check<ConnectionLost>());
  CHECK(protocol->reason->getErrorMessage().find("file descriptors") != std::string::npos);
  CHECK(protocol->descriptors.empty());
  CHECK(protocol->received.empty());
}

TEST_CASE("other transports are no UNIXTransport") {
  CHECK(UNIXTransport::from(Transport::inert()) == nullptr);
}
