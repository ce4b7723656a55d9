#include <reactor/endpoints.hpp>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <optional>
#include <vector>

#include <deferred/detail/require.hpp>
#include <deferred/detail/take.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>

namespace torsion {
namespace {

using Connected = std::shared_ptr<Protocol>;

constexpr Duration kAttemptDelay = std::chrono::milliseconds(250);  // RFC 8305, 8

// Stands in for the user's protocol until connectionMade, to tell when that one's has returned. From then on the
// transport feeds the user's protocol itself.
class ConnectionWatcher final : public Protocol {
 public:
  ConnectionWatcher(Connected wrapped, Resolver<Connected> result)
      : wrapped_(std::move(wrapped)), result_(std::move(result)) {}
  void connectionMade() override {
    const auto self = shared_from_this();  // the transport lets go of this one
    try {
      wrapped_->makeConnection(transport());
    } catch (...) {
      if (!result_.called()) result_.errback(Failure::current());
      throw;
    }
    if (result_.called()) {  // cancelled in the call
      wrapped_->transport().loseConnection();
    } else {
      result_.callback(wrapped_);
    }
  }

 private:
  Connected wrapped_;
  Resolver<Connected> result_;
};

// Tells a Deferred how an attempt went.
class EndpointFactory final : public ClientFactory {
 public:
  EndpointFactory(std::shared_ptr<Factory> wrapped, Resolver<Connected> result)
      : wrapped_(std::move(wrapped)), result_(std::move(result)) {}

  Connected buildProtocol(const Address& peer) override {
    // The factory lives as long as the connection; the Deferred need not.
    const Resolver<Connected> result = *std::exchange(result_, std::nullopt);
    Connected protocol;
    try {
      protocol = wrapped_->buildProtocol(peer);
      if (!protocol) throw NoProtocol("the factory refused the connection with " + describe(peer));
    } catch (...) {
      if (!result.called()) result.errback(Failure::current());
      return nullptr;
    }
    if (result.called()) return nullptr;  // cancelled meanwhile: nobody is there for the connection
    return std::make_shared<ConnectionWatcher>(std::move(protocol), result);
  }
  bool clientSpeaksFirst() const noexcept override { return wrapped_->clientSpeaksFirst(); }
  void startFactory() override { wrapped_->doStart(); }
  void stopFactory() override { wrapped_->doStop(); }
  void clientConnectionFailed(Connector&, const Failure& reason) override {
    if (auto result = std::exchange(result_, std::nullopt); result && !result->called()) result->errback(reason);
  }

 private:
  std::shared_ptr<Factory> wrapped_;
  std::optional<Resolver<Connected>> result_;
};

struct Options {
  Duration timeout;
  std::string bindAddress;
  std::source_location where;
};

// `start` begins an attempt with the factory that it is given, and returns the connector. What it throws, the user's
// startFactory() perhaps, is the outcome.
template <class F>
Deferred<Connected> attempt(std::shared_ptr<Factory> factory, std::source_location where, F&& start) {
  detail::require(factory, "connect: there is no factory");
  Resolver<Connected> result(where);
  Deferred<Connected> deferred = result.deferred();
  try {
    auto connector = start(std::make_shared<EndpointFactory>(std::move(factory), result));
    if (result.called()) return deferred;
    result.onCancel([connector](const Resolver<Connected>& r) {
      r.errback(ConnectingCancelledError("the attempt to connect to " + describe(connector->getDestination()) +
                                         " was cancelled"));
      connector->disconnect();
    });
  } catch (...) {
    if (!result.called()) result.errback(Failure::current());
  }
  return deferred;
}

Deferred<Connected> connectTo(NetworkReactor& reactor, const std::string& host, PortNumber port,
                              std::shared_ptr<Factory> factory, const Options& options) {
  return attempt(std::move(factory), options.where, [&](std::shared_ptr<ClientFactory> client) {
    return reactor.connectTCP(host, port, std::move(client), options.timeout, options.bindAddress, options.where);
  });
}

// The addresses that are still to be tried. The families take turns, beginning with that of the first address
// (RFC 8305, 4); each keeps its order.
class AddressQueue {
 public:
  void push(const Address& address) {
    const std::string host = detail::literalOf(address);
    if (host.empty()) return;
    const bool v6 = std::holds_alternative<IPv6Address>(address);
    if (!begun_) nextIsV6_ = v6;
    begun_ = true;
    (v6 ? v6_ : v4_).push_back(host);
  }
  bool empty() const { return v4_.empty() && v6_.empty(); }
  std::string pop() {
    const bool v6 = nextIsV6_ ? !v6_.empty() : v4_.empty();
    nextIsV6_ = !v6;
    return detail::takeFront(v6 ? v6_ : v4_);
  }

 private:
  std::deque<std::string> v4_, v6_;
  bool begun_ = false;
  bool nextIsV6_ = false;
};

// One connect() to a name. Lives in the callbacks of what it waits for.
class HappyEyeballs final : public std::enable_shared_from_this<HappyEyeballs> {
 public:
  HappyEyeballs(NetworkReactor& reactor, std::string host, std::uint16_t port, std::shared_ptr<Factory> factory,
                Options options, Duration attemptDelay, bool onlyV6)
      : reactor_(reactor),
        host_(std::move(host)),
        port_(port),
        factory_(std::move(factory)),
        options_(std::move(options)),
        attemptDelay_(attemptDelay),
        onlyV6_(onlyV6),
        result_(std::in_place, options_.where) {}

  Deferred<Connected> start() {
    const auto self = shared_from_this();
    const std::source_location& where = options_.where;
    Deferred<Connected> deferred = result_->deferred();
    result_->onCancel([weak = weak_from_this(), host = host_](const Resolver<Connected>& r) {
      if (auto self = weak.lock()) self->giveUp();
      if (!r.called()) r.errback(ConnectingCancelledError("the attempt to connect to " + host + " was cancelled"));
    });
    if (options_.timeout > Duration::zero()) {
      limit_ = reactor_.callLater(options_.timeout, [self] { self->lookUpTakesTooLong(); }, where);
    }
    auto found = [self](const std::vector<Address>& addresses) { self->found(addresses); };
    auto resolving = reactor_.resolveHostName(host_, std::move(found), where)
                         .addCallbacks([self] { self->resolved(std::nullopt); },
                                       [self](const Failure& f) { self->resolved(f); }, where);
    if (!result_) {
      resolving.cancel();
    } else if (!lookUpIsOver_) {
      resolving_ = std::move(resolving);
    }
    return deferred;
  }

 private:
  void found(const std::vector<Address>& addresses) {
    for (const Address& address : addresses) {
      if (!onlyV6_ || std::holds_alternative<IPv6Address>(address)) queue_.push(address);
    }
    if (!result_ || queue_.empty()) return;
    if (running_ == 0) return tryNext();
    if (!timer_.active()) waitForNext();
  }

  // No more addresses will be found.
  void resolved(const std::optional<Failure>& failure) {
    lookUpIsOver_ = true;
    detail::drop(resolving_);
    if (limit_.active()) limit_.cancel();
    if (!result_) return;
    if (tried_) return finishIfAllFailed();
    const char* const missing =
        onlyV6_ ? " has no IPv6 address; connect with HostnameEndpoint or over IPv4" : " has no address";
    finish(failure ? *failure : Failure(DNSLookupError("the name " + host_ + missing)));
  }

  void lookUpTakesTooLong() {
    if (tried_) {  // it will do without the rest
      if (auto resolving = detail::take(resolving_)) resolving->cancel();
      return;
    }
    const double seconds = std::chrono::duration<double>(options_.timeout).count();
    finish(Failure(ConnectTimeoutError("connecting to " + host_ + ": no address of that name was found within " +
                                       std::to_string(seconds) + " s")));
  }

  void waitForNext() {
    const Duration passed = reactor_.seconds() - lastStart_;
    timer_ = reactor_.callLater(
        std::max(attemptDelay_ - passed, Duration::zero()), [self = shared_from_this()] { self->tryNext(); },
        options_.where);
  }

  void tryNext() {
    const std::string host = queue_.pop();
    tried_ = true;
    lastStart_ = reactor_.seconds();
    if (!queue_.empty()) waitForNext();
    ++running_;
    attempts_.push_back(connectTo(reactor_, host, port_, factory_, options_)
                            .addCallbacks([self = shared_from_this()](Connected protocol) { self->finish(protocol); },
                                          [self = shared_from_this()](const Failure& f) { self->failed(f); },
                                          options_.where));
    if (!result_) {  // it was over at once
      for (auto& attempt : detail::take(attempts_)) attempt.cancel();
    }
  }

  void failed(const Failure& failure) {
    --running_;
    lastFailure_ = failure;
    if (!result_) return;
    if (queue_.empty()) return finishIfAllFailed();
    if (timer_.active()) timer_.cancel();
    tryNext();
  }

  void finishIfAllFailed() {
    if (running_ == 0 && queue_.empty() && lookUpIsOver_) finish(*lastFailure_);
  }

  void finish(Result<Connected> outcome) {
    if (!result_) return;
    const Resolver<Connected> result = *result_;
    giveUp();
    if (result.called()) {  // cancelled meanwhile by the factory's stopFactory(), say
      if (outcome) outcome.value()->transport().loseConnection();
    } else {
      result.resolve(std::move(outcome));
    }
  }

  // Ends all that is under way; what it fires finds no result to set.
  void giveUp() {
    const auto self = shared_from_this();
    result_.reset();
    for (DelayedCall* call : {&timer_, &limit_}) {
      if (call->active()) call->cancel();
    }
    if (auto resolving = detail::take(resolving_)) resolving->cancel();
    for (auto& attempt : detail::take(attempts_)) attempt.cancel();
  }

  NetworkReactor& reactor_;
  const std::string host_;
  const std::uint16_t port_;
  const std::shared_ptr<Factory> factory_;
  const Options options_;
  const Duration attemptDelay_;
  const bool onlyV6_;
  std::optional<Resolver<Connected>> result_;
  std::optional<Deferred<void>> resolving_;
  std::vector<Deferred<void>> attempts_;
  AddressQueue queue_;
  std::optional<Failure> lastFailure_;
  int running_ = 0;
  bool tried_ = false;
  bool lookUpIsOver_ = false;
  Duration lastStart_{};
  DelayedCall timer_;  // for the next address
  DelayedCall limit_;  // of the look-up
};

Deferred<Connected> connectToName(NetworkReactor& reactor, const std::string& host, std::uint16_t port,
                                  std::shared_ptr<Factory> factory, Options options, Duration attemptDelay,
                                  bool onlyV6) {
  detail::require(factory, "connect: there is no factory");
  return std::make_shared<HappyEyeballs>(reactor, host, port, std::move(factory), std::move(options), attemptDelay,
                                         onlyV6)
      ->start();
}

using Listening = std::shared_ptr<ListeningPort>;

// What `start` returns, or throws.
template <class F>
Deferred<Listening> listening(const std::shared_ptr<Factory>& factory, std::source_location where, F&& start) {
  detail::require(factory, "listen: there is no factory");
  try {
    return succeed<Listening>(start(), where);
  } catch (...) {
    return fail<Listening>(Failure::current(), where);
  }
}

}  // namespace

Deferred<Connected> TCP4ClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  return connectTo(reactor_, host_, port_, std::move(factory), {timeout_, bindAddress_, where});
}

Deferred<Listening> TCP4ServerEndpoint::listen(std::shared_ptr<Factory> factory, std::source_location where) {
  return listening(factory, where, [&] { return reactor_.listenTCP(port_, factory, backlog_, interface_, where); });
}

Deferred<Connected> TCP6ClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  Options options{timeout_, bindAddress_, where};
  if (isIPv6Address(host_)) return connectTo(reactor_, host_, port_, std::move(factory), options);
  return connectToName(reactor_, host_, port_, std::move(factory), std::move(options), kAttemptDelay, true);
}

Deferred<Listening> TCP6ServerEndpoint::listen(std::shared_ptr<Factory> factory, std::source_location where) {
  if (interface_.empty() || isIPAddress(interface_) || isIPv6Address(interface_)) {
    return listening(factory, where, [&] { return reactor_.listenTCP(port_, factory, backlog_, interface_, where); });
  }
  // Of a name listenTCP would take the first address, of whatever family.
  detail::require(factory, "listen: there is no factory");
  return reactor_.resolve(interface_, where)
      .addCallbacks(
          [&reactor = reactor_, port = port_, factory, backlog = backlog_, interface = interface_,
           where](const std::vector<Address>& addresses) {
            const auto v6 = std::find_if(addresses.begin(), addresses.end(), [](const Address& address) {
              return std::holds_alternative<IPv6Address>(address);
            });
            if (v6 == addresses.end()) throw CannotListenError(interface, EADDRNOTAVAIL, "it has no IPv6 address");
            return reactor.listenTCP(port, factory, backlog, detail::literalOf(*v6), where);
          },
          [interface = interface_](const DNSLookupError& e) -> Listening {
            throw CannotListenError(interface, EADDRNOTAVAIL, e.what());
          },
          where);
}

Deferred<Connected> UNIXClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  return attempt(std::move(factory), where, [&](std::shared_ptr<ClientFactory> client) {
    return reactor_.connectUNIX(path_, std::move(client), timeout_, checkPID_, where);
  });
}

Deferred<Listening> UNIXServerEndpoint::listen(std::shared_ptr<Factory> factory, std::source_location where) {
  return listening(factory, where,
                   [&] { return reactor_.listenUNIX(address_, factory, backlog_, mode_, wantPID_, where); });
}

Deferred<Connected> HostnameEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  Options options{timeout_, bindAddress_, where};
  if (isIPAddress(host_) || isIPv6Address(host_)) {
    return connectTo(reactor_, host_, port_, std::move(factory), options);
  }
  return connectToName(reactor_, host_, port_, std::move(factory), std::move(options), attemptDelay_, false);
}

}  // namespace torsion
