// DNSResolver against a name server of our own on 127.0.0.1.
#include <reactor/names.hpp>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <deferred/errors.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/assertions.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

using Addresses = std::vector<Address>;

// Answers A and AAAA questions for both.example.test, v4.example.test and hostN.example.test; says nothing of
// silent.example.test; no other name exists.
class NameServer {
 public:
  NameServer() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    self_ = address;
    thread_ = std::thread([this] { serve(); });
  }
  ~NameServer() {
    ::sendto(fd_, "", 0, 0, reinterpret_cast<sockaddr*>(&self_), sizeof self_);
    thread_.join();
    ::close(fd_);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(ntohs(self_.sin_port)); }

 private:
  void serve() {
    for (;;) {
      unsigned char packet[512];
      sockaddr_in peer{};
      socklen_t size = sizeof peer;
      const ssize_t n = ::recvfrom(fd_, packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&peer), &size);
      if (n < 12) return;
      const std::string answer = reply(std::string(reinterpret_cast<char*>(packet), static_cast<std::size_t>(n)));
      if (!answer.empty()) ::sendto(fd_, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&peer), size);
    }
  }
  static std::string reply(const std::string& question) {
    std::string name;
    std::size_t at = 12;
    while (question[at] != 0) {
      name += question.substr(at + 1, static_cast<unsigned char>(question[at])) + ".";
      at += static_cast<unsigned char>(question[at]) + 1u;
    }
    const bool v6 = question[at + 2] == 28;
    const std::string asked = question.substr(12, at + 5 - 12);
    if (name == "silent.example.test.") return {};
    std::string data;
    if (name.starts_with("host") || name == "v4.example.test." || name == "both.example.test.") {
      if (!v6) data = std::string("\x7f\0\0\x07", 4);
      if (v6 && name.starts_with("both")) data = std::string("\xfd") + std::string(14, '\0') + "\x01";
    } else {
      return question.substr(0, 2) + std::string("\x81\x83\0\1\0\0\0\0\0\0", 10) + asked;
    }
    std::string head = question.substr(0, 2) + std::string("\x81\x80\0\1\0", 5) + (data.empty() ? '\0' : '\1');
    head += std::string(4, '\0') + asked;
    if (data.empty()) return head;
    const char length = static_cast<char>(data.size());
    return head + std::string("\xc0\x0c\0", 3) + (v6 ? '\x1c' : '\x01') + std::string("\0\1\0\0\0\0\0", 7) + length +
           data;
  }

  int fd_;
  sockaddr_in self_{};
  std::thread thread_;
};

template <class T>
Result<T> waitFor(Reactor& reactor, Deferred<T> d) {
  std::optional<Result<T>> result;
  std::move(d).addBoth([&](Result<T> r) { result = std::move(r); });
  while (!result) reactor.iterate(1s);
  return std::move(*result);
}

}  // namespace

TEST_CASE("literals give themselves, at once") {
  Reactor reactor;
  CHECK((successResultOf(reactor.resolve("127.0.0.1")) == Addresses{IPv4Address{"127.0.0.1"}}));
  CHECK((successResultOf(reactor.resolve("::1")) == Addresses{IPv6Address{"::1"}}));
}

TEST_CASE("localhost is this machine, whatever the servers say") {
  Reactor reactor;
  const Addresses here{IPv4Address{"127.0.0.1"}, IPv6Address{"::1"}};
  for (const char* name : {"localhost", "LocalHost", "localhost.", "app.localhost"}) {
    CHECK((successResultOf(reactor.resolve(name)) == here));
  }
}

TEST_CASE("what cannot be a name fails without being asked for") {
  Reactor reactor;
  for (const std::string& name : {std::string(), std::string("a b"), std::string("a\0b", 3), std::string(300, 'a'),
                                  std::string("b\xc3\xbc"
                                              "cher.example"),
                                  std::string("no-such-host.invalid")}) {
    failureResultOf<DNSLookupError>(reactor.resolve(name));
  }
}

TEST_CASE("a resolver asks its servers for IPv4 and IPv6") {
  NameServer server;
  Reactor reactor;
  DNSResolver resolver(reactor, server.address());
  CHECK((waitFor(reactor, resolver.resolve("v4.example.test")).value() == Addresses{IPv4Address{"127.0.0.7"}}));
  const Addresses both = waitFor(reactor, resolver.resolve("both.example.test")).value();
  CHECK(both.size() == 2);
  CHECK(std::find(both.begin(), both.end(), Address(IPv6Address{"fd00::1"})) != both.end());
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("a name that does not exist: DNSLookupError that names it") {
  NameServer server;
  Reactor reactor;
  DNSResolver resolver(reactor, server.address());
  auto result = waitFor(reactor, resolver.resolve("nowhere.example.test"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.failure().check<DNSLookupError>());
  CHECK(result.failure().getErrorMessage().find("nowhere.example.test") != std::string::npos);
}

TEST_CASE("many names at a time; a slow one holds nobody up, and can be cancelled") {
  NameServer server;
  Reactor reactor;
  DNSResolver resolver(reactor, server.address());
  auto silent = resolver.resolve("silent.example.test");
  int answered = 0;
  for (int i = 0; i < 200; ++i) {
    resolver.resolve("host" + std::to_string(i) + ".example.test").addCallback([&](const Addresses& addresses) {
      answered += static_cast<int>(addresses.size());
    });
  }
  while (answered < 200) reactor.iterate(1s);
  assertNoResult(silent);
  silent.cancel();
  failureResultOf<CancelledError>(silent);
}

TEST_CASE("look-ups under way end with their resolver, with a stop, and with their reactor") {
  NameServer server;
  auto reactor = std::make_unique<Reactor>();
  std::optional<DNSResolver> resolver(std::in_place, *reactor, server.address());
  auto d = resolver->resolve("silent.example.test");
  for (int i = 0; i < 5; ++i) reactor->iterate();
  SUBCASE("the resolver goes") {
    resolver.reset();
    failureResultOf<DNSLookupError>(d);
  }
  SUBCASE("stop") {
    reactor->callWhenRunning([&] { reactor->stop(); });
    reactor->run(false);
    failureResultOf<DNSLookupError>(d);
  }
  SUBCASE("cancelled, then the resolver goes") {
    d.cancel();
    resolver.reset();
    failureResultOf<CancelledError>(d);
  }
  resolver.reset();
  reactor.reset();
}

TEST_CASE("the reactor's own look-ups end with it") {
  auto reactor = std::make_unique<Reactor>();
  auto d = reactor->resolve("nowhere.example");
  reactor.reset();
  failureResultOf<DNSLookupError>(d);
}

TEST_CASE("a callback may look up the next name, and end the resolver") {
  NameServer server;
  Reactor reactor;
  std::optional<DNSResolver> resolver(std::in_place, reactor, server.address());
  bool done = false;
  auto d = resolver->resolve("host1.example.test")
               .addCallback([&](const Addresses&) { return resolver->resolve("host2.example.test"); })
               .addCallback([&](const Addresses&) {
                 resolver.reset();
                 done = true;
               });
  while (!done) reactor.iterate(1s);
}

TEST_CASE("names of /etc/hosts are there at once") {
  std::ifstream hosts("/etc/hosts");
  for (std::string line; std::getline(hosts, line);) {
    std::istringstream words(line);
    std::string address, name;
    if (!(words >> address >> name) || !isIPAddress(address) || name.find("localhost") != name.npos) continue;
    Reactor reactor;
    const Addresses found = successResultOf(reactor.resolve(name));
    CHECK(std::find(found.begin(), found.end(), Address(IPv4Address{address})) != found.end());
    return;
  }
  MESSAGE("/etc/hosts names nothing but localhost");
}

TEST_CASE("servers that make no sense are refused") {
  Reactor reactor;
  CHECK_THROWS_AS(DNSResolver(reactor, "not a server"), std::invalid_argument);
}
