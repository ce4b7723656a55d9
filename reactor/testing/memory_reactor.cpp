#include <reactor/testing/memory_reactor.hpp>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>

#include <deferred/functions.hpp>
#include <reactor/logger.hpp>

namespace torsion {

namespace {

const Logger logger("torsion.testing");

// Marks the calls that are timeouts of attempts to connect.
constexpr std::source_location kTimeoutPlace = std::source_location::current();

Address literal(const std::string& host, std::uint16_t port) {
  if (isIPAddress(host)) return IPv4Address{host, port};
  if (isIPv6Address(host)) return IPv6Address{host, port};
  return {};
}

bool isWildcard(const std::string& interface) {
  return interface.empty() || interface == "0.0.0.0" || interface == "::";
}

// Null if the factory refused; `failure` is what it threw.
std::shared_ptr<Protocol> build(Factory& factory, const Address& peer, std::optional<Failure>& failure) {
  try {
    return factory.buildProtocol(peer);
  } catch (...) {
    failure = Failure::current();
    logger.failure("Unhandled error in buildProtocol", *failure);
    return nullptr;
  }
}

template <class F>
void logged(const char* what, F&& f) {
  try {
    f();
  } catch (...) {
    logger.failure("Unhandled error in {what}", Failure::current(), {{"what", what}});
  }
}

}  // namespace

class MemoryReactor::Port final : public ListeningPort {
 public:
  using Server = std::variant<TCPServer, UNIXServer>;

  Port(MemoryReactor& reactor, Server server) : reactor_(&reactor), server_(std::move(server)) { factory()->doStart(); }

  Deferred<void> stopListening() override {
    if (auto* reactor = std::exchange(reactor_, nullptr)) {
      std::erase_if(reactor->ports_, [this](const auto& port) { return port.get() == this; });
      factory()->doStop();
    }
    return succeed();
  }
  Address getHost() const override {
    if (const auto* server = as<UNIXServer>()) return UNIXAddress{server->address};
    const auto& [port, factory, backlog, interface] = *as<TCPServer>();
    if (isIPv6Address(interface)) return IPv6Address{interface, port};
    return IPv4Address{interface.empty() ? "0.0.0.0" : interface, port};
  }

  // Null if it is of the other kind.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&server_);
  }
  std::shared_ptr<Factory> factory() const {
    return std::visit([](const auto& server) { return server.factory; }, server_);
  }
  void detach() { reactor_ = nullptr; }

 private:
  MemoryReactor* reactor_;
  Server server_;
};

// A connector, and its present attempt or connection.
class MemoryReactor::Attempt final : public Connector {
 public:
  using Client = std::variant<TCPClient, UNIXClient>;

  Attempt(MemoryReactor& reactor, Client client) : reactor_(&reactor), client_(std::move(client)) {}

  void connect() override {
    if (!reactor_) throw ReactorNotRunning("Connector::connect: its MemoryReactor is gone");
    reactor_->checkUsable();
    if (state_ != State::disconnected) throw std::logic_error("Connector::connect: already connecting or connected");
    state_ = State::connecting;
    if (!std::exchange(started_, true)) factory()->doStart();
    reactor_->attempts_.push_back(std::static_pointer_cast<Attempt>(shared_from_this()));
    auto expire = [self = weak_from_this()] {
      if (auto attempt = std::static_pointer_cast<Attempt>(self.lock())) {
        attempt->fail(ConnectTimeoutError("No connection with " + describe(attempt->getDestination()) +
                                          " within the time allowed"));
      }
    };
    const Duration limit = std::visit([](const auto& client) { return client.timeout; }, client_);
    if (limit > Duration::zero()) {
      timeout_ = reactor_->clock_.callLater(limit, std::move(expire), kTimeoutPlace);
    }
    factory()->startedConnecting(*this);
  }
  void disconnect() override {
    if (state_ == State::connecting) stopConnecting();
    if (state_ == State::connected && pump_) pump_->clientIO().loseConnection();
  }
  void stopConnecting() override {
    if (state_ != State::connecting) throw NotConnectingError("stopConnecting: there is no attempt to stop");
    fail(UserError("The attempt to connect was stopped"));
  }
  Address getDestination() const override {
    if (const auto* client = as<UNIXClient>()) return UNIXAddress{client->address};
    const auto* client = as<TCPClient>();
    const Address address = literal(client->host, client->port);
    if (address.index() != 0) return address;
    return HostnameAddress{client->host, client->port};
  }

  // Null if it is of the other kind.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&client_);
  }
  std::shared_ptr<ClientFactory> factory() const {
    return std::visit([](const auto& client) { return client.factory; }, client_);
  }
  void detach() {
    reactor_ = nullptr;
    state_ = State::disconnected;
    pump_ = nullptr;
  }

  void fail(const Failure& reason) {
    auto self = shared_from_this();
    leave();
    state_ = State::disconnected;
    logged("clientConnectionFailed", [&] { factory()->clientConnectionFailed(*this, reason); });
    stopFactoryUnlessConnecting();
  }
  // Off the list of those that wait; the protocol is being built.
  void leave() {
    if (timeout_.active()) timeout_.cancel();
    if (reactor_) std::erase_if(reactor_->attempts_, [this](const auto& attempt) { return attempt.get() == this; });
    state_ = State::connected;
  }
  void connected(IOPump& pump) { pump_ = &pump; }
  void lost(const Failure& reason) {
    auto self = shared_from_this();
    pump_ = nullptr;
    state_ = State::disconnected;
    logged("clientConnectionLost", [&] { factory()->clientConnectionLost(*this, reason); });
    stopFactoryUnlessConnecting();
  }

 private:
  enum class State { disconnected, connecting, connected };
  void stopFactoryUnlessConnecting() {
    if (state_ != State::disconnected) return;
    started_ = false;
    factory()->doStop();
  }

  MemoryReactor* reactor_;
  Client client_;
  State state_ = State::disconnected;
  bool started_ = false;
  IOPump* pump_ = nullptr;
  DelayedCall timeout_;
};

MemoryReactor::MemoryReactor() {
  addName("localhost", {"127.0.0.1"});
}

MemoryReactor::~MemoryReactor() {
  closing_ = true;
  const ConnectError gone("the MemoryReactor was destroyed while connecting");
  while (failOnce(gone)) {
  }
  for (const auto& port : ports_) port->detach();
  for (const auto& connector : connectors_) {
    if (auto attempt = connector.lock()) attempt->detach();
  }
}

void MemoryReactor::checkUsable() const {
  if (closing_) throw ReactorNotRunning("the MemoryReactor is being destroyed");
}

DelayedCall MemoryReactor::schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) {
  checkUsable();
  return clock_.callLater(delay, std::move(f), where);
}

std::vector<DelayedCall> MemoryReactor::getDelayedCalls() const {
  auto calls = clock_.getDelayedCalls();
  std::erase_if(calls, [](const DelayedCall& call) {
    return call.where().line() == kTimeoutPlace.line() && call.where().file_name() == kTimeoutPlace.file_name();
  });
  return calls;
}

bool MemoryReactor::isTaken(std::uint16_t port, const std::string& interface) const {
  return std::any_of(ports_.begin(), ports_.end(), [&](const std::shared_ptr<Port>& other) {
    const auto* server = other->as<TCPServer>();
    return server && server->port == port &&
           (isWildcard(interface) || isWildcard(server->interface) || server->interface == interface);
  });
}

std::uint16_t MemoryReactor::newPort() noexcept {
  if (lastPort_ == 65535) lastPort_ = 49151;
  return ++lastPort_;
}

std::shared_ptr<ListeningPort> MemoryReactor::listenTCP(std::uint16_t port, std::shared_ptr<Factory> factory,
                                                        int backlog, const std::string& interface) {
  checkUsable();
  if (port == 0) {
    do port = newPort();
    while (isTaken(port, interface));
  } else if (isTaken(port, interface)) {
    throw CannotListenError(interface, port, EADDRINUSE);
  }
  ports_.push_back(std::make_shared<Port>(*this, TCPServer{port, std::move(factory), backlog, interface}));
  return ports_.back();
}

std::shared_ptr<Connector> MemoryReactor::connectTCP(const std::string& host, std::uint16_t port,
                                                     std::shared_ptr<ClientFactory> factory, Duration timeout,
                                                     const std::string& bindAddress) {
  checkUsable();
  return start(std::make_shared<Attempt>(*this, TCPClient{host, port, std::move(factory), timeout, bindAddress}));
}

std::shared_ptr<ListeningPort> MemoryReactor::listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                                         int backlog, unsigned mode, bool wantPID) {
  checkUsable();
  for (const auto& port : ports_) {
    if (const auto* server = port->as<UNIXServer>(); server && server->address == address) {
      throw CannotListenError(address, EADDRINUSE, "another port of this MemoryReactor listens there");
    }
  }
  ports_.push_back(std::make_shared<Port>(*this, UNIXServer{address, std::move(factory), backlog, mode, wantPID}));
  return ports_.back();
}

std::shared_ptr<Connector> MemoryReactor::connectUNIX(const std::string& address,
                                                      std::shared_ptr<ClientFactory> factory, Duration timeout,
                                                      bool checkPID) {
  checkUsable();
  return start(std::make_shared<Attempt>(*this, UNIXClient{address, std::move(factory), timeout, checkPID}));
}

std::shared_ptr<Connector> MemoryReactor::start(std::shared_ptr<Attempt> attempt) {
  std::erase_if(connectors_, [](const auto& connector) { return connector.expired(); });
  connectors_.push_back(attempt);
  attempt->connect();
  return attempt;
}

Deferred<std::vector<Address>> MemoryReactor::resolve(const std::string& name) {
  if (const Address address = literal(name, 0); address.index() != 0) return succeed(std::vector{address});
  if (auto found = names_.find(name); found != names_.end()) return succeed(found->second);
  return torsion::fail<std::vector<Address>>(
      DNSLookupError("MemoryReactor: no address for \"" + name + "\": addName() was not told of one"));
}

void MemoryReactor::addName(const std::string& name, const std::vector<std::string>& addresses) {
  std::vector<Address> parsed;
  for (const auto& address : addresses) {
    parsed.push_back(literal(address, 0));
    if (parsed.back().index() == 0) throw std::invalid_argument("addName: \"" + address + "\" is not an IP address");
  }
  names_[name] = std::move(parsed);
}

namespace {

// Those of the ports or attempts that are of kind T.
template <class T, class Items>
std::vector<T> allOf(const Items& items) {
  std::vector<T> all;
  for (const auto& item : items) {
    if (const auto* one = item->template as<T>()) all.push_back(*one);
  }
  return all;
}

}  // namespace

std::vector<MemoryReactor::TCPServer> MemoryReactor::tcpServers() const {
  return allOf<TCPServer>(ports_);
}

std::vector<MemoryReactor::TCPClient> MemoryReactor::tcpClients() const {
  return allOf<TCPClient>(attempts_);
}

std::vector<MemoryReactor::UNIXServer> MemoryReactor::unixServers() const {
  return allOf<UNIXServer>(ports_);
}

std::vector<MemoryReactor::UNIXClient> MemoryReactor::unixClients() const {
  return allOf<UNIXClient>(attempts_);
}

std::vector<std::shared_ptr<IOPump>> MemoryReactor::connections() const {
  std::vector<std::shared_ptr<IOPump>> open;
  std::copy_if(connections_.begin(), connections_.end(), std::back_inserter(open),
               [](const auto& pump) { return pump->connected(); });
  return open;
}

// std::monostate if the name is not known.
Address MemoryReactor::lookUp(const Attempt& attempt) const {
  Address address = attempt.getDestination();
  const auto* name = std::get_if<HostnameAddress>(&address);
  if (!name) return address;
  auto found = names_.find(name->hostname);
  if (found == names_.end() || found->second.empty()) return {};
  const std::uint16_t port = name->port;
  address = found->second.front();
  if (auto* v4 = std::get_if<IPv4Address>(&address)) v4->port = port;
  if (auto* v6 = std::get_if<IPv6Address>(&address)) v6->port = port;
  return address;
}

MemoryReactor::Port* MemoryReactor::portFor(const Attempt& attempt, const Address& to) const {
  auto* v4 = std::get_if<IPv4Address>(&to);
  auto* v6 = std::get_if<IPv6Address>(&to);
  for (const auto& port : ports_) {
    if (const auto* client = attempt.as<UNIXClient>()) {
      const auto* server = port->as<UNIXServer>();
      if (server && server->address == client->address && (server->wantPID || !client->checkPID)) return port.get();
    } else if (const auto* server = port->as<TCPServer>(); server && (v4 || v6)) {
      if (server->port == (v4 ? v4->port : v6->port) &&
          (isWildcard(server->interface) || server->interface == (v4 ? v4->host : v6->host))) {
        return port.get();
      }
    }
  }
  return nullptr;
}

Failure MemoryReactor::refusal(const Attempt& attempt, const Address& to) const {
  if (attempt.as<UNIXClient>()) {
    return BadFileError("MemoryReactor: nobody listens at " + describe(to) + ", or without the lock that was asked for",
                        ENOENT);
  }
  if (to.index() == 0) {
    return DNSLookupError("MemoryReactor: no address for \"" + attempt.as<TCPClient>()->host +
                          "\": addName() was not told of one");
  }
  return ConnectionRefusedError("Connection was refused by other side: nobody listens on " + describe(to),
                                ECONNREFUSED);
}

std::shared_ptr<IOPump> MemoryReactor::connect(Attempt& attempt, const Address& to, Factory& server) {
  auto keep = std::static_pointer_cast<Attempt>(attempt.shared_from_this());
  attempt.leave();
  Address from = UNIXAddress{};
  if (const auto* client = attempt.as<TCPClient>()) {
    const bool v6 = std::holds_alternative<IPv6Address>(to);
    from = literal(!client->bindAddress.empty() ? client->bindAddress : v6 ? "fd00::1" : "10.0.0.1", newPort());
  }
  std::optional<Failure> clientFailure, serverFailure;
  auto clientProtocol = build(*attempt.factory(), to, clientFailure);
  auto serverProtocol = build(server, from, serverFailure);
  // A factory that refuses closes the connection, which the other side sees open and end.
  const bool clientRefused = !clientProtocol, serverRefused = !serverProtocol;
  if (clientRefused) clientProtocol = std::make_shared<Protocol>();
  if (serverRefused) serverProtocol = std::make_shared<Protocol>();
  auto pump = std::make_shared<IOPump>(clientProtocol, serverProtocol, from, to);
  if (clientRefused) pump->clientIO().loseConnection();
  if (serverRefused) pump->serverIO().loseConnection();
  pump->setPieceSize(pieceSize_);
  if (clientFailure) {
    attempt.fail(*clientFailure);
  } else {
    attempt.connected(*pump);
    pump->clientIO().whenEnded_ = [keep](const Failure& reason) { keep->lost(reason); };
  }
  connections_.push_back(pump);
  return pump;
}

std::shared_ptr<IOPump> MemoryReactor::succeedOnce() {
  for (const auto& attempt : attempts_) {
    const Address to = lookUp(*attempt);
    if (Port* port = portFor(*attempt, to)) {
      auto factory = port->factory();
      return connect(*attempt, to, *factory);
    }
  }
  return nullptr;
}

bool MemoryReactor::failOnce(const Failure& reason) {
  if (attempts_.empty()) return false;
  auto attempt = attempts_.front();
  attempt->fail(reason);
  return true;
}

bool MemoryReactor::flush() {
  for (int round = 0; round < 1000; ++round) {
    bool moved = false;
    const auto attempts = attempts_;
    for (const auto& attempt : attempts) {
      if (std::find(attempts_.begin(), attempts_.end(), attempt) == attempts_.end()) continue;
      moved = true;
      const Address to = lookUp(*attempt);
      if (Port* port = portFor(*attempt, to)) {
        auto factory = port->factory();
        connect(*attempt, to, *factory);
      } else {
        attempt->fail(refusal(*attempt, to));
      }
    }
    if (const auto calls = clock_.getDelayedCalls(); !calls.empty() && calls.front().getTime() <= clock_.seconds()) {
      clock_.advance(Duration::zero());
      moved = true;
    }
    const auto open = connections();
    for (const auto& pump : open) moved |= pump->pump();
    std::erase_if(connections_, [](const auto& pump) { return !pump->connected(); });
    if (!moved) return round != 0;
  }
  throw std::runtime_error(
      "MemoryReactor::flush: still busy after 1000 rounds; does something connect or answer for ever?");
}

}  // namespace torsion
