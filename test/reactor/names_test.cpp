// DNSResolver against name servers of our own on 127.0.0.1.
#include <reactor/names.hpp>

#include <doctest/doctest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/errors.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/temporary_directory.hpp>
#include <test/support/made_at.hpp>
#include <test/support/name_server.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using test::NameServer;

namespace {

using Addresses = std::vector<Address>;
using Questions = std::vector<std::string>;

// Knows both.example.test, v4.example.test and hostN.example.test; says nothing of silent.example.test, and of
// half.example.test the IPv4 address alone; no other name exists.
std::optional<NameServer::Reply> usual(const NameServer::Question& question) {
  const std::string& name = question.name;
  if (name == "silent.example.test.") return std::nullopt;
  if (name == "half.example.test." && question.v6) return std::nullopt;
  if (name == "both.example.test." && question.v6) return NameServer::Reply{{"fd00::1"}};
  if (name.starts_with("host") || name == "v4.example.test." || name == "both.example.test." ||
      name == "half.example.test.") {
    return question.v6 ? NameServer::Reply{} : NameServer::Reply{{"127.0.0.7"}};
  }
  return NameServer::noSuchName();
}

std::size_t openDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

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
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  CHECK((waitFor(reactor, resolver.resolve("v4.example.test")).value() == Addresses{IPv4Address{"127.0.0.7"}}));
  const Addresses both = waitFor(reactor, resolver.resolve("both.example.test")).value();
  CHECK(both.size() == 2);
  CHECK(std::find(both.begin(), both.end(), Address(IPv6Address{"fd00::1"})) != both.end());
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("a name that does not exist: DNSLookupError that names it") {
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  auto result = waitFor(reactor, resolver.resolve("nowhere.example.test"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.failure().check<DNSLookupError>());
  CHECK(result.failure().getErrorMessage().find("nowhere.example.test") != std::string::npos);
}

TEST_CASE("many names at a time; a slow one holds nobody up, and can be cancelled") {
  Reactor reactor;
  NameServer server(reactor, usual);
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
  auto reactor = std::make_unique<Reactor>();
  std::optional<NameServer> server(std::in_place, *reactor, usual);
  std::optional<DNSResolver> resolver(std::in_place, *reactor, server->address());
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
  server.reset();
  reactor.reset();
}

TEST_CASE("the reactor's own look-ups end with it") {
  auto reactor = std::make_unique<Reactor>();
  auto d = reactor->resolve("nowhere.example");
  reactor.reset();
  failureResultOf<DNSLookupError>(d);
}

TEST_CASE("a callback may look up the next name, and end the resolver") {
  Reactor reactor;
  NameServer server(reactor, usual);
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

// ---- one question that is not answered

TEST_CASE("an address that is there is given 50 ms later when the other family is silent") {
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  const Duration before = reactor.seconds();
  SUBCASE("IPv6 is") {
    CHECK(waitFor(reactor, resolver.resolve("half.example.test")).value() == Addresses{IPv4Address("127.0.0.7")});
  }
  SUBCASE("IPv4 is") {
    server.behaviour = [](const NameServer::Question& question) -> std::optional<NameServer::Reply> {
      if (question.v6) return NameServer::Reply{{"fd00::1"}};
      return std::nullopt;
    };
    CHECK(waitFor(reactor, resolver.resolve("half.example.test")).value() == Addresses{IPv6Address("fd00::1")});
  }
  CHECK(reactor.seconds() - before >= 50ms);
  CHECK(reactor.seconds() - before < 4s);  // a server gets 5 s
}

TEST_CASE("a failure of one question does not harm the other") {
  Reactor reactor;
  NameServer server(reactor, [](const NameServer::Question& question) {
    return question.v6 ? NameServer::refused() : NameServer::Reply{{"127.0.0.7"}};
  });
  DNSResolver resolver(reactor, server.address());
  CHECK(waitFor(reactor, resolver.resolve("a.example.test")).value() == Addresses{IPv4Address("127.0.0.7")});
}

TEST_CASE("resolveHostName gives the first that come, and what is answered later") {
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  std::vector<Addresses> found;
  auto d =
      resolver.resolveHostName("half.example.test", [&](const Addresses& addresses) { found.push_back(addresses); });
  while (found.empty()) reactor.iterate(1s);
  CHECK(found[0] == Addresses{IPv4Address("127.0.0.7")});
  assertNoResult(d);
  server.release({{"fd00::7"}});
  CHECK(waitFor(reactor, std::move(d)).ok());
  REQUIRE(found.size() == 2);
  CHECK(found[1] == Addresses{IPv6Address("fd00::7")});
}

TEST_CASE("resolveHostName gives literals and names of files at once, and fails as resolve() does") {
  TemporaryDirectory directory;
  const std::string hosts = directory.path() + "/hosts";
  write(hosts, "10.0.0.1 known\n");
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address(), "/dev/null", hosts);
  Addresses found;
  const auto add = [&](const Addresses& addresses) { found.insert(found.end(), addresses.begin(), addresses.end()); };
  successResultOf(resolver.resolveHostName("10.0.0.2", add));
  successResultOf(resolver.resolveHostName("known", add));
  CHECK(found == Addresses{IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1")});
  failureResultOf<DNSLookupError>(resolver.resolveHostName("a b", add));
  auto none = waitFor(reactor, resolver.resolveHostName("nowhere.example.test", add));
  REQUIRE_FALSE(none.ok());
  CHECK(none.failure().check<DNSLookupError>());
  CHECK(found.size() == 2);
}

TEST_CASE("found() may throw, cancel, and end the resolver") {
  Reactor reactor;
  NameServer server(reactor, usual);
  std::optional<DNSResolver> resolver(std::in_place, reactor, server.address());
  Canceller canceller;
  std::optional<Result<void>> result;
  bool called = false;
  const auto start = [&](auto f) {
    auto d = resolver->resolveHostName("both.example.test", [&called, f](const Addresses&) {
      CHECK_FALSE(called);
      called = true;
      f();
    });
    canceller = d.canceller();
    std::move(d).addBoth([&](Result<void> r) { result = std::move(r); });
    while (!result) reactor.iterate(1s);
    REQUIRE_FALSE(result->ok());
  };
  SUBCASE("throws") {
    start([] { throw std::range_error("no"); });
    CHECK(result->failure().check<std::range_error>());
  }
  SUBCASE("cancels") {
    start([&] { canceller.cancel(); });
    CHECK(result->failure().check<CancelledError>());
  }
  SUBCASE("ends the resolver") {
    start([&] { resolver.reset(); });
    CHECK(result->failure().check<DNSLookupError>());
  }
  resolver.reset();
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("cancel() leaves no socket and no timer behind") {
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  const std::size_t before = openDescriptors();
  auto silent = resolver.resolve("silent.example.test");
  auto half = resolver.resolveHostName("half.example.test", [](const Addresses&) {});
  while (server.questions().size() < 4) reactor.iterate(1s);
  CHECK(openDescriptors() > before);
  CHECK_FALSE(reactor.getDelayedCalls().empty());
  silent.cancel();
  half.cancel();
  failureResultOf<CancelledError>(silent);
  failureResultOf<CancelledError>(half);
  CHECK(openDescriptors() == before);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("an answer that was cut off is asked for by TCP") {
  Reactor reactor;
  NameServer server(reactor, [](const NameServer::Question& question) {
    NameServer::Reply reply;
    if (!question.tcp) {
      reply.truncated = true;
    } else if (!question.v6) {
      for (int i = 1; i <= 100; ++i) reply.addresses.push_back("127.0.0." + std::to_string(i));
    }
    return reply;
  });
  DNSResolver resolver(reactor, server.address());
  const Addresses all = waitFor(reactor, resolver.resolve("many.example.test")).value();
  REQUIRE(all.size() == 100);
  CHECK(all.front() == Address(IPv4Address("127.0.0.1")));
  CHECK(all.back() == Address(IPv4Address("127.0.0.100")));
}

TEST_CASE("what servers say is in the text of the failure") {
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address());
  const auto why = [&](const char* name) {
    return waitFor(reactor, resolver.resolve(name)).failure().getErrorMessage();
  };
  CHECK(why("nowhere.example.test") == "looking up nowhere.example.test: there is no such name");
  server.behaviour = [](const NameServer::Question&) { return NameServer::Reply{}; };
  CHECK(why("empty.example.test") == "looking up empty.example.test: it has no address");
  server.behaviour = [](const NameServer::Question&) { return NameServer::refused(); };
  CHECK(why("x.example.test") == "looking up x.example.test: no name server could be reached and had an answer");
}

// ---- the system's files

TEST_CASE("resolv.conf's search domains and ndots; it is read again when it has changed") {
  TemporaryDirectory directory;
  const std::string conf = directory.path() + "/resolv.conf";
  Reactor reactor;
  NameServer server(reactor, [](const NameServer::Question& question) -> NameServer::Reply {
    if (question.name == "host.two.test.") return {{question.v6 ? "fd00::2" : "127.0.0.2"}};
    return NameServer::noSuchName();
  });
  DNSResolver resolver(reactor, server.address(), conf, "/dev/null");
  write(conf, "search one.test\n");
  CHECK_FALSE(waitFor(reactor, resolver.resolve("host")).ok());
  CHECK(server.questions() == Questions{"AAAA host.one.test.", "A host.one.test.", "AAAA host.", "A host."});
  write(conf, "search one.test two.test\n");
  CHECK(waitFor(reactor, resolver.resolve("host")).value().size() == 2);
  CHECK(server.questions().size() == 8);
  CHECK(server.questions()[6] == "AAAA host.two.test.");
  write(conf, "search two.test\noptions ndots:0\n");
  CHECK(waitFor(reactor, resolver.resolve("host")).ok());
  CHECK(server.questions()[8] == "AAAA host.");
  CHECK_FALSE(waitFor(reactor, resolver.resolve("host.")).ok());
  CHECK(server.questions().size() == 14);
}

TEST_CASE("resolv.conf's limits: how long a server is waited for") {
  TemporaryDirectory directory;
  const std::string conf = directory.path() + "/resolv.conf";
  write(conf, "options timeout:1 attempts:1\n");
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address(), conf);
  const Duration before = reactor.seconds();
  auto result = waitFor(reactor, resolver.resolve("silent.example.test"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.failure().getErrorMessage() == "looking up silent.example.test: the name servers do not answer");
  CHECK(reactor.seconds() - before < 4s);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE("hosts is read again when it has changed, and no server is asked for its names") {
  TemporaryDirectory directory;
  const std::string hosts = directory.path() + "/hosts";
  Reactor reactor;
  NameServer server(reactor, usual);
  DNSResolver resolver(reactor, server.address(), "/dev/null", hosts);
  write(hosts, "127.0.0.8 host1.example.test\n");
  CHECK(successResultOf(resolver.resolve("host1.example.test")) == Addresses{IPv4Address("127.0.0.8")});
  write(hosts, "127.0.0.9 host1.example.test\n");
  CHECK(successResultOf(resolver.resolve("Host1.Example.test")) == Addresses{IPv4Address("127.0.0.9")});
  CHECK(server.questions().empty());
  std::filesystem::remove(hosts);
  CHECK(waitFor(reactor, resolver.resolve("host1.example.test")).value() == Addresses{IPv4Address("127.0.0.7")});
}

// ---- those that connect to names

namespace {

struct Client final : ClientFactory {
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return protocol; }
  void clientConnectionFailed(Connector&, const Failure& reason) override { failure = reason; }
  std::shared_ptr<AccumulatingProtocol> protocol = std::make_shared<AccumulatingProtocol>();
  std::optional<Failure> failure;
};

// A reactor whose names are those of a server of the test.
struct Network {
  Reactor reactor;
  NameServer server{reactor, usual};
  std::shared_ptr<ListeningPort> port = reactor.listenTCP(0, forProtocol<AccumulatingProtocol>(), 50, "127.0.0.7");
  std::uint16_t number = std::get<IPv4Address>(port->getHost()).port;
  Network() { reactor.installNameResolver(std::make_shared<DNSResolver>(reactor, server.address())); }
};

}  // namespace

TEST_CASE("connectTCP connects though one question is never answered") {
  Network n;
  auto client = std::make_shared<Client>();
  n.reactor.connectTCP("half.example.test", n.number, client);
  while (!client->protocol->connected()) n.reactor.iterate(1s);
  CHECK(n.reactor.getDelayedCalls().empty());
}

TEST_CASE("a silent server costs connectTCP, and endpoints, no more than their timeout") {
  Network n;
  auto client = std::make_shared<Client>();
  n.reactor.connectTCP("silent.example.test", n.number, client, 20ms);
  while (!client->failure) n.reactor.iterate(1s);
  CHECK(client->failure->check<ConnectTimeoutError>());
  HostnameEndpoint byName("silent.example.test", n.number, n.reactor, 20ms);
  TCP4ClientEndpoint first("silent.example.test", n.number, n.reactor, 20ms);
  TCP6ClientEndpoint v6("half.example.test", n.number, n.reactor, 20ms);
  for (StreamClientEndpoint* endpoint :
       {static_cast<StreamClientEndpoint*>(&byName), static_cast<StreamClientEndpoint*>(&first),
        static_cast<StreamClientEndpoint*>(&v6)}) {
    auto result = waitFor(n.reactor, endpoint->connect(client));
    REQUIRE_FALSE(result.ok());
    CHECK(result.failure().check<ConnectTimeoutError>());
  }
  CHECK(n.reactor.getDelayedCalls().empty());
}

TEST_CASE("HostnameEndpoint connects to what is found, without the rest") {
  Network n;
  const std::size_t before = openDescriptors();
  auto protocol =
      waitFor(n.reactor, HostnameEndpoint("half.example.test", n.number, n.reactor).connect(std::make_shared<Client>()))
          .value();
  CHECK(protocol->transport().getPeer() == Address(IPv4Address("127.0.0.7", n.number)));
  CHECK(n.reactor.getDelayedCalls().empty());
  n.reactor.iterate();
  CHECK(openDescriptors() == before + 2);  // the two ends
}

TEST_CASE("installNameResolver: the reactor keeps it, and has its own again after null") {
  Reactor reactor;
  struct Fixed final : NameResolver {
    Deferred<Addresses> resolve(const std::string&, std::source_location where) override {
      return succeed(Addresses{IPv4Address("10.1.2.3")}, where);
    }
  };
  auto fixed = std::make_shared<Fixed>();
  const std::weak_ptr<Fixed> weak = fixed;
  reactor.installNameResolver(std::move(fixed));
  CHECK(successResultOf(reactor.resolve("whatever.invalid")) == Addresses{IPv4Address("10.1.2.3")});
  Addresses found;
  successResultOf(reactor.resolveHostName("whatever.invalid", [&](Addresses addresses) { found = addresses; }));
  CHECK(found == Addresses{IPv4Address("10.1.2.3")});
  reactor.installNameResolver(nullptr);
  CHECK(weak.expired());
  failureResultOf<DNSLookupError>(reactor.resolve("whatever.invalid"));
}

// ---- with files and a network of its own

namespace {

// The first thing that is not as it should be ends the child.
void expect(bool good, int line) {
  if (good) return;
  std::fprintf(stderr, "names_test.cpp:%d: in the namespace: not so\n", line);
  ::_exit(1);
}

bool enterNamespaces() {
  if (::unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) return false;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  const bool up = ::ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;
  ::close(fd);
  return up;
}

bool cover(const std::string& file, const std::string& with) {
  return ::mount(with.c_str(), file.c_str(), nullptr, MS_BIND, nullptr) == 0;
}

void lookUpInNamespace(const std::string& conf, const std::string& hosts) {
  Reactor reactor;
  NameServer server(
      reactor,
      [](const NameServer::Question& question) -> NameServer::Reply {
        if (question.name != "both.example.") return NameServer::noSuchName();
        return {{question.v6 ? "2001:db8::1" : "127.0.0.1"}};
      },
      53);
  // Nobody is at 127.0.0.9.
  expect(!waitFor(reactor, reactor.resolve("both.example")).ok(), __LINE__);
  write(conf, "nameserver 127.0.0.1\n");
  auto both = waitFor(reactor, reactor.resolve("both.example"));
  expect(both.ok(), __LINE__);
  // There is no way to IPv6 addresses elsewhere.
  expect(both.value() == Addresses{IPv4Address("127.0.0.1"), IPv6Address("2001:db8::1")}, __LINE__);
  write(conf, "search example\nnameserver 127.0.0.1\n");
  expect(waitFor(reactor, reactor.resolve("both")).ok(), __LINE__);

  write(hosts, "127.0.0.8 here\n");
  expect(successResultOf(reactor.resolve("here")) == Addresses{IPv4Address("127.0.0.8")}, __LINE__);
  const auto factory = forProtocol<AccumulatingProtocol>();
  auto port = reactor.listenTCP(0, factory, 50, "here");
  expect(std::get<IPv4Address>(port->getHost()).host == "127.0.0.8", __LINE__);
  write(hosts, "127.0.0.9 here\n");
  port = reactor.listenTCP(0, factory, 50, "here");
  expect(std::get<IPv4Address>(port->getHost()).host == "127.0.0.9", __LINE__);
}

}  // namespace

TEST_CASE("the system's files: they are read again when they change, ports listen at names of /etc/hosts") {
  TemporaryDirectory directory;
  const std::string conf = directory.path() + "/resolv.conf", hosts = directory.path() + "/hosts";
  write(conf, "nameserver 127.0.0.9\n");
  write(hosts, "127.0.0.1 localhost\n");
  const pid_t child = ::fork();
  if (child == 0) {
    if (!enterNamespaces() || !cover("/etc/resolv.conf", conf) || !cover("/etc/hosts", hosts)) ::_exit(77);
    try {
      lookUpInNamespace(conf, hosts);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "in the namespace: %s\n", e.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    MESSAGE("not run: no namespaces here (they take root). The tests above that give the resolver's options cover it");
    return;
  }
  CHECK(status == 0);
}

// ---- reports

TEST_CASE("reports of failures name the user's line") {
  Reactor reactor;
  NameServer server(reactor, usual);
  reactor.installNameResolver(std::make_shared<DNSResolver>(reactor, server.address()));
  test::MadeAt made;
  const auto reported = [&] {
    for (;;) {
      if (auto places = made.flush(); !places.empty()) return places;
      reactor.iterate(1s);
    }
  };
  for (const char* name : {"no-such-name.invalid", "nowhere.example.test"}) {
    using test::MadeAt;
    std::string place;
    place = MadeAt::placeOf(), reactor.resolve(name);
    CHECK(reported() == Questions{place});
    place = MadeAt::placeOf(), reactor.resolveHostName(name, [](const Addresses&) {});
    CHECK(reported() == Questions{place});
  }
}
