// Protocol and Factory: what users write. A Protocol handles one connection; a Factory makes one for each.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <deferred/detail/step.hpp>
#include <deferred/failure.hpp>
#include <deferred/function.hpp>
#include <reactor/address.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// A callback that keeps something alive, such as a protocol; see Protocol::hold. It can go wherever an F can.
template <class F>
class Held {
 public:
  Held(std::shared_ptr<const void> kept, F f) : kept_(std::move(kept)), f_(std::move(f)) {}

  template <class... Args>
    requires std::is_invocable_v<F&, Args...>
  decltype(auto) operator()(Args&&... args) {
    return std::invoke(f_, std::forward<Args>(args)...);
  }

 private:
  std::shared_ptr<const void> kept_;
  F f_;
};

namespace detail {
/// As an errback it catches what F does.
template <class F>
struct OneParameter<Held<F>> {
  using Type = Caught<F>;
};
}  // namespace detail

/// One connection's worth of protocol (Twisted's Protocol). Derive from it and override what you need.
/// The transport keeps it from makeConnection until connectionLost has returned; keep a shared_ptr to keep it longer.
class Protocol : public std::enable_shared_from_this<Protocol> {
 public:
  Protocol() noexcept = default;
  Protocol(const Protocol&) = delete;
  Protocol& operator=(const Protocol&) = delete;
  virtual ~Protocol();

  /// The connection is up; transport() may be written to.
  virtual void connectionMade() {}
  /// Bytes arrived, cut anywhere. `data` is valid during the call only. What it throws is logged and ends the
  /// connection, with connectionLost getting that exception.
  virtual void dataReceived(std::string_view data) { (void)data; }
  /// The connection is gone; the last call a Protocol gets. See reactor/error.hpp for the reasons.
  virtual void connectionLost(const Failure& reason) { (void)reason; }

  /// Never dangles: the inert transport before makeConnection and after the connection is gone.
  Transport& transport() const noexcept { return *transport_; }
  /// True between makeConnection and connectionLost.
  bool connected() const noexcept { return transport_->protocol() == this; }

  /// Calls f() once the connection is gone, after connectionLost has returned. What it throws is logged.
  void notifyOnDisconnect(UniqueFunction<void()> f);

  /// Called by transports: attaches `transport` and calls connectionMade(). Called by a protocol that gives its
  /// transport to another, `next->makeConnection(transport())`, from any callback: from then on that one is called. It
  /// gets what the first has of the stream and did not deliver, too: when the call that this happens in returns to the
  /// transport, or else after connectionMade().
  void makeConnection(Transport& transport);
  /// Called by transports: attaches `transport`, which keeps this protocol alive from now on, in place of the present
  /// one, and calls nothing. The protocol that `transport` fed before, if any, is left without one (startTLS).
  void attachTransport(Transport& transport) noexcept;
  /// Called by transports after connectionLost() has returned, and by ~Transport. May destroy this protocol.
  void detachTransport() noexcept;

  /// Called when another protocol has taken the transport: for a protocol that keeps bytes until there are more of
  /// them. Gives those that were not delivered, and forgets them.
  virtual std::string takeUnread() { return {}; }

  /// Wraps a callback so that this protocol lives until the callback has been run or dropped. Use it wherever a lambda
  /// captures `this`:
  ///   d.addCallback(hold([this](std::string page) { transport().write(page); }));
  template <class F>
  Held<F> hold(F f) {
    return Held<F>(weak_from_this().lock(), std::move(f));
  }

 private:
  Transport* transport_ = &Transport::inert();
  std::unique_ptr<std::vector<UniqueFunction<void()>>> onDisconnect_;
};

/// Mix in to keep a connection whose peer has closed only its writing side (Twisted's IHalfCloseableProtocol). Without
/// it the peer's end of file is connectionLost(ConnectionDone).
class HalfCloseableProtocol {
 public:
  /// The peer will send no more. What it throws ends the connection.
  virtual void readConnectionLost() = 0;
  /// loseWriteConnection() has taken effect.
  virtual void writeConnectionLost() = 0;

 protected:
  ~HalfCloseableProtocol() = default;
};

/// Makes protocols for listening ports and client connections (Twisted's Factory).
class Factory {
 public:
  virtual ~Factory() = default;
  /// A protocol for the new connection with `peer`, or null to refuse it. What it throws is logged, and refuses too.
  virtual std::shared_ptr<Protocol> buildProtocol(const Address& peer) = 0;

  /// True if the client sends in connectionMade, as with HTTP and TLS. connectTCP then saves a packet: the end of TCP's
  /// handshake goes with what the client sends. With any other protocol the server would hear nothing for 200 ms.
  virtual bool clientSpeaksFirst() const noexcept { return false; }

  /// Before the first, and after the last, port or connector that uses this factory.
  virtual void startFactory() {}
  virtual void stopFactory() {}

  /// Called by ports and connectors; count users and call startFactory and stopFactory.
  void doStart() {
    if (numPorts_++ > 0) return;
    try {
      startFactory();
    } catch (...) {
      --numPorts_;
      throw;
    }
  }
  void doStop() {
    if (numPorts_ > 0 && --numPorts_ == 0) stopFactory();
  }
  int numPorts() const noexcept { return numPorts_; }

 private:
  int numPorts_ = 0;
};

/// A Factory from a callable that returns std::shared_ptr<P>, with or without the Address as its argument:
///   listenTCP(8000, makeFactory([] { return std::make_shared<Echo>(); }));
template <class F>
std::shared_ptr<Factory> makeFactory(F f) {
  class CallableFactory final : public Factory {
   public:
    explicit CallableFactory(F f) : f_(std::move(f)) {}
    std::shared_ptr<Protocol> buildProtocol(const Address& peer) override {
      if constexpr (std::is_invocable_v<F&, const Address&>) {
        return f_(peer);
      } else {
        return f_();
      }
    }

   private:
    F f_;
  };
  return std::make_shared<CallableFactory>(std::move(f));
}

/// A Factory whose protocols are P(args...) (Twisted's Factory.forProtocol).
template <class P, class... Args>
std::shared_ptr<Factory> forProtocol(Args... args) {
  return makeFactory([args...] { return std::make_shared<P>(args...); });
}

class Connector;

/// A Factory for connectTCP that hears how the attempt and the connection went (Twisted's ClientFactory). Each hook may
/// call connector.connect() to try again.
class ClientFactory : public Factory {
 public:
  virtual void startedConnecting(Connector& connector) { (void)connector; }
  /// The reason is a ConnectError, DNSLookupError, ...
  virtual void clientConnectionFailed(Connector& connector, const Failure& reason) { (void)connector, (void)reason; }
  /// After the protocol's connectionLost.
  virtual void clientConnectionLost(Connector& connector, const Failure& reason) { (void)connector, (void)reason; }
};

}  // namespace torsion
