#include <reactor/testing/string_transport.hpp>

#include <stdexcept>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

namespace {

void disconnect(Protocol* protocol, const Failure& reason) {
  if (!protocol) return;
  const auto kept = protocol->weak_from_this().lock();
  protocol->connectionLost(reason);
  protocol->detachTransport();
}

}  // namespace

StringTransport::StringTransport(Address host, Address peer, bool lenient)
    : host_(std::move(host)), peer_(std::move(peer)), lenient_(lenient) {}

void StringTransport::write(std::string_view data) {
  if (disconnected_ || writeDisconnecting_ || (disconnecting_ && !producer_)) return;
  value_ += data;
}

void StringTransport::abortConnection() {
  disconnecting_ = true;
  disconnected_ = true;
}

void StringTransport::registerProducer(Producer& producer, bool streaming) {
  if (producer_) throw std::logic_error("registerProducer: a producer is registered already; unregister it first");
  producer_ = &producer;
  streaming_ = streaming;
}

void StringTransport::unregisterProducer() {
  if (!producer_) throw std::logic_error("unregisterProducer: no producer is registered");
  producer_ = nullptr;
  streaming_ = false;
}

Deferred<void> StringTransport::drained() {
  return succeed();
}

void StringTransport::checkState() const {
  if (disconnecting_ && !lenient_) {
    throw std::logic_error("pauseProducing or resumeProducing after loseConnection: no more will be received");
  }
  if (producerState_ == ProducerState::stopped) {
    throw std::logic_error("pauseProducing or resumeProducing after stopProducing");
  }
}

void StringTransport::pauseProducing() {
  checkState();
  producerState_ = ProducerState::paused;
}

void StringTransport::resumeProducing() {
  checkState();
  producerState_ = ProducerState::producing;
}

void StringTransportWithDisconnection::loseConnection() {
  if (disconnecting()) return;
  StringTransport::loseConnection();
  disconnect(protocol(), whyLost(ConnectionDone()));
}

void StringTransportWithDisconnection::abortConnection() {
  if (disconnecting()) return;
  StringTransport::abortConnection();
  disconnect(protocol(), ConnectionAborted());
}

}  // namespace torsion
