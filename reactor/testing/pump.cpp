#include <reactor/testing/pump.hpp>

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {

namespace {

const Logger logger("torsion.testing");

constexpr std::size_t kHighWater = 65536;
constexpr int kMostRounds = 1000;

}  // namespace

PumpPolicy randomPumpPolicy(unsigned seed) {
  return [generator = std::make_shared<std::mt19937>(seed)](std::string_view queued) {
    return std::uniform_int_distribution<std::size_t>(1, queued.size())(*generator);
  };
}

FakeTransport::FakeTransport(Address host, Address peer) : host_(std::move(host)), peer_(std::move(peer)) {}

void FakeTransport::write(std::string_view data) {
  if (refusesWrites() || data.empty()) return;
  queue_ += data;
  if (writeLimit_ != 0 && queued() > writeLimit_) {
    return finish(ConnectionLost("The connection was dropped: more than " + std::to_string(writeLimit_) +
                                 " bytes were waiting for the other side to read"));
  }
  if (producer_ && streaming_ && !producerPaused_ && queued() > kHighWater) {
    producerPaused_ = true;
    callProducer(&Producer::pauseProducing);
  }
  changed();
}

void FakeTransport::loseConnection() {
  closing_ = true;
  changed();
}

void FakeTransport::abortConnection() {
  if (reason_) return;
  finish(ConnectionAborted());
  resetSent_ = true;
}

void FakeTransport::loseWriteConnection() {
  writeClosing_ = true;
  changed();
}

void FakeTransport::unregisterProducer() {
  producer_ = nullptr;
  changed();
}

void FakeTransport::resumeProducing() {
  paused_ = false;
  changed();
}

void FakeTransport::registerProducer(Producer& producer, bool streaming) {
  if (producer_) {
    throw std::logic_error("registerProducer: another producer is registered; unregister that one first");
  }
  if (reason_) return producer.stopProducing();
  producer_ = &producer;
  streaming_ = streaming;
  producerPaused_ = false;
  if (!streaming) callProducer(&Producer::resumeProducing);
}

Deferred<void> FakeTransport::drained() {
  if (reason_) return fail<void>(*reason_);
  if (queued() < kHighWater) return succeed();
  return drainWaiters_.emplace_back().deferred();
}

// False if the connection is over. What the protocol throws ends it.
template <class F>
bool FakeTransport::callProtocol(F&& f) {
  const auto kept = keepProtocol();
  try {
    f();
  } catch (...) {
    failed("a protocol");
  }
  return !reason_;
}

void FakeTransport::callProducer(void (Producer::*method)()) {
  try {
    (producer_->*method)();
  } catch (...) {
    failed("a producer");
  }
}

void FakeTransport::failed(const char* what) {
  const Failure failure = Failure::current();
  logger.failure("Unhandled error in {what}; the connection with {peer} ends", failure,
                 {{"what", what}, {"peer", describe(peer_)}});
  finish(failure);
}

std::string FakeTransport::take(std::size_t most) {
  std::string piece = queue_.substr(taken_, most);
  taken_ += piece.size();
  if (taken_ == queue_.size()) {
    queue_.clear();
    taken_ = 0;
  }
  return piece;
}

void FakeTransport::queueShrank() {
  if (reason_) return;
  if (queued() < kHighWater) {
    for (const auto& waiter : std::exchange(drainWaiters_, {})) waiter.callback();
  }
  if (!reason_ && queued() == 0 && producer_ && (!streaming_ || producerPaused_)) {
    producerPaused_ = false;
    callProducer(&Producer::resumeProducing);
  }
}

void FakeTransport::endOfFile() {
  auto* half = dynamic_cast<HalfCloseableProtocol*>(protocol());
  if (!half) return finish(ConnectionDone());
  readClosed_ = true;
  if (callProtocol([&] { half->readConnectionLost(); }) && writeClosed_) finish(ConnectionDone());
}

void FakeTransport::closeIfFlushed() {
  if (reason_ || producer_ || queued() != 0) return;
  if (closing_) return finish(ConnectionDone());
  if (!writeClosing_ || writeClosed_) return;
  writeClosed_ = true;
  finSent_ = true;
  auto* half = dynamic_cast<HalfCloseableProtocol*>(protocol());
  if (half && !callProtocol([&] { half->writeConnectionLost(); })) return;
  if (readClosed_) finish(ConnectionDone());
}

void FakeTransport::finish(Failure reason) {
  if (reason_) return;
  reason_ = std::move(reason);
  finSent_ = true;
  queue_.clear();
  taken_ = 0;
  changed();
}

void FakeTransport::deliverLost() {
  lost_ = true;
  reason_ = whyLost(*reason_);
  for (const auto& waiter : std::exchange(drainWaiters_, {})) waiter.errback(*reason_);
  if (producer_) callProducer(&Producer::stopProducing);
  producer_ = nullptr;
  if (Protocol* p = protocol()) {
    const auto kept = keepProtocol();
    try {
      p->connectionLost(*reason_);
    } catch (...) {
      logger.failure("Unhandled error in connectionLost; the peer was {peer}", Failure::current(),
                     {{"peer", describe(peer_)}});
    }
  }
  if (protocol()) protocol()->detachTransport();
  if (whenEnded_) std::exchange(whenEnded_, {})(*reason_);
}

IOPump::IOPump(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server, Address clientAddress,
               Address serverAddress, std::source_location where)
    : client_(clientAddress, serverAddress), server_(serverAddress, clientAddress), where_(where) {
  server_.callProtocol([&] { server->makeConnection(server_); });
  client_.callProtocol([&] { client->makeConnection(client_); });
}

bool IOPump::pump() {
  if (pumping_) throw std::logic_error("IOPump::pump() was called by one of the protocols it is serving");
  pumping_ = true;
  struct Done {
    bool& pumping;
    ~Done() { pumping = false; }
  } done{pumping_};

  // What the two ends do during this exchange arrives in the next.
  struct Side {
    FakeTransport& end;
    FakeTransport& other;
    std::size_t queued = end.queued();
    bool over = end.reason_.has_value();
    bool peerClosed = other.finSent_;
    bool peerReset = other.resetSent_;
  };
  Side sides[] = {{client_, server_}, {server_, client_}};

  bool moved = false;
  for (Side& side : sides) {
    if (side.over && !side.end.lost_) {
      side.end.deliverLost();
      moved = true;
    }
  }
  for (Side& side : sides) moved |= deliver(side.end, side.other, side.queued);
  for (Side& side : sides) {
    FakeTransport& end = side.end;
    const bool wasOver = end.reason_.has_value();
    const bool readWasClosed = end.readClosed_, writeWasClosed = end.writeClosed_;
    if (!end.reason_ && side.peerReset) {
      end.finish(ConnectionLost());
    } else if (side.peerClosed && side.other.queued() == 0 && end.reading()) {
      end.endOfFile();
    }
    end.closeIfFlushed();
    moved |=
        wasOver != end.reason_.has_value() || readWasClosed != end.readClosed_ || writeWasClosed != end.writeClosed_;
  }
  return moved;
}

bool IOPump::deliver(FakeTransport& from, FakeTransport& to, std::size_t limit) {
  bool moved = false;
  limit = std::min(limit, from.queued());
  while (limit != 0 && from.queued() != 0) {
    const bool dropped = to.reason_ || to.closing_;
    if (to.reason_) {
      // Nobody is there. An end that reads learns it from the end of file; any other is told by a reset.
      if (from.reading()) break;
      to.resetSent_ = true;
    } else if (to.paused_ && !dropped) {
      break;
    }
    const std::string_view queued = from.waiting().substr(0, limit);
    const std::size_t wanted = policy_ ? std::max<std::size_t>(policy_(queued), 1) : pieceSize_;
    const std::string piece = from.take(std::min(limit, wanted));
    limit -= piece.size();
    moved = true;
    if (!dropped) to.callProtocol([&] { to.deliver(piece); });
  }
  if (moved) from.queueShrank();
  return moved;
}

bool IOPump::flush() {
  for (int round = 0; round < kMostRounds; ++round) {
    if (!pump()) return round != 0;
  }
  throw std::runtime_error(
      "IOPump::flush: the connection is still busy after 1000 exchanges; do the ends answer each other for ever?");
}

}  // namespace torsion
