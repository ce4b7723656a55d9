#include <reactor/transport.hpp>

#include <string>

#include <deferred/detail/take.hpp>
#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/protocol.hpp>

namespace torsion {
namespace {

// One for the whole program and all threads: it has no state.
class InertTransport final : public Transport {
 public:
  void write(std::string_view) override {}
  void writeSequence(std::span<const std::string_view>) override {}
  void loseConnection() override {}
  void abortConnection() override {}
  bool disconnecting() const noexcept override { return true; }
  Address getPeer() const override { return {}; }
  Address getHost() const override { return {}; }
  void registerProducer(Producer& producer, bool) override { producer.stopProducing(); }
  void unregisterProducer() override {}
  Deferred<void> drained() override { return fail<void>(ConnectionLost("there is no connection to write to")); }
  void setWriteLimit(std::size_t) override {}
  void pauseProducing() override {}
  void resumeProducing() override {}
};

}  // namespace

Transport::~Transport() {
  for (Handover* handover = handover_; handover; handover = handover->outer_) handover->transport_ = nullptr;
  if (protocol_) protocol_->detachTransport();
}

void Transport::writeSequence(std::span<const std::string_view> pieces) {
  for (const std::string_view piece : pieces) write(piece);
}

Transport::Handover::~Handover() {
  if (transport_) transport_->handover_ = outer_;
}

void Transport::Handover::finish() {
  if (outer_) {
    outer_->unread_ += unread_;
    return;
  }
  // What it is delivered to may give the transport on, with what it has not delivered.
  while (!unread_.empty() && transport_) transport_->deliver(detail::take(unread_));
}

void Transport::deliver(std::string_view data) {
  if (!protocol_) return;
  const std::shared_ptr<Protocol> kept = kept_;
  Handover handover(*this);
  protocol_->dataReceived(data);
  handover.finish();
}

void Transport::loseConnection(const Failure& reason) {
  if (disconnecting()) return;
  givenUp_ = reason;
  loseConnection();
}

Transport& Transport::inert() noexcept {
  static InertTransport transport;
  return transport;
}

}  // namespace torsion
