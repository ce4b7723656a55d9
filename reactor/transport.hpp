// Transport: where a Protocol writes. TCP, TLS, pipes and the in-memory ones of reactor/testing/ all are Transports.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <reactor/address.hpp>

namespace torsion {

class Protocol;

/// What fills a transport: paused when the transport's buffer is full, resumed when it is empty again
/// (Twisted's IPushProducer and IPullProducer).
class Producer {
 public:
  virtual void pauseProducing() = 0;
  virtual void resumeProducing() = 0;
  /// The connection is gone; produce no more.
  virtual void stopProducing() = 0;

 protected:
  ~Producer() = default;
};

/// A connection as its Protocol sees it (Twisted's ITransport and ITCPTransport). It is itself a Producer of the bytes
/// that arrive: pauseProducing() stops the calls of dataReceived until resumeProducing().
///
/// Nothing here blocks, throws for an error of the network, or calls back into the protocol before it returns:
/// connectionLost always comes on a later turn.
class Transport : public Producer {
 public:
  Transport() noexcept = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  /// A protocol that outlives its transport is given the inert one.
  virtual ~Transport();

  /// Queues `data` (it is copied or sent before this returns). Ignored once the connection is lost, and from
  /// loseConnection() on unless a producer is registered, which may still finish.
  virtual void write(std::string_view data) = 0;
  /// As write() of the pieces in turn.
  virtual void writeSequence(std::span<const std::string_view> pieces);
  /// Stops reading at once, sends what is queued, waits for a registered producer to unregister, then closes.
  /// connectionLost gets ConnectionDone.
  virtual void loseConnection() = 0;
  /// The same, with `reason` for this side's connectionLost: why it gave the connection up. Ignored when
  /// disconnecting().
  void loseConnection(const Failure& reason);
  /// Closes now and drops what is queued. connectionLost gets ConnectionAborted on a later turn.
  virtual void abortConnection() = 0;
  /// Sends what is queued, then ends the writing side alone. See HalfCloseableProtocol.
  virtual void loseWriteConnection() { loseConnection(); }

  /// True from loseConnection() or abortConnection() on.
  virtual bool disconnecting() const noexcept = 0;

  virtual Address getPeer() const = 0;
  virtual Address getHost() const = 0;

  /// Registers what fills this transport. A push producer (`streaming`) is paused above 64 KiB queued and resumed when
  /// the queue is empty; a pull producer is asked by resumeProducing() now and whenever the queue is empty.
  /// Throws std::logic_error if one is registered; if the connection is lost already, calls stopProducing() at once.
  /// The producer must live until it is unregistered or has been stopped.
  virtual void registerProducer(Producer& producer, bool streaming) = 0;
  virtual void unregisterProducer() = 0;

  /// Fires when less than 64 KiB is queued (at once if it is so now); fails with the loss reason if the connection ends
  /// first. Cancelling it only stops the wait.
  virtual Deferred<void> drained() = 0;
  /// Ends the connection (as abortConnection, with ConnectionLost) once more than `bytes` are queued; 0: no limit.
  virtual void setWriteLimit(std::size_t bytes) = 0;

  virtual void setTcpNoDelay(bool) {}
  virtual bool getTcpNoDelay() const { return false; }
  virtual void setTcpKeepAlive(bool) {}
  virtual bool getTcpKeepAlive() const { return false; }

  void stopProducing() override { loseConnection(); }

  /// The protocol that this transport feeds and keeps alive; null before makeConnection and after connectionLost.
  Protocol* protocol() const noexcept { return protocol_; }

  /// The transport below one that is a protocol itself, such as TLS; null for a connection of the system.
  virtual Transport* lowerTransport() noexcept { return nullptr; }
  /// `transport` if it is a T, else the first one below it that is; null if there is none.
  template <class T>
  static T* find(Transport& transport) noexcept {
    for (Transport* t = &transport; t; t = t->lowerTransport()) {
      if (auto* found = dynamic_cast<T*>(t)) return found;
    }
    return nullptr;
  }

  /// The user's call that made the connection (listenTCP, connectTCP), for reports of what is left of it; no place if
  /// that is not known.
  virtual std::source_location where() const noexcept { return {}; }

  /// True while it is calling dataReceived.
  bool delivering() const noexcept { return handover_ != nullptr; }

  /// Stands in for a transport that is gone: writes nothing, is at no address.
  static Transport& inert() noexcept;

 protected:
  /// What connectionLost is to get: the reason that loseConnection was given, if it was, in place of `reason`.
  const Failure& whyLost(const Failure& reason) const noexcept { return givenUp_ ? *givenUp_ : reason; }

  /// Gives data to the protocol, which lives until its call has returned. If another one has taken this transport by
  /// then, that gets what the first has not delivered.
  void deliver(std::string_view data);
  /// Keeps the protocol for the time of a call.
  std::shared_ptr<Protocol> keepProtocol() const noexcept { return kept_; }

 private:
  friend class Protocol;
  // A call in which another protocol may take the transport, and what the one before it had not delivered by then.
  class Handover {
   public:
    explicit Handover(Transport& transport) noexcept : transport_(&transport), outer_(transport.handover_) {
      transport.handover_ = this;
    }
    ~Handover();
    Handover(const Handover&) = delete;
    Handover& operator=(const Handover&) = delete;
    void add(const std::string& unread) { unread_ += unread; }
    // Delivers it, when the outermost call has returned.
    void finish();

   private:
    friend Transport;
    Transport* transport_;  // null once it is destroyed
    Handover* const outer_;
    std::string unread_;
  };

  Protocol* protocol_ = nullptr;
  std::shared_ptr<Protocol> kept_;  // owns *protocol_, unless that lives on a stack
  std::optional<Failure> givenUp_;
  Handover* handover_ = nullptr;
};

}  // namespace torsion
