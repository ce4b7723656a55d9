// UNIX sockets: our ends with Python Twisted's.
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/unix.hpp>
#include <test/interop/interop.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace torsion::test;
using namespace std::chrono_literals;

namespace {

struct Holder : Recorder, FileDescriptorReceiver {
  void fileDescriptorReceived(int fd) override { descriptors.push_back(fd); }
  ~Holder() override {
    for (int fd : descriptors) ::close(fd);
  }
  std::vector<int> descriptors;
};

/// `name` as peer.py takes it: "@" for the abstract namespace.
std::string address(const std::string& name) {
  return name.starts_with('@') ? '\0' + name.substr(1) : name;
}

struct Connection {
  Connection(bool weListen, const std::string& theirs, bool abstract = false, bool lock = false) {
    if (abstract) name = "@" + name;
    const std::string words = name + " " + theirs + (lock ? " lock" : "");
    if (weListen) {
      port = reactor.listenUNIX(address(name), factoryOf(ours), 50, 0600, lock);
      peer.tell("connectUNIX " + words);
    } else {
      peer.tell("listenUNIX " + words);
      CHECK(peer.hear() == "listening");
      reactor.connectUNIX(address(name), std::make_shared<RecorderClientFactory>(ours), 30s, lock);
    }
    runUntil(reactor, [&] { return ours->connected(); });
    CHECK(peer.hear() == "made");
  }
  std::string ourLoss() {
    runUntil(reactor, [&] { return !ours->lost.empty(); });
    return ours->lost;
  }
  TemporaryDirectory directory;
  std::string name = directory.path() + "/socket";
  Reactor reactor;
  std::shared_ptr<Holder> ours = std::make_shared<Holder>();
  std::shared_ptr<ListeningPort> port;
  Peer peer{reactor};
};

const std::string nothing = sum("");

}  // namespace

TEST_CASE_TEMPLATE("UNIX: echo", Side, WeListen, TheyListen) {
  bool abstract = false, lock = false;
  SUBCASE("a path") {}
  SUBCASE("an abstract name") {
    abstract = true;
  }
  SUBCASE("a path with a lock") {
    lock = true;
  }
  Connection c(Side::value, "Echo", abstract, lock);
  const std::string text(300'000, 'u');
  c.ours->transport().write(text);
  runUntil(c.reactor, [&] { return c.ours->received.size() == text.size(); });
  CHECK(c.ours->received == text);
  c.ours->transport().loseConnection();
  CHECK(c.peer.hear() == "lost ConnectionDone " + sum(text));
  CHECK(c.ourLoss() == "ConnectionDone");
}

TEST_CASE_TEMPLATE("UNIX: how a connection ends", Side, WeListen, TheyListen) {
  Connection c(Side::value, "Recorder");
  SUBCASE("they close") {
    c.peer.tell("write goodbye");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(c.ours->received == "goodbye\n");
  }
  SUBCASE("we abort") {
    c.ours->transport().abortConnection();
    CHECK(c.ourLoss() == "ConnectionAborted");
    // A UNIX socket has no reset.
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
  }
  SUBCASE("they abort") {
    c.peer.tell("abort");
    CHECK(c.peer.hear() == "lost ConnectionAborted " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
  }
}

TEST_CASE_TEMPLATE("UNIX: descriptors", Side, WeListen, TheyListen) {
  Connection c(Side::value, "Recorder");
  SUBCASE("from us") {
    TemporaryDirectory directory;
    const int fd = ::open(directory.write("file", "in_our_file").c_str(), O_RDONLY | O_CLOEXEC);
    UNIXTransport::from(c.ours->transport())->sendFileDescriptor(fd);
    ::close(fd);
    c.ours->transport().write("with it\n");
    CHECK(c.peer.hear() == "descriptor");
    CHECK(c.peer.hear() == "line with it");
    c.peer.tell("readDescriptor");
    CHECK(c.peer.hear() == "content in_our_file");
  }
  SUBCASE("from them") {
    c.peer.tell("sendDescriptor in_their_file with_it");
    runUntil(c.reactor, [&] { return c.ours->received == "with_it\n"; });
    REQUIRE(c.ours->descriptors.size() == 1);
    char text[100];
    const ssize_t size = ::read(c.ours->descriptors[0], text, sizeof text);
    CHECK(std::string(text, static_cast<std::size_t>(size)) == "in_their_file");
  }
  SUBCASE("from us, with no byte to go with") {
    const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    UNIXTransport::from(c.ours->transport())->sendFileDescriptor(fd);
    ::close(fd);
    c.ours->transport().loseConnection();
    CHECK(c.ourLoss() == "FileDescriptorOverrun");
    CHECK(c.peer.hear().starts_with("lost Connection"));
  }
}

TEST_CASE("UNIX: each side sees the other's lock") {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  Reactor reactor;
  Peer peer(reactor);
  SUBCASE("theirs keeps a server of ours away") {
    peer.tell("listenUNIX " + path + " Recorder lock");
    CHECK(peer.hear() == "listening");
    CHECK_THROWS_AS(reactor.listenUNIX(path, forProtocol<Recorder>(), 50, 0666, true), CannotListenError);
  }
  SUBCASE("ours keeps a server of theirs away") {
    auto port = reactor.listenUNIX(path, forProtocol<Recorder>(), 50, 0666, true);
    peer.tell("listenUNIX " + path + " Recorder lock");
    CHECK(peer.hear() == "raised CannotListenError");
  }
  SUBCASE("there is no server: ours") {
    auto factory = std::make_shared<RecorderClientFactory>(std::make_shared<Recorder>());
    reactor.connectUNIX(path, factory);
    runUntil(reactor, [&] { return !factory->failed.empty(); });
    CHECK(factory->failed == "BadFileError");
  }
  SUBCASE("there is no server: theirs") {
    peer.tell("connectUNIX " + path + " Recorder");
    CHECK(peer.hear() == "failed ConnectError");  // the class that ours is derived from
  }
}
