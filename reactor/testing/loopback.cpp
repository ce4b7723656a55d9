#include <reactor/testing/loopback.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <deferred/errors.hpp>
#include <deferred/failure.hpp>
#include <deferred/resolver.hpp>
#include <reactor/address.hpp>

namespace torsion {

namespace {
// While nothing is to be pumped the connection waits in a call that is due so late; that keeps it.
constexpr Duration kIdle = std::chrono::hours(24 * 365);
}  // namespace

class Loopback final : public std::enable_shared_from_this<Loopback> {
 public:
  Loopback(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, Time& time, PumpPolicy policy,
           const std::source_location& where)
      : pump_(std::move(client), std::move(server), IPv4Address{"10.0.0.1", 12345}, IPv4Address{"192.168.1.1", 54321},
              where),
        time_(time),
        where_(where),
        over_(std::in_place, where) {
    if (policy) pump_.setPumpPolicy(std::move(policy));
  }

  Deferred<void> start() {
    Deferred<void> over = over_->deferred();
    over_->onCancel([weak = weak_from_this()](const Resolver<void>&) {
      const auto self = weak.lock();
      if (!self) return;
      self->over_.reset();
      self->pump_.clientIO().abortConnection();
      self->pump_.serverIO().abortConnection();
    });
    for (FakeTransport* end : {&pump_.clientIO(), &pump_.serverIO()}) {
      end->whenChanged_ = [this] {
        woken_ = true;
        if (next_.active()) next_.reset(Duration::zero());
      };
    }
    schedule(Duration::zero());
    return over;
  }

 private:
  void schedule(Duration delay) {
    next_ = time_.callLater(delay, [self = shared_from_this()] { self->turn(); }, where_);
  }
  void turn() {
    woken_ = false;
    const bool moved = pump_.pump();
    if (pump_.connected()) return schedule(moved || woken_ ? Duration::zero() : kIdle);
    if (over_) std::exchange(over_, std::nullopt)->callback();
  }

  IOPump pump_;
  Time& time_;
  std::source_location where_;
  std::optional<Resolver<void>> over_;
  DelayedCall next_;
  bool woken_ = false;
};

namespace {

// Gives one protocol, and says when its connection is over.
class OneConnection final : public ClientFactory, public std::enable_shared_from_this<OneConnection> {
 public:
  OneConnection(std::shared_ptr<Protocol> protocol, const std::source_location& where)
      : protocol_(std::move(protocol)), over_(where) {}

  Deferred<void> over() {
    over_.onCancel([weak = weak_from_this()](const Resolver<void>& over) {
      over.errback(CancelledError());
      if (const auto self = weak.lock()) self->end();
    });
    return over_.deferred();
  }
  void startedConnecting(Connector& connector) override { connector_ = connector.weak_from_this(); }
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    if (!protocol_) return nullptr;
    built_ = protocol_;
    protocol_->notifyOnDisconnect([over = over_] {
      if (!over.called()) over.callback();
    });
    return std::exchange(protocol_, nullptr);
  }
  void clientConnectionFailed(Connector&, const Failure& reason) override {
    if (!over_.called()) over_.errback(reason);
  }

 private:
  void end() {
    if (const auto protocol = built_.lock()) {
      protocol->transport().abortConnection();
    } else if (const auto connector = connector_.lock()) {
      connector->disconnect();
    }
  }

  std::shared_ptr<Protocol> protocol_;
  std::weak_ptr<Protocol> built_;
  std::weak_ptr<Connector> connector_;
  Resolver<void> over_;
};

Deferred<void> closeWhenOver(std::shared_ptr<ListeningPort> port, Deferred<void> client, Deferred<void> server) {
  std::optional<Failure> failed;
  try {
    co_await std::move(client);
  } catch (...) {
    failed = Failure::current();
  }
  if (failed) {
    std::move(server).addErrback([](const Failure&) {});  // there may never have been a connection
  } else {
    co_await std::move(server);
  }
  co_await port->stopListening();
  if (failed) failed->raise();
}

// `listen` and `connect` are given a factory each.
template <class Listen, class Connect>
Deferred<void> overSocket(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, Listen listen,
                          Connect connect, const std::source_location& where) {
  auto serverFactory = std::make_shared<OneConnection>(std::move(server), where);
  auto clientFactory = std::make_shared<OneConnection>(std::move(client), where);
  Deferred<void> serverOver = serverFactory->over();
  Deferred<void> clientOver = clientFactory->over();
  std::shared_ptr<ListeningPort> port = listen(serverFactory);
  connect(port->getHost(), clientFactory);
  return closeWhenOver(std::move(port), std::move(clientOver), std::move(serverOver));
}

}  // namespace

Deferred<void> loopbackAsync(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, Time& time,
                             PumpPolicy policy, std::source_location where) {
  return std::make_shared<Loopback>(std::move(server), std::move(client), time, std::move(policy), where)->start();
}

Deferred<void> loopbackTCP(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, TCP& tcp,
                           std::source_location where) {
  return overSocket(
      std::move(server), std::move(client),
      [&](std::shared_ptr<Factory> factory) { return tcp.listenTCP(0, std::move(factory), 50, "127.0.0.1", where); },
      [&](const Address& address, std::shared_ptr<ClientFactory> factory) {
        tcp.connectTCP("127.0.0.1", std::get<IPv4Address>(address).port, std::move(factory), std::chrono::seconds(30),
                       "", where);
      },
      where);
}

Deferred<void> loopbackUNIX(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, UNIX& sockets,
                            std::source_location where) {
  static std::atomic<unsigned> count{0};
  const std::string name =
      std::string(1, '\0') + "torsion-loopback-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  return overSocket(
      std::move(server), std::move(client),
      [&](std::shared_ptr<Factory> factory) {
        return sockets.listenUNIX(name, std::move(factory), 50, 0600, false, where);
      },
      [&](const Address&, std::shared_ptr<ClientFactory> factory) {
        sockets.connectUNIX(name, std::move(factory), std::chrono::seconds(30), false, where);
      },
      where);
}

}  // namespace torsion
