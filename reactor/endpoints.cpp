#include <reactor/endpoints.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>

namespace torsion {
namespace {

using Connected = std::shared_ptr<Protocol>;

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
    if (!result_.called()) result_.callback(wrapped_);
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
    try {
      Connected protocol = wrapped_->buildProtocol(peer);
      if (!protocol) throw NoProtocol("the factory refused the connection with " + describe(peer));
      return std::make_shared<ConnectionWatcher>(std::move(protocol), result);
    } catch (...) {
      result.errback(Failure::current());
      return nullptr;
    }
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

// `start` begins an attempt with the factory that it is given, and returns the connector.
template <class F>
Deferred<Connected> attempt(std::shared_ptr<Factory> factory, F&& start) {
  detail::require(factory, "connect: there is no factory");
  Resolver<Connected> result;
  Deferred<Connected> deferred = result.deferred();
  auto connector = start(std::make_shared<EndpointFactory>(std::move(factory), result));
  result.onCancel([connector](Resolver<Connected> r) {
    r.errback(ConnectingCancelledError("the attempt to connect to " + describe(connector->getDestination()) +
                                       " was cancelled"));
    connector->disconnect();
  });
  return deferred;
}

Deferred<Connected> connectTo(NetworkReactor& reactor, const std::string& host, std::uint16_t port,
                              std::shared_ptr<Factory> factory, const Options& options) {
  return attempt(std::move(factory), [&](std::shared_ptr<ClientFactory> client) {
    return reactor.connectTCP(host, port, std::move(client), options.timeout, options.bindAddress, options.where);
  });
}

// The families take turns, beginning with that of the first address (RFC 8305, 4); each keeps its order.
std::vector<std::string> interleave(const std::vector<Address>& addresses) {
  std::vector<std::string> first, second, mixed;
  for (const Address& address : addresses) {
    std::string host = detail::literalOf(address);
    if (!host.empty()) (address.index() == addresses[0].index() ? first : second).push_back(std::move(host));
  }
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) mixed.push_back(std::move(first[i]));
    if (i < second.size()) mixed.push_back(std::move(second[i]));
  }
  return mixed;
}

// One HostnameEndpoint::connect. Lives in the callbacks of what it waits for.
class HappyEyeballs final : public std::enable_shared_from_this<HappyEyeballs> {
 public:
  HappyEyeballs(NetworkReactor& reactor, std::string host, std::uint16_t port, std::shared_ptr<Factory> factory,
                Options options, Duration attemptDelay)
      : reactor_(reactor),
        host_(std::move(host)),
        port_(port),
        factory_(std::move(factory)),
        options_(std::move(options)),
        attemptDelay_(attemptDelay) {}

  Deferred<Connected> start() {
    Deferred<Connected> deferred = result_->deferred();
    result_->onCancel([weak = weak_from_this(), host = host_](Resolver<Connected> r) {
      if (auto self = weak.lock()) self->giveUp();
      r.errback(ConnectingCancelledError("the attempt to connect to " + host + " was cancelled"));
    });
    resolving_ = reactor_.resolve(host_).addCallbacks(
        [self = shared_from_this()](std::vector<Address> addresses) { self->resolved(addresses); },
        [self = shared_from_this()](const Failure& failure) { self->finish(failure); });
    return deferred;
  }

 private:
  void resolved(const std::vector<Address>& addresses) {
    hosts_ = interleave(addresses);
    if (hosts_.empty()) return finish(Failure(DNSLookupError("the name " + host_ + " has no address")));
    tryNext();
  }

  void tryNext() {
    const std::string host = std::move(hosts_[next_++]);
    if (next_ < hosts_.size()) {
      timer_ = reactor_.callLater(attemptDelay_, [self = shared_from_this()] { self->tryNext(); }, options_.where);
    }
    ++running_;
    attempts_.push_back(connectTo(reactor_, host, port_, factory_, options_)
                            .addCallbacks([self = shared_from_this()](Connected protocol) { self->finish(protocol); },
                                          [self = shared_from_this()](const Failure& f) { self->failed(f); }));
  }

  void failed(const Failure& failure) {
    --running_;
    if (!result_) return;
    if (next_ < hosts_.size()) {
      if (timer_.active()) timer_.cancel();
      tryNext();
    } else if (running_ == 0) {
      finish(failure);
    }
  }

  void finish(Result<Connected> outcome) {
    if (!result_) return;
    const Resolver<Connected> result = *result_;
    giveUp();
    if (outcome) {
      result.callback(std::move(outcome).value());
    } else {
      result.errback(std::move(outcome).failure());
    }
  }

  // Ends all that is under way; what it fires finds no result to set.
  void giveUp() {
    result_.reset();
    if (timer_.active()) timer_.cancel();
    if (resolving_) std::exchange(resolving_, std::nullopt)->cancel();
    for (auto& attempt : std::exchange(attempts_, {})) attempt.cancel();
  }

  NetworkReactor& reactor_;
  const std::string host_;
  const std::uint16_t port_;
  const std::shared_ptr<Factory> factory_;
  const Options options_;
  const Duration attemptDelay_;
  std::optional<Resolver<Connected>> result_{std::in_place};
  std::optional<Deferred<void>> resolving_;
  std::vector<Deferred<void>> attempts_;
  std::vector<std::string> hosts_;
  std::size_t next_ = 0;
  int running_ = 0;
  DelayedCall timer_;
};

}  // namespace

Deferred<Connected> TCP4ClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  return connectTo(reactor_, host_, port_, std::move(factory), {timeout_, bindAddress_, where});
}

Deferred<std::shared_ptr<ListeningPort>> TCP4ServerEndpoint::listen(std::shared_ptr<Factory> factory,
                                                                    std::source_location where) {
  return execute([&] { return reactor_.listenTCP(port_, std::move(factory), backlog_, interface_, where); });
}

Deferred<Connected> TCP6ClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  const Options options{timeout_, bindAddress_, where};
  if (isIPv6Address(host_)) return connectTo(reactor_, host_, port_, std::move(factory), options);
  using Addresses = std::vector<Address>;
  return reactor_.resolve(host_)
      .addErrback([host = host_](const CancelledError&) -> Result<Addresses> {
        return Failure(ConnectingCancelledError("the attempt to connect to " + host + " was cancelled"));
      })
      .addCallback([&reactor = reactor_, host = host_, port = port_, factory = std::move(factory),
                    options](const Addresses& addresses) {
        for (const Address& address : addresses) {
          if (!std::holds_alternative<IPv6Address>(address)) continue;
          return connectTo(reactor, detail::literalOf(address), port, factory, options);
        }
        throw DNSLookupError("the name " + host + " has no IPv6 address; connect with HostnameEndpoint or over IPv4");
      });
}

Deferred<std::shared_ptr<ListeningPort>> TCP6ServerEndpoint::listen(std::shared_ptr<Factory> factory,
                                                                    std::source_location where) {
  return execute([&] { return reactor_.listenTCP(port_, std::move(factory), backlog_, interface_, where); });
}

Deferred<Connected> UNIXClientEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  return attempt(std::move(factory), [&](std::shared_ptr<ClientFactory> client) {
    return reactor_.connectUNIX(path_, std::move(client), timeout_, checkPID_, where);
  });
}

Deferred<std::shared_ptr<ListeningPort>> UNIXServerEndpoint::listen(std::shared_ptr<Factory> factory,
                                                                    std::source_location where) {
  return execute([&] { return reactor_.listenUNIX(address_, std::move(factory), backlog_, mode_, wantPID_, where); });
}

Deferred<Connected> HostnameEndpoint::connect(std::shared_ptr<Factory> factory, std::source_location where) {
  if (isIPAddress(host_) || isIPv6Address(host_)) {
    return connectTo(reactor_, host_, port_, std::move(factory), {timeout_, bindAddress_, where});
  }
  return std::make_shared<HappyEyeballs>(reactor_, host_, port_, std::move(factory),
                                         Options{timeout_, bindAddress_, where}, attemptDelay_)
      ->start();
}

}  // namespace torsion
