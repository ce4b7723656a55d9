#include <reactor/endpoint_strings.hpp>

#include <doctest/doctest.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

std::shared_ptr<Factory> accumulating() {
  return forProtocol<AccumulatingProtocol>();
}

MemoryReactor::TCPServer tcpServer(const std::string& description) {
  MemoryReactor reactor;
  successResultOf(serverFromString(reactor, description)->listen(accumulating()));
  REQUIRE(reactor.tcpServers().size() == 1);
  return reactor.tcpServers()[0];
}
MemoryReactor::UNIXServer unixServer(const std::string& description) {
  MemoryReactor reactor;
  successResultOf(serverFromString(reactor, description)->listen(accumulating()));
  REQUIRE(reactor.unixServers().size() == 1);
  return reactor.unixServers()[0];
}
MemoryReactor::TCPClient tcpClient(const std::string& description) {
  MemoryReactor reactor;
  auto d = clientFromString(reactor, description)->connect(accumulating());
  d.addErrback([](const ConnectError&) { return std::shared_ptr<Protocol>(); });
  REQUIRE(reactor.tcpClients().size() == 1);
  return reactor.tcpClients()[0];
}
MemoryReactor::UNIXClient unixClient(const std::string& description) {
  MemoryReactor reactor;
  auto d = clientFromString(reactor, description)->connect(accumulating());
  d.addErrback([](const ConnectError&) { return std::shared_ptr<Protocol>(); });
  REQUIRE(reactor.unixClients().size() == 1);
  return reactor.unixClients()[0];
}

// Why a string makes no endpoint.
std::string problemOf(const std::function<void(MemoryReactor&)>& parse) {
  MemoryReactor reactor;
  try {
    parse(reactor);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "none";
}
std::string serverProblem(const std::string& description) {
  return problemOf([&](auto& reactor) { serverFromString(reactor, description); });
}
std::string clientProblem(const std::string& description) {
  return problemOf([&](auto& reactor) { clientFromString(reactor, description); });
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("serverFromString: tcp and tcp6") {
  const auto plain = tcpServer("tcp:80");
  CHECK(plain.port == 80);
  CHECK(plain.interface.empty());
  CHECK(plain.backlog == 50);
  const auto full = tcpServer("tcp:backlog=7:8080:interface=127.0.0.1");
  CHECK(full.port == 8080);
  CHECK(full.interface == "127.0.0.1");
  CHECK(full.backlog == 7);
  CHECK(tcpServer("tcp:80:10.0.0.1:9").backlog == 9);
  const auto six = tcpServer("tcp6:80");
  CHECK(six.interface == "::");
  CHECK(six.backlog == 50);
  CHECK(tcpServer("TCP6:80:9:interface=\\:\\:1").interface == "::1");
}

TEST_CASE("serverFromString and clientFromString: unix") {
  const auto plain = unixServer("unix:/run/x");
  CHECK(plain.address == "/run/x");
  CHECK(plain.mode == 0666);
  CHECK(plain.backlog == 50);
  CHECK(plain.wantPID);
  const auto full = unixServer("unix:address=a\\:b\\\\c:mode=0600:backlog=3:lockfile=0");
  CHECK(full.address == "a:b\\c");
  CHECK(full.mode == 0600);
  CHECK(full.backlog == 3);
  CHECK_FALSE(full.wantPID);

  CHECK(unixClient("unix:/run/x").timeout == 30s);
  CHECK_FALSE(unixClient("unix:/run/x").checkPID);
  const auto client = unixClient("UNIX:path=/run/y:lockfile=1:timeout=9");
  CHECK(client.address == "/run/y");
  CHECK(client.timeout == 9s);
  CHECK(client.checkPID);
}

TEST_CASE("clientFromString: tcp takes host and port by position, by name, and mixed") {
  for (const char* description :
       {"tcp:example.com:80", "tcp:host=example.com:port=80", "tcp:host=example.com:80", "Tcp:example.com:port=80"}) {
    const auto client = tcpClient(description);
    CHECK(client.host == "example.com");
    CHECK(client.port == 80);
    CHECK(client.timeout == 30s);
    CHECK(client.bindAddress.empty());
  }
  const auto full = tcpClient("tcp:10.0.0.5:80:timeout=0:bindAddress=10.0.0.9");
  CHECK(full.timeout == 0s);
  CHECK(full.bindAddress == "10.0.0.9");
}

TEST_CASE("what quoteStringArgument quotes comes out as it went in") {
  CHECK(quoteStringArgument("C:\\x=y") == "C\\:\\\\x=y");
  for (const std::string path : {"a:b", "\\", "::", "x\\:y", "=", ""}) {
    CHECK(unixServer("unix:address=" + quoteStringArgument(path)).address == path);
  }
}

TEST_CASE("a string that makes no endpoint: the text says which, what is wrong, and what would be right") {
  CHECK(serverProblem("tcp") == "serverFromString(\"tcp\"): the argument port is missing");
  CHECK(contains(serverProblem("udp:80"), "no type \"udp\""));
  CHECK(contains(serverProblem("udp:80"), "ssl, stdio, systemd, tcp, tcp6, unix"));
  CHECK(contains(serverProblem("TCP:80"), "no type \"TCP\""));
  CHECK(contains(serverProblem(""), "no type \"\""));
  CHECK(contains(serverProblem("port=80"), "names no type"));
  CHECK(contains(serverProblem("tcp:80:interfaces=x"), "no argument \"interfaces\"; those that there are: port, "));
  CHECK(contains(serverProblem("tcp:80:port=81"), "given twice"));
  CHECK(contains(serverProblem("tcp:80:backlog=1:backlog=2"), "\"backlog\" is given twice"));
  CHECK(contains(serverProblem("tcp:80:1:2:3"), "too many arguments"));
  CHECK(contains(serverProblem("tcp:65536"), "port is \"65536\" and should be a number from 0 to 65535"));
  for (const char* port : {"", "x", "-1", "+1", " 1", "1 ", "1.5", "0x10", "99999999999999999999"}) {
    CHECK(contains(serverProblem(std::string("tcp:") + port), "should be a number from 0 to 65535"));
  }
  CHECK(contains(serverProblem("unix:/x:mode=9"), "octal"));
  CHECK(contains(serverProblem("unix:/x:lockfile=2"), "from 0 to 1"));
  CHECK(contains(serverProblem("tcp:80\\"), "ends in a backslash"));
  CHECK(contains(clientProblem("tcp:h:80:\n\xff"), "\\x0a\\xff"));
  CHECK(clientProblem("tcp:" + std::string(5000, 'x')).size() < 500);
  CHECK(contains(clientProblem("tcp:h"), "port is missing"));
  CHECK(contains(clientProblem("tcp:h:80:30"), "too many arguments by position"));
  CHECK(contains(clientProblem("tcp6:h:80"), "those that there are: ssl, tcp, tls, unix"));
  CHECK(contains(clientProblem("ssl:h:80:certKey=/no/such/file"), "/no/such/file"));
  CHECK(contains(clientProblem("tls:h:80:privateKey=x"), "without certificate"));
  CHECK(contains(clientProblem("tls:h:80:endpoint=udp"), "clientFromString(\"udp\")"));
  CHECK(contains(clientProblem("tls::80"), "clientFromString(\"tls::80\")"));
  CHECK(contains(serverProblem("ssl:443:privateKey=/no/such/file"), "/no/such/file"));
  CHECK(contains(serverProblem("ssl:443:sslmethod=SSLv3_METHOD"), "leave it out"));
  CHECK(contains(serverProblem("ssl:443:dhParameters=x"), "leave them out"));
}

TEST_CASE("ssl and tls: the files are read, both ends understand each other") {
  const auto& pki = test::testPKI();
  test::TemporaryDirectory directory;
  const std::string key = directory.write("key.pem", pki.localhost.privateKey);
  const std::string certificate = directory.write("certificate.pem", pki.localhost.certificate);
  const std::string both = directory.write("both.pem", pki.localhost.privateKey + pki.localhost.certificate);
  const std::string roots = directory.write("roots.pem", pki.authority.certificate);
  const std::string clientPEM = directory.write("client.pem", pki.client.certificate + pki.client.privateKey);
  MemoryReactor reactor;
  reactor.addName("localhost", {"10.0.0.5"});
  std::vector<std::shared_ptr<AccumulatingProtocol>> served;
  const auto serving = makeFactory([&] { return served.emplace_back(std::make_shared<AccumulatingProtocol>()); });
  successResultOf(serverFromString(reactor, "ssl:443:privateKey=" + both)->listen(serving));
  successResultOf(
      serverFromString(reactor, "ssl:444:privateKey=" + key + ":certKey=" + certificate + ":interface=10.0.0.5")
          ->listen(serving));
  for (const std::string& description : {
           "ssl:localhost:443:caCertsDir=" + roots,
           "ssl:10.0.0.5:444:hostname=localhost:caCertsDir=" + roots + ":certKey=" + clientPEM,
           "tls:localhost:444:trustRoots=" + roots + ":certificate=" + certificate + ":privateKey=" + key,
           "tls:localhost:1:trustRoots=" + roots + ":endpoint=tcp\\:10.0.0.5\\:443",
       }) {
    served.clear();
    auto d = clientFromString(reactor, description)->connect(accumulating());
    reactor.flush();
    auto protocol = successResultOf(d);
    protocol->transport().write("hello");
    reactor.flush();
    REQUIRE(served.size() == 1);
    CHECK(served[0]->data == "hello");
    protocol->transport().loseConnection();
    reactor.flush();
  }
  // The name is verified by `ssl` too.
  auto d = clientFromString(reactor, "ssl:10.0.0.5:443:caCertsDir=" + roots)->connect(accumulating());
  reactor.flush();
  auto refused = std::static_pointer_cast<AccumulatingProtocol>(successResultOf(d));
  REQUIRE(refused->closed());
  CHECK(refused->closedReason->check<VerifyError>());
}

TEST_CASE("types of one's own") {
  struct Parser final : StreamServerEndpointStringParser, StreamClientEndpointStringParser {
    std::string prefix() const override { return "Twice"; }
    std::shared_ptr<StreamServerEndpoint> parseStreamServer(NetworkReactor& reactor, const EndpointArguments& arguments,
                                                            const EndpointKeywords& keywords) override {
      return serverFromString(reactor, "tcp:" + arguments.at(0) + keywords.at("more"));
    }
    std::shared_ptr<StreamClientEndpoint> parseStreamClient(NetworkReactor& reactor, const EndpointArguments& arguments,
                                                            const EndpointKeywords& keywords) override {
      return clientFromString(reactor, "tcp:" + keywords.at("host") + ":" + arguments.at(0) + arguments.at(0));
    }
  };
  static const auto parser = std::make_shared<Parser>();
  registerStringParser(std::shared_ptr<StreamServerEndpointStringParser>(parser));
  registerStringParser(std::shared_ptr<StreamClientEndpointStringParser>(parser));
  CHECK(tcpServer("twice:4:more=2").port == 42);
  CHECK(tcpClient("TWICE:4:host=x").port == 44);
  CHECK_THROWS_AS(registerStringParser(std::shared_ptr<StreamServerEndpointStringParser>(parser)),
                  std::invalid_argument);
}

// A reactor that has neither UNIX sockets nor adopted ones.
class TCPOnly final : public NetworkReactor {
 public:
  Duration seconds() const override { return memory_.seconds(); }
  std::shared_ptr<ListeningPort> listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog,
                                           const std::string& interface, std::source_location where) override {
    return memory_.listenTCP(port, std::move(factory), backlog, interface, where);
  }
  std::shared_ptr<Connector> connectTCP(const std::string& host, PortNumber port,
                                        std::shared_ptr<ClientFactory> factory, Duration timeout,
                                        const std::string& bindAddress, std::source_location where) override {
    return memory_.connectTCP(host, port, std::move(factory), timeout, bindAddress, where);
  }
  Deferred<std::vector<Address>> resolve(const std::string& name, std::source_location where) override {
    return memory_.resolve(name, where);
  }

 private:
  DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) override {
    return memory_.callLater(delay, std::move(f), where);
  }
  MemoryReactor memory_;
};

// In a child: the variables name a process and number the descriptors from 3 on.
TEST_CASE("serverFromString: systemd") {
  const pid_t child = ::fork();
  if (child == 0) {
    bool good = false;
    try {
      const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof address;
      ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
      ::listen(fd, 5);
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
      ::dup2(fd, 3);
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::setenv("LISTEN_FDS", "1", 1);
      ::setenv("LISTEN_FDNAMES", "web", 1);
      Reactor reactor;
      const Address expected = IPv4Address{"127.0.0.1", ntohs(address.sin_port)};
      good = true;
      for (const char* description :
           {"systemd:domain=INET:index=0", "systemd:INET:0", "SYSTEMD:domain=INET:name=web"}) {
        auto port = successResultOf(serverFromString(reactor, description)->listen(accumulating()));
        good = good && port->getHost() == expected;
        port->stopListening();
      }
      for (const char* description : {"systemd:domain=INET:index=1", "systemd:domain=INET:name=mail",
                                      "systemd:domain=INETX:index=0", "systemd:index=0", "systemd:domain=INET",
                                      "systemd:domain=INET:index=0:name=web", "systemd:domain=INET:index=x"}) {
        try {
          serverFromString(reactor, description);
          good = false;
        } catch (const std::invalid_argument&) {
        }
      }
      TCPOnly other;
      try {
        serverFromString(other, "systemd:domain=INET:index=0");
        good = false;
      } catch (const std::invalid_argument& e) {
        good = good && contains(e.what(), "this reactor has no way to adopt sockets");
      }
    } catch (...) {
      good = false;
    }
    ::_exit(good ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

// In a child, whose standard input and output they are.
TEST_CASE("serverFromString: stdio") {
  CHECK(contains(serverProblem("stdio:x"), "it takes no arguments"));
  CHECK(contains(serverProblem("stdio:"), "this reactor has no standard input and output"));
  int in[2], out[2];
  REQUIRE(::pipe(in) == 0);
  REQUIRE(::pipe(out) == 0);
  std::cout.flush();  // or the child may write what waits there, too
  const pid_t child = ::fork();
  if (child == 0) {
    struct Answer final : Protocol {
      void connectionMade() override { transport().write("hello "); }
      void dataReceived(std::string_view data) override { transport().write(data); }
      void connectionLost(const Failure&) override { over = true; }
      bool over = false;
    };
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    for (const int fd : {in[0], in[1], out[0], out[1]}) ::close(fd);
    bool good = false;
    try {
      Reactor reactor;
      auto answer = std::make_shared<Answer>();
      auto port =
          successResultOf(serverFromString(reactor, "stdio:")->listen(makeFactory([answer] { return answer; })));
      const auto refusing = makeFactory([] { return std::shared_ptr<Protocol>(); });
      failureResultOf<NoProtocol>(serverFromString(reactor, "STDIO")->listen(refusing));
      while (!answer->over) reactor.iterate(1s);
      good = port->getHost() == Address();
    } catch (...) {
    }
    ::_exit(good ? 0 : 1);
  }
  ::close(in[0]);
  ::close(out[1]);
  REQUIRE(::write(in[1], "world", 5) == 5);
  ::close(in[1]);
  std::string got;
  char buffer[100];
  for (ssize_t n; (n = ::read(out[0], buffer, sizeof buffer)) > 0;) got.append(buffer, static_cast<std::size_t>(n));
  ::close(out[0]);
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(got == "hello world");
}

// ---- against Twisted

namespace {

// Answers each line "KIND HEX" with "OK ..." or "ERR", and "STRICT" after it where Torsion means to refuse more:
// repeated arguments, numbers that are not digits alone or too large, and surplus arguments that Twisted drops.
constexpr const char* kTwisted = R"(
import re, sys
from twisted.internet import endpoints as e
def h(s): return s.encode("latin-1").hex()
def parts(d):
    sofar, all = (), []
    for t, v in e._tokenize(d):
        if t is e._STRING: sofar += (v,)
        elif v == ":": all.append(sofar); sofar = ()
    return all + [sofar]
def strict(kind, d):
    try: all = parts(d)
    except RuntimeError: return False
    names = [p[0] for p in all if len(p) == 2]
    if len(names) != len(set(names)): return True
    args, kw = e._parse(d)
    values = args[1:] + list(kw.values())
    if any(re.fullmatch(r"\s*[-+]?(0[oO])?_?[0-9_]+\s*", v) and (not re.fullmatch("[0-9]+", v) or int(v) > 65535)
           for v in values): return True
    if kw.get("lockfile", "0") not in "01": return True
    if kind == "server": return len(args) > 4 and args[4] not in "01"
    return len(args) > (2 if args[0].upper() == "UNIX" else 3) or bool(args[1:]) and bool({"host", "port", "path"} & set(kw))
def server(p):
    if isinstance(p, e.UNIXServerEndpoint):
        return "unix %s %d %d %d" % (h(p._address), p._mode, p._backlog, p._wantPID)
    return "tcp %d %s %d" % (p._port, h(p._interface), p._backlog)
def client(p):
    if isinstance(p, e.UNIXClientEndpoint):
        return "unix %s %d %d" % (h(p._path), p._timeout, p._checkPID)
    bind = p._bindAddress[0] if p._bindAddress else ""
    return "tcp %s %d %d %s" % (h(p._host), p._port, p._timeout, h(bind))
for line in sys.stdin:
    kind, text = line[:-1].split(" ")
    d = bytes.fromhex(text).decode("latin-1")
    try:
        if kind == "parse":
            args, kw = e._parse(d)
            out = "OK " + ",".join(map(h, args[1:])) + " " + ",".join("%s=%s" % (h(k), h(kw[k])) for k in sorted(kw))
        elif kind == "server": out = "OK " + server(e.serverFromString(None, d))
        else: out = "OK " + client(e.clientFromString(None, d))
    except Exception: out = "ERR"
    print(out + (" STRICT" if strict(kind, d) else ""))
print("END")
)";

std::string hex(const std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  for (const unsigned char c : text) result += {kDigits[c >> 4], kDigits[c & 15]};
  return result;
}

// Gives away what it gets, in the form of the script.
struct Telling final : StreamServerEndpointStringParser {
  std::string prefix() const override { return "telling"; }
  std::shared_ptr<StreamServerEndpoint> parseStreamServer(NetworkReactor&, const EndpointArguments& arguments,
                                                          const EndpointKeywords& keywords) override {
    told = "OK ";
    for (const auto& argument : arguments) told += (&argument == arguments.data() ? "" : ",") + hex(argument);
    told += " ";
    const char* comma = "";
    for (const auto& [name, value] : keywords) told += std::exchange(comma, ",") + hex(name) + "=" + hex(value);
    return nullptr;
  }
  std::string told;
};

std::string oursOf(const std::string& kind, const std::string& description, Telling& telling) {
  MemoryReactor reactor;
  std::ostringstream out;
  try {
    if (kind == "parse") {
      serverFromString(reactor, description);
      return telling.told;
    }
    if (kind == "server") {
      // Twisted takes any text for a name when it makes the endpoint; here a name has to be one when it listens.
      std::string name;
      auto listening = serverFromString(reactor, description)->listen(accumulating());
      listening.addErrback([&](const CannotListenError& e) {
        name = e.interface;
        reactor.addName(name, {"10.0.0.9", "fd00::9"});
        return serverFromString(reactor, description)->listen(accumulating());
      });
      successResultOf(listening);
      for (const auto& s : reactor.tcpServers()) {
        out << "OK tcp " << s.port << ' ' << hex(s.interface == "fd00::9" ? name : s.interface) << ' ' << s.backlog;
      }
      for (const auto& s : reactor.unixServers()) {
        out << "OK unix " << hex(s.address) << ' ' << s.mode << ' ' << s.backlog << ' ' << s.wantPID;
      }
    } else {
      auto d = clientFromString(reactor, description)->connect(accumulating());
      d.addErrback([](const Failure&) { return std::shared_ptr<Protocol>(); });
      const auto seconds = [](Duration t) { return std::chrono::duration_cast<std::chrono::seconds>(t).count(); };
      for (const auto& c : reactor.tcpClients()) {
        out << "OK tcp " << hex(c.host) << ' ' << c.port << ' ' << seconds(c.timeout) << ' ' << hex(c.bindAddress);
      }
      for (const auto& c : reactor.unixClients()) {
        out << "OK unix " << hex(c.address) << ' ' << seconds(c.timeout) << ' ' << c.checkPID;
      }
    }
  } catch (const std::invalid_argument&) {
    return "ERR";
  }
  return out.str();
}

}  // namespace

TEST_CASE("random strings mean to Twisted what they mean here") {
  std::mt19937 random(20);
  using Words = std::vector<std::string>;
  const auto any = [&](const Words& words) { return words[random() % words.size()]; };
  const Words numbers{"80", "8080", "1", "007", "65535", "65536", "-1", "+5", " 7", "1_0", "x", "", "0o17", "666", "9"};
  const Words texts{"", "127.0.0.1", "\\:\\:1", "/run/x", "a b", "\\=", "\\\\", "x=y", "é", "localhost"};
  const Words names{"port",        "interface", "backlog", "address", "mode",         "lockfile", "host", "timeout",
                    "bindAddress", "path",      "factory", "reactor", "\\p\\o\\r\\t", "",         "Port"};
  const auto part = [&](const Words& usual) -> std::string {
    const std::string value = any(random() % 3 ? usual : random() % 2 ? numbers : texts);
    return random() % 2 ? value : any(names) + "=" + value;
  };
  std::vector<std::pair<std::string, std::string>> cases;
  for (int i = 0; i < 500; ++i) {
    std::string raw = "telling:";
    for (auto n = random() % 14; n > 0; --n) raw += any({"\\", ":", "=", "a", "bc", "\\\\", "\\:", "\t", "d="});
    cases.emplace_back("parse", raw);
    std::string server = any({"tcp", "tcp", "tcp6", "unix", "unix", "TCP", "Tcp6", "t\\cp", "", "tcp7"});
    if (random() % 8) server += ":" + any({"80", "port=80", "8080", "/run/x", "address=/run/x"});
    for (auto n = random() % 3; n > 0; --n) {
      server += ":" + (random() % 2 ? any({"interface=127.0.0.1", "interface=\\:\\:1", "backlog=5", "mode=600",
                                           "lockfile=0", "lockfile=1", "backlog=12"})
                                    : part(numbers));
    }
    cases.emplace_back("server", server);
    std::string client = any({"tcp", "tcp", "TCP", "Tcp", "unix", "UNIX", "tcp6", ""});
    if (random() % 8) client += ":" + any({"10.0.0.5:80", "host=10.0.0.5:port=80", "host=h:80", "h:port=80", "/run/x"});
    for (auto n = random() % 3; n > 0; --n) {
      client +=
          ":" + (random() % 2 ? any({"timeout=5", "timeout=0", "bindAddress=10.0.0.9", "lockfile=1"}) : part(texts));
    }
    cases.emplace_back("client", client);
  }
  std::string input;
  for (const auto& [kind, description] : cases) input += kind + " " + hex(description) + "\n";
  test::Process twisted({"/usr/bin/python3", "-c", kTwisted}, input);
  std::istringstream answers(twisted.waitFor("END\n"));

  const auto telling = std::make_shared<Telling>();
  registerStringParser(std::shared_ptr<StreamServerEndpointStringParser>(telling));
  int understood = 0;
  for (const auto& [kind, description] : cases) {
    std::string theirs;
    REQUIRE(std::getline(answers, theirs));
    const bool strict = theirs.ends_with(" STRICT");
    if (strict) theirs.resize(theirs.size() - 7);
    const std::string ours = oursOf(kind, description, *telling);
    INFO(kind << ": " << description);
    if (ours != "ERR" || !strict) CHECK(ours == theirs);
    understood += ours != "ERR";
  }
  CHECK(understood > 600);
}
