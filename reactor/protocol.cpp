#include <reactor/protocol.hpp>

namespace torsion {

Protocol::~Protocol() {
  if (transport_->protocol_ == this) transport_->protocol_ = nullptr;
}

void Protocol::makeConnection(Transport& transport) {
  attachTransport(transport);
  connectionMade();
}

void Protocol::attachTransport(Transport& transport) noexcept {
  if (transport.protocol_ == this) return;
  const std::shared_ptr<Protocol> self = weak_from_this().lock();
  detachTransport();
  if (transport.protocol_) transport.protocol_->detachTransport();
  transport_ = &transport;
  transport.protocol_ = this;
  transport.kept_ = self;
}

void Protocol::detachTransport() noexcept {
  Transport& old = *transport_;
  transport_ = &Transport::inert();
  if (old.protocol_ != this) return;
  old.protocol_ = nullptr;
  // Last: it may destroy this protocol.
  std::shared_ptr<Protocol> dropped = std::move(old.kept_);
}

}  // namespace torsion
