#include <reactor/protocol.hpp>

#include <reactor/logger.hpp>

namespace torsion {
namespace {

const Logger& log() {
  static const Logger logger("torsion.protocol");
  return logger;
}

}  // namespace

Protocol::~Protocol() {
  if (transport_->protocol_ == this) transport_->protocol_ = nullptr;
}

void Protocol::makeConnection(Transport& transport) {
  Transport::Handover handover(transport);
  attachTransport(transport);
  connectionMade();
  handover.finish();
}

void Protocol::notifyOnDisconnect(UniqueFunction<void()> f) {
  if (!onDisconnect_) onDisconnect_ = std::make_unique<std::vector<UniqueFunction<void()>>>();
  onDisconnect_->push_back(std::move(f));
}

void Protocol::attachTransport(Transport& transport) noexcept {
  if (transport.protocol_ == this) return;
  const std::shared_ptr<Protocol> self = weak_from_this().lock();
  detachTransport();
  if (Protocol* const old = transport.protocol_) {
    if (transport.handover_) transport.handover_->add(old->takeUnread());
    old->detachTransport();
  }
  transport_ = &transport;
  transport.protocol_ = this;
  transport.kept_ = self;
}

void Protocol::detachTransport() noexcept {
  Transport& old = *transport_;
  transport_ = &Transport::inert();
  if (old.protocol_ != this) return;
  old.protocol_ = nullptr;
  // Goes last: it may destroy this protocol.
  const std::shared_ptr<Protocol> dropped = std::move(old.kept_);
  const auto callbacks = std::exchange(onDisconnect_, nullptr);
  if (!callbacks) return;
  for (auto& f : *callbacks) {
    try {
      f();
    } catch (...) {
      log().failure("Unhandled error in a callback of notifyOnDisconnect", Failure::current());
    }
  }
}

}  // namespace torsion
