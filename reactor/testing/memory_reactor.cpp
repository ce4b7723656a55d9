#include <reactor/testing/memory_reactor.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/system_events.hpp>
#include <reactor/logger.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/tls.hpp>

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

std::string hostOf(const Address& address) {
  if (const auto* v4 = std::get_if<IPv4Address>(&address)) return v4->host;
  if (const auto* v6 = std::get_if<IPv6Address>(&address)) return v6->host;
  return {};
}

std::uint16_t portOf(const Address& address) {
  if (const auto* v4 = std::get_if<IPv4Address>(&address)) return v4->port;
  if (const auto* v6 = std::get_if<IPv6Address>(&address)) return v6->port;
  return 0;
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
  // What was recorded of it; of an adopted one, whether it is (in the order of the alternatives) anything else.
  using Record = std::variant<AdoptedPort, TCPServer, SSLServer, UNIXServer>;

  Port(MemoryReactor& reactor, Record record, std::shared_ptr<Factory> served, Address host)
      : reactor_(&reactor), record_(std::move(record)), factory_(std::move(served)), host_(std::move(host)) {
    factory_->doStart();
  }

  Deferred<void> stopListening() override {
    if (auto* reactor = std::exchange(reactor_, nullptr)) {
      const auto self = shared_from(*reactor);
      std::erase(reactor->ports_, self);
      factory_->doStop();
    }
    return succeed();
  }
  Address getHost() const override { return host_; }

  // Null if it is of another kind.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&record_);
  }
  const std::shared_ptr<Factory>& factory() const { return factory_; }
  bool isLocked() const {
    const auto* server = as<UNIXServer>();
    return server && server->wantPID;
  }
  // Whether it serves this address.
  bool isAt(const Address& to) const {
    if (to.index() != host_.index() && !isWildcard(hostOf(host_))) return false;
    if (std::holds_alternative<UNIXAddress>(to)) return to == host_;
    return portOf(to) == portOf(host_) && !hostOf(to).empty() &&
           (isWildcard(hostOf(host_)) || hostOf(to) == hostOf(host_));
  }
  void detach() { reactor_ = nullptr; }

 private:
  std::shared_ptr<Port> shared_from(MemoryReactor& reactor) const {
    const auto found = std::find_if(reactor.ports_.begin(), reactor.ports_.end(),
                                    [this](const auto& port) { return port.get() == this; });
    return found == reactor.ports_.end() ? nullptr : *found;
  }

  MemoryReactor* reactor_;
  Record record_;
  std::shared_ptr<Factory> factory_;
  Address host_;
};

// A connector, and its present attempt or connection.
class MemoryReactor::Attempt final : public Connector {
 public:
  using Record = std::variant<TCPClient, SSLClient, UNIXClient>;

  Attempt(MemoryReactor& reactor, Record record, std::shared_ptr<ClientFactory> factory)
      : reactor_(&reactor), record_(std::move(record)), factory_(std::move(factory)) {}

  void connect() override {
    if (!reactor_) throw ReactorNotRunning("Connector::connect: its MemoryReactor is gone");
    reactor_->checkUsable();
    if (state_ != State::disconnected) throw std::logic_error("Connector::connect: already connecting or connected");
    state_ = State::connecting;
    if (!std::exchange(started_, true)) factory_->doStart();
    reactor_->attempts_.push_back(std::static_pointer_cast<Attempt>(shared_from_this()));
    auto expire = [self = weak_from_this()] {
      if (auto attempt = std::static_pointer_cast<Attempt>(self.lock())) {
        attempt->fail(ConnectTimeoutError("No connection with " + describe(attempt->getDestination()) +
                                          " within the time allowed"));
      }
    };
    const Duration limit = std::visit([](const auto& client) { return client.timeout; }, record_);
    if (limit > Duration::zero()) {
      timeout_ = reactor_->clock_.callLater(limit, std::move(expire), kTimeoutPlace);
    }
    factory_->startedConnecting(*this);
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
    const auto destination = [](const auto& client) -> Address {
      const Address address = literal(client.host, client.port);
      if (address.index() != 0) return address;
      return HostnameAddress{client.host, client.port};
    };
    if (const auto* client = as<SSLClient>()) return destination(*client);
    return destination(*as<TCPClient>());
  }

  // Null if it is of another kind.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&record_);
  }
  const std::shared_ptr<ClientFactory>& factory() const { return factory_; }
  const std::source_location& where() const {
    return std::visit([](const auto& client) -> const std::source_location& { return client.where; }, record_);
  }
  std::string bindAddress() const {
    const auto* ssl = as<SSLClient>();
    const auto* tcp = as<TCPClient>();
    return ssl ? ssl->bindAddress : tcp ? tcp->bindAddress : std::string();
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
    logged("clientConnectionFailed", [&] { factory_->clientConnectionFailed(*this, reason); });
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
    logged("clientConnectionLost", [&] { factory_->clientConnectionLost(*this, reason); });
    stopFactoryUnlessConnecting();
  }

 private:
  enum class State { disconnected, connecting, connected };
  void stopFactoryUnlessConnecting() {
    if (state_ != State::disconnected) return;
    started_ = false;
    factory_->doStop();
  }

  MemoryReactor* reactor_;
  Record record_;
  std::shared_ptr<ClientFactory> factory_;
  State state_ = State::disconnected;
  bool started_ = false;
  IOPump* pump_ = nullptr;
  DelayedCall timeout_;
};

// A UDP port, whose datagrams wait here for flush().
class MemoryReactor::Datagrams final : public FakeDatagramTransport {
 public:
  Datagrams(const UDPPort& record, Address host, bool multiple)
      : FakeDatagramTransport(std::move(host), record.maxPacketSize), multiple(multiple), record(record) {}

  void write(std::string_view data, const Address& address) override {
    post([&] { FakeDatagramTransport::write(data, address); });
  }
  void write(std::string_view data) override {
    post([&] { FakeDatagramTransport::write(data); });
  }
  Deferred<void> stopListening() override {
    if (stopped_) return succeed();
    close();
    return stopWaiters_.emplace_back().deferred();
  }

  // What the protocol throws is logged, as with a real port.
  void receive(const Datagram& datagram, const Address& from) {
    logged("datagramReceived", [&] { deliver(datagram.data, from); });
  }
  // Its protocol is told that it was closed; true once, if it was.
  bool stop() {
    if (!disconnecting() || stopped_) return false;
    stopped_ = true;
    if (protocol()) logged("stopProtocol", [&] { protocol()->doStop(); });
    for (const auto& waiter : std::exchange(stopWaiters_, {})) waiter.callback();
    return true;
  }
  std::vector<Datagram> takeUnderWay() { return std::exchange(underWay_, {}); }
  // Where others see its datagrams come from.
  Address source() const {
    Address host = getHost();
    if (!isWildcard(hostOf(host))) return host;
    return literal(std::holds_alternative<IPv6Address>(host) ? "fd00::1" : "10.0.0.1", portOf(host));
  }

  const bool multiple;
  const UDPPort record;  // without the transport

 private:
  template <class F>
  void post(F&& f) {
    const std::size_t before = written().size();
    f();
    if (written().size() > before) underWay_.push_back(written().back());
  }

  std::vector<Datagram> underWay_;
  std::vector<Resolver<void>> stopWaiters_;
  bool stopped_ = false;
};

MemoryReactor::MemoryReactor() : MemoryReactor(std::nullopt, std::nullopt) {}

MemoryReactor::MemoryReactor(std::optional<Failure> listenException, std::optional<Failure> connectException)
    : events_{std::make_unique<detail::ThreePhaseEvent>(), std::make_unique<detail::ThreePhaseEvent>()},
      listenException_(std::move(listenException)),
      connectException_(std::move(connectException)) {
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

void MemoryReactor::checkListening() const {
  checkUsable();
  if (listenException_) listenException_->raise();
}

void MemoryReactor::checkConnecting() const {
  checkUsable();
  if (connectException_) connectException_->raise();
}

// ---- time, startup and shutdown

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

void MemoryReactor::pump(std::initializer_list<Duration> amounts) {
  for (const Duration amount : amounts) {
    advance(amount);
    flush();
  }
}

void MemoryReactor::run() {
  checkUsable();
  if (started_) throw ReactorAlreadyRunning("MemoryReactor::run: it has been called; stop() and flush() end that");
  started_ = true;
  event(SystemEvent::startup).fire([this] { running_ = true; }, [] {});
}

void MemoryReactor::stop() {
  if (!started_ || shutdownIsDue_) throw ReactorNotRunning("stop: the reactor does not run, or was told to stop");
  shutdownIsDue_ = true;
}

void MemoryReactor::shutdown() {
  event(SystemEvent::shutdown)
      .fire(
          [this] {
            running_ = false;
            for (const auto ports = ports_; const auto& port : ports) port->stopListening();
            for (const auto datagrams = datagrams_; const auto& port : datagrams) port->stopListening();
            const ConnectionLost lost("the reactor was stopped");
            for (const auto& pump : connections_) {
              pump->clientIO().finish(lost);
              pump->serverIO().finish(lost);
            }
          },
          [this] { started_ = shutdownIsDue_ = shuttingDown_ = false; });
}

void MemoryReactor::callWhenRunning(UniqueFunction<void()> f) {
  checkUsable();
  if (started_) {
    f();
  } else {
    addSystemEventTrigger(Phase::after, SystemEvent::startup, std::move(f));
  }
}

TriggerID MemoryReactor::addTrigger(Phase phase, SystemEvent event, Trigger trigger) {
  checkUsable();
  const TriggerID id{++lastTrigger_};
  this->event(event).add(phase, id, std::move(trigger));
  return id;
}

void MemoryReactor::removeSystemEventTrigger(TriggerID id) {
  for (const auto& event : events_) {
    if (event->remove(id)) return;
  }
  throw std::invalid_argument("removeSystemEventTrigger: there is no such trigger; it was removed, or has been called");
}

std::size_t MemoryReactor::triggers(Phase phase, SystemEvent event) const {
  return this->event(event).count(phase);
}

// ---- listening and connecting

bool MemoryReactor::isTaken(std::uint16_t port, const std::string& interface) const {
  return std::any_of(ports_.begin(), ports_.end(), [&](const std::shared_ptr<Port>& other) {
    const Address host = other->getHost();
    return !hostOf(host).empty() && portOf(host) == port &&
           (isWildcard(interface) || isWildcard(hostOf(host)) || hostOf(host) == interface);
  });
}

std::uint16_t MemoryReactor::newPort() noexcept {
  if (lastPort_ == 65535) lastPort_ = 49151;
  return ++lastPort_;
}

// Its address; empty if it has none.
std::string MemoryReactor::interfaceOf(const std::string& name) const {
  if (name.empty()) return "0.0.0.0";
  if (literal(name, 0).index() != 0) return name;
  const auto found = names_.find(name);
  return found == names_.end() || found->second.empty() ? std::string() : hostOf(found->second.front());
}

template <class Record>
std::shared_ptr<ListeningPort> MemoryReactor::listenAt(Record record, std::shared_ptr<Factory> factory) {
  detail::require(factory, "a port was given no factory");
  checkListening();
  const std::string interface = interfaceOf(record.interface);
  if (interface.empty()) throw CannotListenError(record.interface, record.port, EADDRNOTAVAIL);
  if (record.port == 0) {
    do record.port = newPort();
    while (isTaken(record.port, interface));
  } else if (isTaken(record.port, interface)) {
    throw CannotListenError(record.interface, record.port, EADDRINUSE);
  }
  const Address host = literal(interface, record.port);
  ports_.push_back(std::make_shared<Port>(*this, std::move(record), std::move(factory), host));
  return ports_.back();
}

template <class Record>
std::shared_ptr<Connector> MemoryReactor::connectTo(Record record, std::shared_ptr<ClientFactory> factory) {
  detail::require(factory, "a connector was given no factory");
  checkConnecting();
  auto attempt = std::make_shared<Attempt>(*this, std::move(record), std::move(factory));
  std::erase_if(connectors_, [](const auto& connector) { return connector.expired(); });
  connectors_.push_back(attempt);
  attempt->connect();
  return attempt;
}

std::shared_ptr<ListeningPort> MemoryReactor::listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog,
                                                        const std::string& interface, std::source_location) {
  return listenAt(TCPServer{port, factory, backlog, interface}, factory);
}

std::shared_ptr<Connector> MemoryReactor::connectTCP(const std::string& host, PortNumber port,
                                                     std::shared_ptr<ClientFactory> factory, Duration timeout,
                                                     const std::string& bindAddress, std::source_location where) {
  return connectTo(TCPClient{host, port, factory, timeout, bindAddress, where}, factory);
}

std::shared_ptr<ListeningPort> MemoryReactor::listenSSL(PortNumber port, std::shared_ptr<Factory> factory,
                                                        const TLSOptions& options, int backlog,
                                                        const std::string& interface, std::source_location) {
  return listenAt(SSLServer{port, factory, options, backlog, interface}, tlsFactory(options, factory, *this));
}

std::shared_ptr<Connector> MemoryReactor::connectSSL(const std::string& host, PortNumber port,
                                                     std::shared_ptr<ClientFactory> factory, const TLSOptions& options,
                                                     Duration timeout, const std::string& bindAddress,
                                                     std::source_location where) {
  return connectTo(SSLClient{host, port, factory, options, timeout, bindAddress, where},
                   tlsFactory(options, factory, *this));
}

std::shared_ptr<ListeningPort> MemoryReactor::listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                                         int backlog, unsigned mode, bool wantPID,
                                                         std::source_location) {
  detail::require(factory, "a port was given no factory");
  checkListening();
  const Address host = UNIXAddress{address};
  for (const auto& port : ports_) {
    if (port->getHost() == host) {
      throw CannotListenError(address, EADDRINUSE, "another port of this MemoryReactor listens there");
    }
  }
  ports_.push_back(
      std::make_shared<Port>(*this, UNIXServer{address, factory, backlog, mode, wantPID}, std::move(factory), host));
  return ports_.back();
}

std::shared_ptr<Connector> MemoryReactor::connectUNIX(const std::string& address,
                                                      std::shared_ptr<ClientFactory> factory, Duration timeout,
                                                      bool checkPID, std::source_location where) {
  return connectTo(UNIXClient{address, factory, timeout, checkPID, where}, factory);
}

std::shared_ptr<ListeningPort> MemoryReactor::adoptStreamPort(int fd, int family, std::shared_ptr<Factory> factory,
                                                              std::source_location) {
  checkListening();
  Address host;
  if (family == AF_UNIX) {
    host = UNIXAddress{std::string(1, '\0') + "adopted-" + std::to_string(newPort())};
  } else if (family == AF_INET || family == AF_INET6) {
    host = literal(family == AF_INET ? "0.0.0.0" : "::", newPort());
  } else {
    throw UnsupportedAddressFamily("adoptStreamPort: the family is none of AF_INET, AF_INET6 and AF_UNIX");
  }
  adoptedPorts_.push_back({fd, family, factory, nullptr});
  ports_.push_back(std::make_shared<Port>(*this, adoptedPorts_.back(), std::move(factory), host));
  return ports_.back();
}

std::shared_ptr<Protocol> MemoryReactor::adoptStreamConnection(int fd, int family, std::shared_ptr<Factory> factory,
                                                               std::source_location where) {
  checkConnecting();
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6) {
    throw UnsupportedAddressFamily("adoptStreamConnection: the family is none of AF_INET, AF_INET6 and AF_UNIX");
  }
  adoptedStreamConnections_.push_back({fd, family, factory});
  const auto address = [&](const char* v4, const char* v6) {
    return family == AF_UNIX ? Address(UNIXAddress{}) : literal(family == AF_INET ? v4 : v6, newPort());
  };
  const Address client = address("10.0.0.1", "fd00::1");
  auto protocol = factory->buildProtocol(client);
  if (!protocol) return nullptr;
  connections_.push_back(std::make_shared<IOPump>(std::make_shared<AccumulatingProtocol>(), protocol, client,
                                                  address("192.168.1.1", "fd00::2"), where));
  connections_.back()->setPieceSize(pieceSize_);
  return protocol;
}

// ---- UDP

bool MemoryReactor::isBound(std::uint16_t port, const std::string& interface, bool multiple) const {
  return std::any_of(datagrams_.begin(), datagrams_.end(), [&](const std::shared_ptr<Datagrams>& other) {
    const Address host = other->getHost();
    return portOf(host) == port && !(multiple && other->multiple) &&
           (isWildcard(interface) || isWildcard(hostOf(host)) || hostOf(host) == interface);
  });
}

std::shared_ptr<MemoryReactor::Datagrams> MemoryReactor::bind(UDPPort record, bool multiple) {
  checkListening();
  if (record.port == 0) {
    do record.port = newPort();
    while (isBound(record.port, record.interface, false));
  } else if (isBound(record.port, record.interface, multiple)) {
    throw CannotListenError(record.interface, record.port, EADDRINUSE);
  }
  const Address host = literal(record.interface.empty() ? "0.0.0.0" : record.interface, record.port);
  if (host.index() == 0) {
    throw InvalidAddressError("listening on " + record.interface +
                              ": an interface is named by its IPv4 or IPv6 address");
  }
  auto port = std::make_shared<Datagrams>(record, host, multiple);
  datagrams_.push_back(port);
  try {
    record.protocol->makeConnection(*port);
  } catch (...) {
    std::erase(datagrams_, port);
    throw;
  }
  return port;
}

std::shared_ptr<DatagramTransport> MemoryReactor::listenUDP(PortNumber port, std::shared_ptr<DatagramProtocol> protocol,
                                                            const std::string& interface, std::size_t maxPacketSize,
                                                            std::source_location where) {
  return bind({port, std::move(protocol), interface, maxPacketSize, nullptr, where}, false);
}

std::shared_ptr<DatagramTransport> MemoryReactor::listenMulticast(PortNumber port,
                                                                  std::shared_ptr<DatagramProtocol> protocol,
                                                                  const std::string& interface,
                                                                  std::size_t maxPacketSize, bool listenMultiple,
                                                                  std::source_location where) {
  return bind({port, std::move(protocol), interface, maxPacketSize, nullptr, where}, listenMultiple);
}

std::shared_ptr<DatagramTransport> MemoryReactor::adoptDatagramPort(int fd, int family,
                                                                    std::shared_ptr<DatagramProtocol> protocol,
                                                                    std::size_t maxPacketSize,
                                                                    std::source_location where) {
  checkListening();
  if (family != AF_INET && family != AF_INET6) {
    throw UnsupportedAddressFamily("adoptDatagramPort: the family is neither AF_INET nor AF_INET6");
  }
  auto port = bind({0, protocol, family == AF_INET6 ? "::" : "", maxPacketSize, nullptr, where}, false);
  adoptedPorts_.push_back({fd, family, nullptr, std::move(protocol)});
  return port;
}

std::vector<MemoryReactor::UDPPort> MemoryReactor::udpPorts() const {
  std::vector<UDPPort> all;
  for (const auto& port : datagrams_) {
    if (port->disconnecting()) continue;
    all.push_back(port->record);
    all.back().transport = port;
    all.back().port = portOf(port->getHost());
  }
  return all;
}

bool MemoryReactor::deliverDatagrams() {
  bool moved = false;
  const auto ports = datagrams_;
  struct UnderWay {
    std::shared_ptr<Datagrams> from;
    Address source;
    std::vector<Datagram> datagrams;
  };
  // What is sent in answer goes in the next round.
  std::vector<UnderWay> all;
  for (const auto& port : ports) all.push_back({port, port->source(), port->takeUnderWay()});
  for (const auto& [from, source, datagrams] : all) {
    for (const Datagram& datagram : datagrams) {
      const std::string to = hostOf(datagram.address);
      const bool broadcast = to == "<broadcast>" || to == "255.255.255.255";
      for (const auto& port : ports) {
        const Address host = port->getHost();
        if (host.index() != datagram.address.index() || portOf(host) != portOf(datagram.address)) continue;
        const bool member = port->groups().contains(to) && (port != from || from->getLoopbackMode());
        const bool isThere =
            !FakeDatagramTransport::isMulticast(to) && (isWildcard(hostOf(host)) || hostOf(host) == to);
        if (!broadcast && !member && !isThere) continue;
        port->receive(datagram, source);
        moved = true;
      }
    }
  }
  for (const auto& port : ports) moved |= port->stop();
  std::erase_if(datagrams_, [](const auto& port) { return port->disconnecting(); });
  return moved;
}

// ---- names

Deferred<std::vector<Address>> MemoryReactor::resolve(const std::string& name, std::source_location where) {
  if (const Address address = literal(name, 0); address.index() != 0) return succeed(std::vector{address}, where);
  if (auto found = names_.find(name); found != names_.end()) return succeed(found->second, where);
  return torsion::fail<std::vector<Address>>(
      DNSLookupError("MemoryReactor: no address for \"" + name + "\": addName() was not told of one"), where);
}

void MemoryReactor::addName(const std::string& name, const std::vector<std::string>& addresses) {
  std::vector<Address> parsed;
  for (const auto& address : addresses) {
    parsed.push_back(literal(address, 0));
    if (parsed.back().index() == 0) throw std::invalid_argument("addName: \"" + address + "\" is not an IP address");
  }
  names_[name] = std::move(parsed);
}

// ---- what was recorded

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

std::vector<MemoryReactor::SSLServer> MemoryReactor::sslServers() const {
  return allOf<SSLServer>(ports_);
}

std::vector<MemoryReactor::SSLClient> MemoryReactor::sslClients() const {
  return allOf<SSLClient>(attempts_);
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
  const auto* client = attempt.as<UNIXClient>();
  for (const auto& port : ports_) {
    if (port->isAt(to) && (!client || !client->checkPID || port->isLocked())) return port.get();
  }
  return nullptr;
}

Failure MemoryReactor::refusal(const Attempt& attempt, const Address& to) const {
  if (attempt.as<UNIXClient>()) {
    return BadFileError("MemoryReactor: nobody listens at " + describe(to) + ", or without the lock that was asked for",
                        ENOENT);
  }
  if (to.index() == 0) {
    return DNSLookupError("MemoryReactor: no address for " + describe(attempt.getDestination()) +
                          ": addName() was not told of one");
  }
  return ConnectionRefusedError("Connection was refused by other side: nobody listens on " + describe(to),
                                ECONNREFUSED);
}

std::shared_ptr<IOPump> MemoryReactor::connect(Attempt& attempt, const Address& to, Factory& server) {
  auto keep = std::static_pointer_cast<Attempt>(attempt.shared_from_this());
  attempt.leave();
  Address from = UNIXAddress{};
  if (!attempt.as<UNIXClient>()) {
    const std::string bound = attempt.bindAddress();
    const bool v6 = std::holds_alternative<IPv6Address>(to);
    from = literal(!bound.empty() ? bound : v6 ? "fd00::1" : "10.0.0.1", newPort());
  }
  std::optional<Failure> clientFailure, serverFailure;
  auto clientProtocol = build(*attempt.factory(), to, clientFailure);
  auto serverProtocol = build(server, from, serverFailure);
  // A factory that refuses closes the connection, which the other side sees open and end.
  const bool clientRefused = !clientProtocol, serverRefused = !serverProtocol;
  if (clientRefused) clientProtocol = std::make_shared<Protocol>();
  if (serverRefused) serverProtocol = std::make_shared<Protocol>();
  auto pump = std::make_shared<IOPump>(clientProtocol, serverProtocol, from, to, attempt.where());
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

std::shared_ptr<IOPump> MemoryReactor::connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                                               std::source_location where) {
  checkUsable();
  connections_.push_back(std::make_shared<IOPump>(std::move(client), std::move(server), IPv4Address{"10.0.0.1", 12345},
                                                  IPv4Address{"192.168.1.1", 54321}, where));
  connections_.back()->setPieceSize(pieceSize_);
  return connections_.back();
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
    if (shutdownIsDue_ && !std::exchange(shuttingDown_, true)) {
      shutdown();
      moved = true;
    }
    moved |= deliverDatagrams();
    const auto open = connections();
    for (const auto& pump : open) moved |= pump->pump();
    std::erase_if(connections_, [](const auto& pump) { return !pump->connected(); });
    if (!moved) return round != 0;
  }
  throw std::runtime_error(
      "MemoryReactor::flush: still busy after 1000 rounds; does something connect or answer for ever?");
}

}  // namespace torsion
