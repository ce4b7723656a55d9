#include <reactor/adopt.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <variant>
#include <vector>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using detail::UniqueFd;
using test::runUntil;

namespace {

// A socket of this program that listens on 127.0.0.1.
UniqueFd listeningSocket(std::uint16_t* port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(fd.get(), 5) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  *port = ntohs(address.sin_port);
  return fd;
}

struct Greeter : Protocol {
  void connectionMade() override {
    transport().write("hello");
    transport().loseConnection();
  }
};

struct ClientFactoryOf : ClientFactory {
  explicit ClientFactoryOf(std::shared_ptr<Protocol> protocol) : protocol(std::move(protocol)) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return protocol; }
  void clientConnectionFailed(Connector&, const Failure&) override { failed = true; }
  std::shared_ptr<Protocol> protocol;
  bool failed = false;
};

// What a client gets until the connection ends.
std::string fetch(Reactor& reactor, std::uint16_t port) {
  auto client = std::make_shared<AccumulatingProtocol>();
  auto factory = std::make_shared<ClientFactoryOf>(client);
  reactor.connectTCP("127.0.0.1", port, factory);
  runUntil(reactor, [&] { return client->closed() || factory->failed; });
  return factory->failed ? "failed" : client->data;
}

}  // namespace

TEST_CASE("adoptStreamPort: serves the socket, which stays its owner's when the port stops") {
  Reactor reactor;
  std::uint16_t number = 0;
  UniqueFd fd = listeningSocket(&number);
  const auto port = reactor.adoptStreamPort(fd.get(), AF_INET, forProtocol<Greeter>());
  CHECK(port->getHost() == Address(IPv4Address{"127.0.0.1", number}));
  CHECK(fetch(reactor, number) == "hello");
  successResultOf(port->stopListening());
  const auto again = reactor.adoptStreamPort(fd.get(), AF_INET, forProtocol<Greeter>());
  fd.reset();
  CHECK(fetch(reactor, number) == "hello");
  successResultOf(again->stopListening());
  CHECK(fetch(reactor, number) == "failed");
}

TEST_CASE("adoptStreamPort: two reactors serve one socket, as two processes would") {
  Reactor first;
  std::uint16_t number = 0;
  const UniqueFd fd = listeningSocket(&number);
  const auto port = first.adoptStreamPort(fd.get(), AF_INET, forProtocol<Greeter>());
  successResultOf(port->stopListening());
  Reactor second;
  second.adoptStreamPort(fd.get(), AF_INET, forProtocol<Greeter>());
  CHECK(fetch(second, number) == "hello");
  test::spin(first);  // is told nothing any more
}

TEST_CASE("adoptStreamPort: a UNIX socket, whose path stays") {
  test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/socket";
  Reactor reactor;
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd.get(), 5) == 0);
  const auto port = reactor.adoptStreamPort(fd.get(), AF_UNIX, forProtocol<Greeter>());
  auto client = std::make_shared<AccumulatingProtocol>();
  reactor.connectUNIX(path, std::make_shared<ClientFactoryOf>(client));
  runUntil(reactor, [&] { return client->closed(); });
  CHECK(client->data == "hello");
  port->stopListening();
  struct stat status;
  CHECK(::stat(path.c_str(), &status) == 0);
}

TEST_CASE("adoptStreamPort and adoptStreamConnection: what cannot be adopted") {
  Reactor reactor;
  const auto factory = forProtocol<Greeter>();
  std::uint16_t number = 0;
  const UniqueFd listening = listeningSocket(&number);
  const UniqueFd datagram(::socket(AF_INET, SOCK_DGRAM, 0));
  const UniqueFd fresh(::socket(AF_INET, SOCK_STREAM, 0));
  const UniqueFd file(::open("/dev/null", O_RDONLY));
  CHECK_THROWS_AS(reactor.adoptStreamPort(listening.get(), AF_NETLINK, factory), UnsupportedAddressFamily);
  CHECK_THROWS_AS(reactor.adoptStreamPort(listening.get(), AF_INET6, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptStreamPort(datagram.get(), AF_INET, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptStreamPort(file.get(), AF_INET, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptStreamPort(-1, AF_INET, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptStreamPort(fresh.get(), AF_INET, factory), std::invalid_argument);
  CHECK_THROWS_AS(reactor.adoptStreamConnection(fresh.get(), AF_INET, factory), std::system_error);
  CHECK_THROWS_AS(reactor.adoptStreamConnection(fresh.get(), AF_NETLINK, factory), UnsupportedAddressFamily);
}

TEST_CASE("adoptStreamConnection: a connected socket; its end is one for all that have it") {
  Reactor reactor;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const UniqueFd ours(ends[0]), theirs(ends[1]);
  auto protocol = std::make_shared<AccumulatingProtocol>();
  SUBCASE("data both ways") {
    CHECK(reactor.adoptStreamConnection(ours.get(), AF_UNIX, makeFactory([&] { return protocol; })) == protocol);
    CHECK(protocol->made);
    REQUIRE(::write(theirs.get(), "hello", 5) == 5);
    runUntil(reactor, [&] { return protocol->data == "hello"; });
    protocol->transport().write("bye");
    SUBCASE("loseConnection") {
      protocol->transport().loseConnection();
    }
    SUBCASE("abortConnection") {
      test::spin(reactor);
      protocol->transport().abortConnection();
    }
    runUntil(reactor, [&] { return protocol->closed(); });
    char buffer[10];
    CHECK(::read(theirs.get(), buffer, sizeof buffer) == 3);
    CHECK(::read(theirs.get(), buffer, sizeof buffer) == 0);
  }
  SUBCASE("refused: nothing happens to it") {
    const auto refuse = makeFactory([]() -> std::shared_ptr<Protocol> { return nullptr; });
    CHECK(reactor.adoptStreamConnection(ours.get(), AF_UNIX, refuse) == nullptr);
    CHECK(::write(theirs.get(), "hello", 5) == 5);
    char buffer[10];
    CHECK(::read(ours.get(), buffer, sizeof buffer) == 5);
  }
}

TEST_CASE("adopted TCP sockets send at once, as the reactor's own do") {
  Reactor reactor;
  std::uint16_t number = 0;
  const UniqueFd listening = listeningSocket(&number);
  auto accepted = std::make_shared<AccumulatingProtocol>(), adopted = std::make_shared<AccumulatingProtocol>();
  reactor.adoptStreamPort(listening.get(), AF_INET, makeFactory([&] { return accepted; }));
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(number);
  REQUIRE(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  reactor.adoptStreamConnection(client.get(), AF_INET, makeFactory([&] { return adopted; }));
  runUntil(reactor, [&] { return accepted->made; });
  CHECK(accepted->transport().getTcpNoDelay());
  CHECK(adopted->transport().getTcpNoDelay());
}

TEST_CASE("AdoptedStreamServerEndpoint: once; it owns the descriptor") {
  Reactor reactor;
  std::uint16_t number = 0;
  UniqueFd fd = listeningSocket(&number);
  const int raw = fd.release();
  {
    AdoptedStreamServerEndpoint endpoint(raw, AF_INET, reactor);
    const auto port = successResultOf(endpoint.listen(forProtocol<Greeter>()));
    CHECK(::fcntl(raw, F_GETFD) < 0);
    CHECK(fetch(reactor, number) == "hello");
    failureResultOf<AlreadyListened>(endpoint.listen(forProtocol<Greeter>()));
    port->stopListening();
  }
  const int file = ::open("/dev/null", O_RDONLY);
  {
    AdoptedStreamServerEndpoint unused(file, AF_INET, reactor);
  }
  CHECK(::fcntl(file, F_GETFD) < 0);
  AdoptedStreamServerEndpoint wrong(::open("/dev/null", O_RDONLY), AF_INET, reactor);
  failureResultOf<std::invalid_argument>(wrong.listen(forProtocol<Greeter>()));
}

// In a child: the variables name a process and number the descriptors from 3 on.
TEST_CASE("ListenFDs: what systemd hands over, once, to the process that it is for") {
  std::uint16_t number = 0;
  const UniqueFd fd = listeningSocket(&number);
  const auto inChild = [&](const std::function<bool()>& check) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(::dup(fd.get()), 4);
      ::dup2(fd.get(), 3);
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::setenv("LISTEN_FDS", "2", 1);
      ::setenv("LISTEN_FDNAMES", "web:admin", 1);
      bool good = false;
      try {
        good = check();
      } catch (...) {
      }
      ::_exit(good ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status == 0;
  };
  using Descriptors = std::vector<int>;
  CHECK(inChild([] {
    const auto fds = ListenFDs::fromEnvironment();
    const auto named = fds.inheritedNamedDescriptors();
    return fds.inheritedDescriptors() == Descriptors{3, 4} && named.at("web") == 3 && named.at("admin") == 4 &&
           !::getenv("LISTEN_PID") && !::getenv("LISTEN_FDS") && !::getenv("LISTEN_FDNAMES") &&
           (::fcntl(3, F_GETFD) & FD_CLOEXEC) && ListenFDs::fromEnvironment().inheritedDescriptors().empty();
  }));
  CHECK(inChild([&] {
    Reactor reactor;
    AdoptedStreamServerEndpoint endpoint(ListenFDs::fromEnvironment().inheritedDescriptors()[0], AF_INET, reactor);
    successResultOf(endpoint.listen(forProtocol<Greeter>()));
    return fetch(reactor, number) == "hello";
  }));
  CHECK(inChild([] {
    ::setenv("LISTEN_PID", "1", 1);
    return ListenFDs::fromEnvironment().inheritedDescriptors().empty() && ::getenv("LISTEN_PID");
  }));
  CHECK(inChild([] {
    ::setenv("LISTEN_FDS", "two", 1);
    return ListenFDs::fromEnvironment().inheritedDescriptors().empty();
  }));
  CHECK(inChild([] {
    ::unsetenv("LISTEN_FDNAMES");
    const auto fds = ListenFDs::fromEnvironment();
    return fds.inheritedDescriptors() == Descriptors{3, 4} && fds.inheritedNamedDescriptors().empty();
  }));
}
