// 15,000 connections open at once on one reactor, the clients in another process, on one reactor too. Each echoes once
// when all are open; then all are closed, and nothing is left on either side. `scale [CONNECTIONS]`.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/reactor_fixture.hpp>
#include <test/support/resources.hpp>

using namespace torsion;
using namespace std::chrono_literals;

extern char** environ;

namespace {

constexpr int kUsual = 15000;
constexpr std::size_t kOtherDescriptors = 64;
constexpr auto kLimit = 200s;
// Attempts to connect under way.
constexpr int kAtOnce = 200;
// Kept after the connections: tables by descriptor, allocated once.
constexpr std::size_t kTables = 1 << 20;

struct Count {
  int wanted;
  Resolver<void> allOpen{}, allEchoed{}, allLost{};
  int open = 0, most = 0, echoed = 0, lost = 0;
  std::string problem{};

  void made() {
    most = std::max(most, ++open);
    if (open == wanted) allOpen.callback();
  }
  void gone(const Failure& reason) {
    --open;
    if (!reason.check<ConnectionDone>()) problem = "a connection ended with: " + reason.getErrorMessage();
    if (++lost == wanted) allLost.callback();
  }
};

struct Echo : Protocol {
  explicit Echo(Count& count) : count(count) {}
  void connectionMade() override { count.made(); }
  void dataReceived(std::string_view data) override { transport().write(data); }
  void connectionLost(const Failure& reason) override { count.gone(reason); }
  Count& count;
};

struct Client : Protocol {
  Client(Count& count, std::vector<Client*>& all) : count(count), all(all) {}
  void connectionMade() override {
    all.push_back(this);
    count.made();
  }
  void dataReceived(std::string_view data) override {
    received += data;
    if (received == "hello" && ++count.echoed == count.wanted) count.allEchoed.callback();
    if (received.size() > 5) count.problem = "a client got what is not its own: " + received;
  }
  void connectionLost(const Failure& reason) override { count.gone(reason); }
  Count& count;
  std::vector<Client*>& all;
  std::string received;
};

struct Clients : ClientFactory, std::enable_shared_from_this<Clients> {
  Clients(Reactor& reactor, std::uint16_t port, Count& count) : reactor(reactor), port(port), count(count) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    connectNext();
    return std::make_shared<Client>(count, all);
  }
  void clientConnectionFailed(Connector&, const Failure& reason) override {
    if (!std::exchange(failed, true)) count.allOpen.errback(reason);
  }
  // From one of four addresses: the ports of one would not suffice for many more connections.
  void connectNext() {
    if (started == count.wanted) return;
    reactor.connectTCP("127.0.0.1", port, shared_from_this(), 60s, "127.0.0." + std::to_string(2 + started % 4));
    ++started;
  }
  Reactor& reactor;
  std::uint16_t port;
  Count& count;
  int started = 0;
  bool failed = false;
  std::vector<Client*> all;
};

int failed(const char* who, const std::string& why) {
  std::printf("%s: %s\n", who, why.c_str());
  return 1;
}

/// What one side has left.
std::string leftovers(ReactorFixture& fixture, Count& count, std::size_t descriptors, std::size_t memory) {
  std::string text = count.problem;
  for (const std::string& problem : fixture.finish()) text += "; " + problem;
  if (const std::size_t now = test::openDescriptors(); now != descriptors) {
    text += "; " + std::to_string(now) + " descriptors in place of " + std::to_string(descriptors);
  }
  if (const std::size_t now = test::memoryInUse(); now > memory + kTables) {
    text += "; " + std::to_string(now - memory) + " bytes more in use than before";
  }
  return text;
}

int runClients(std::uint16_t port, int connections) {
  ReactorFixture fixture;
  fixture.wait(deferLater(fixture.reactor, 0s));
  const std::size_t descriptors = test::openDescriptors(), memory = test::memoryInUse();
  Count count{connections};
  {
    auto clients = std::make_shared<Clients>(fixture.reactor, port, count);
    for (int i = 0; i < kAtOnce; ++i) clients->connectNext();
    fixture.wait(count.allOpen.deferred(), kLimit);
    for (Client* client : clients->all) client->transport().write("hello");
    fixture.wait(count.allEchoed.deferred(), kLimit);
    for (Client* client : clients->all) client->transport().loseConnection();
    fixture.wait(count.allLost.deferred(), kLimit);
  }
  const std::string left = leftovers(fixture, count, descriptors, memory);
  return left.empty() ? 0 : failed("clients", left);
}

int runServer(const char* program, int connections) {
  ReactorFixture fixture;
  Count count{connections};
  fixture.wait(deferLater(fixture.reactor, 0s));
  const std::size_t descriptors = test::openDescriptors(), memory = test::memoryInUse();
  auto port =
      fixture.reactor.listenTCP(0, makeFactory([&] { return std::make_shared<Echo>(count); }), 1024, "127.0.0.1");

  std::string portText = std::to_string(std::get<IPv4Address>(port->getHost()).port);
  std::string countText = std::to_string(connections);
  std::string mode = "clients", name = program;
  char* arguments[] = {name.data(), countText.data(), mode.data(), portText.data(), nullptr};
  pid_t child;
  if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments, environ) != 0) {
    return failed("server", "cannot start the clients");
  }
  fixture.wait(count.allLost.deferred(), kLimit);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return failed("server", "the clients failed");
  if (count.most != connections)
    return failed("server", "at most " + std::to_string(count.most) + " were open at once");
  port->stopListening();
  port.reset();
  const std::string left = leftovers(fixture, count, descriptors, memory);
  return left.empty() ? 0 : failed("server", left);
}

}  // namespace

int main(int argc, char** argv) {
  const int connections = argc > 1 ? std::atoi(argv[1]) : kUsual;
  const std::size_t needed = static_cast<std::size_t>(connections) + kOtherDescriptors;
  const test::DescriptorLimit limit(needed);
  if (test::DescriptorLimit::now() < needed) {
    std::printf("NOT RUN: %d connections take %zu descriptors, and the limit is %zu; raise the hard one (ulimit -Hn)\n",
                connections, needed, test::DescriptorLimit::now());
    std::printf("0 passed, 0 failed\n");
    return 0;
  }
  int status = 1;
  try {
    status = argc > 3 ? runClients(static_cast<std::uint16_t>(std::atoi(argv[3])), connections)
                      : runServer(argv[0], connections);
  } catch (const std::exception& e) {
    failed(argc > 3 ? "clients" : "server", e.what());
  }
  if (argc <= 3) {
    if (status == 0) std::printf("%d connections were open at once, and nothing is left of them\n", connections);
    std::printf(status == 0 ? "1 passed, 0 failed\n" : "0 passed, 1 failed\n");
  }
  return status;
}
