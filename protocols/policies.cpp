#include <protocols/policies.hpp>

#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <variant>
#include <vector>

#include <deferred/errors.hpp>
#include <deferred/function.hpp>
#include <reactor/error.hpp>

namespace torsion {

// ---- TimeoutMixin

TimeoutMixin::~TimeoutMixin() {
  if (call_.active()) call_.cancel();
}

std::optional<Duration> TimeoutMixin::setTimeout(std::optional<Duration> limit, std::source_location where) {
  const auto before = std::exchange(limit_, limit);
  if (!limit) {
    if (call_.active()) call_.cancel();
  } else if (call_.active()) {
    call_.reset(*limit);
  } else {
    call_ = time_.callLater(*limit, [this] { timeoutConnection(); }, where);
  }
  return before;
}

void TimeoutMixin::resetTimeout() {
  if (limit_ && call_.active()) call_.reset(*limit_);
}

void TimeoutMixin::timeoutConnection() {
  if (auto* protocol = dynamic_cast<Protocol*>(this)) protocol->transport().loseConnection(TimeoutError());
}

// ---- ProtocolWrapper and WrappingFactory

void ProtocolWrapper::handshakeCompleted() {
  const auto kept = keepProtocol();
  if (auto* listener = dynamic_cast<HandshakeListener*>(protocol())) listener->handshakeCompleted();
}

void ProtocolWrapper::dataReceived(std::string_view data) {
  deliver(data);
}

void ProtocolWrapper::connectionLost(const Failure& reason) {
  disconnecting_ = true;
  struct Detach {
    ProtocolWrapper& wrapper;
    ~Detach() {
      if (wrapper.protocol()) wrapper.protocol()->detachTransport();
    }
  } detach{*this};
  const auto kept = keepProtocol();
  if (protocol()) protocol()->connectionLost(whyLost(reason));
}

void ProtocolWrapper::loseConnection() {
  disconnecting_ = true;
  transport().loseConnection();
}

std::shared_ptr<Protocol> WrappingFactory::buildProtocol(const Address& peer) {
  auto protocol = factory_->buildProtocol(peer);
  return protocol ? wrap(std::move(protocol), peer) : nullptr;
}

void WrappingFactory::startedConnecting(Connector& connector) {
  if (client()) client()->startedConnecting(connector);
}
void WrappingFactory::clientConnectionFailed(Connector& connector, const Failure& reason) {
  if (client()) client()->clientConnectionFailed(connector, reason);
}
void WrappingFactory::clientConnectionLost(Connector& connector, const Failure& reason) {
  if (client()) client()->clientConnectionLost(connector, reason);
}

// ---- TimeoutFactory

namespace {

class TimeoutProtocol final : public ProtocolWrapper, public TimeoutMixin {
 public:
  TimeoutProtocol(std::shared_ptr<Protocol> wrapped, Duration period, Time& time)
      : ProtocolWrapper(std::move(wrapped)), TimeoutMixin(time), period_(period) {}

  void connectionMade() override {
    setTimeout(period_);
    ProtocolWrapper::connectionMade();
  }
  void dataReceived(std::string_view data) override {
    resetTimeout();
    ProtocolWrapper::dataReceived(data);
  }
  void write(std::string_view data) override {
    resetTimeout();
    ProtocolWrapper::write(data);
  }
  void writeSequence(std::span<const std::string_view> pieces) override {
    resetTimeout();
    ProtocolWrapper::writeSequence(pieces);
  }
  void connectionLost(const Failure& reason) override {
    setTimeout(std::nullopt);
    ProtocolWrapper::connectionLost(reason);
  }
  void timeoutConnection() override {
    if (disconnecting()) return abortConnection();
    setTimeout(period_);
    ProtocolWrapper::loseConnection(TimeoutError());
  }

 private:
  Duration period_;
};

}  // namespace

TimeoutFactory::TimeoutFactory(std::shared_ptr<Factory> factory, Duration timeoutPeriod, Time& time)
    : WrappingFactory(std::move(factory)), timeoutPeriod_(timeoutPeriod), time_(time) {}

std::shared_ptr<ProtocolWrapper> TimeoutFactory::wrap(std::shared_ptr<Protocol> protocol, const Address&) {
  return std::make_shared<TimeoutProtocol>(std::move(protocol), timeoutPeriod_, time_);
}

// ---- ThrottlingFactory

class ThrottlingFactory::Throttled final : public ProtocolWrapper {
 public:
  Throttled(std::shared_ptr<Protocol> wrapped, std::shared_ptr<ThrottlingFactory> factory)
      : ProtocolWrapper(std::move(wrapped)), factory_(std::move(factory)), source_(*this) {}
  ~Throttled() override { factory_->leave(*this); }  // not connected, or no connectionLost came

  void connectionMade() override {
    factory_->enter(*this);
    ProtocolWrapper::connectionMade();
  }
  void dataReceived(std::string_view data) override {
    factory_->reads_.thisSecond += data.size();
    ProtocolWrapper::dataReceived(data);
  }
  void connectionLost(const Failure& reason) override {
    factory_->leave(*this);
    ProtocolWrapper::connectionLost(reason);
  }
  void write(std::string_view data) override {
    factory_->writes_.thisSecond += data.size();
    ProtocolWrapper::write(data);
  }
  void writeSequence(std::span<const std::string_view> pieces) override {
    for (const std::string_view piece : pieces) factory_->writes_.thisSecond += piece.size();
    ProtocolWrapper::writeSequence(pieces);
  }

  // Reading goes on when neither the protocol nor the factory holds it up.
  void pauseProducing() override {
    paused_ = true;
    transport().pauseProducing();
  }
  void resumeProducing() override {
    paused_ = false;
    if (!factory_->reads_.throttled) transport().resumeProducing();
  }
  void throttleReads(bool throttled) {
    if (paused_) return;
    if (throttled) {
      transport().pauseProducing();
    } else {
      transport().resumeProducing();
    }
  }

  void registerProducer(Producer& producer, bool streaming) override {
    if (producer_) return transport().registerProducer(producer, streaming);  // which throws
    producer_ = &producer;
    streaming_ = streaming;
    full_ = false;
    transport().registerProducer(source_, streaming);
    if (producer_ && streaming_ && factory_->writes_.throttled && !full_) producer_->pauseProducing();
  }
  void unregisterProducer() override {
    producer_ = nullptr;
    transport().unregisterProducer();
  }
  void throttleWrites(bool throttled) {
    if (!producer_) return;
    if (!streaming_) {
      if (!throttled && std::exchange(asked_, false)) producer_->resumeProducing();
    } else if (!full_) {
      if (throttled) {
        producer_->pauseProducing();
      } else {
        producer_->resumeProducing();
      }
    }
  }

 private:
  // What the transport knows as the producer.
  class Source final : public Producer {
   public:
    explicit Source(Throttled& self) noexcept : self_(self) {}
    void pauseProducing() override {
      self_.full_ = true;
      if (self_.producer_ && !self_.factory_->writes_.throttled) self_.producer_->pauseProducing();
    }
    void resumeProducing() override {
      self_.full_ = false;
      self_.asked_ = self_.factory_->writes_.throttled;
      if (self_.producer_ && !self_.asked_) self_.producer_->resumeProducing();
    }
    void stopProducing() override {
      if (Producer* producer = std::exchange(self_.producer_, nullptr)) producer->stopProducing();
    }

   private:
    Throttled& self_;
  };

  std::shared_ptr<ThrottlingFactory> factory_;
  Source source_;
  Producer* producer_ = nullptr;
  bool paused_ = false;
  bool streaming_ = false;
  bool full_ = false;   // the transport has paused the producer
  bool asked_ = false;  // the transport has asked a pull producer
};

ThrottlingFactory::ThrottlingFactory(std::shared_ptr<Factory> factory, const ThrottlingLimits& limits, Time& time)
    : WrappingFactory(std::move(factory)), maxConnectionCount_(limits.maxConnectionCount), time_(time) {
  if (limits.readLimit == 0 || limits.writeLimit == 0) {
    throw std::invalid_argument("ThrottlingFactory: a limit of 0 bytes a second stops everything; nullopt sets none");
  }
  reads_.limit = limits.readLimit;
  writes_.limit = limits.writeLimit;
}

std::shared_ptr<Protocol> ThrottlingFactory::buildProtocol(const Address& peer) {
  return connectionCount() < maxConnectionCount_ ? WrappingFactory::buildProtocol(peer) : nullptr;
}

std::shared_ptr<ProtocolWrapper> ThrottlingFactory::wrap(std::shared_ptr<Protocol> protocol, const Address&) {
  return std::make_shared<Throttled>(std::move(protocol),
                                     std::static_pointer_cast<ThrottlingFactory>(shared_from_this()));
}

void ThrottlingFactory::enter(Throttled& protocol) {
  protocols_.insert(&protocol);
  if (reads_.throttled) protocol.throttleReads(true);
  if (protocols_.size() > 1) return;
  for (Direction* direction : {&reads_, &writes_}) {
    if (direction->limit) watch(*direction);
  }
}

void ThrottlingFactory::leave(Throttled& protocol) {
  if (protocols_.erase(&protocol) == 0 || !protocols_.empty()) return;
  for (Direction* direction : {&reads_, &writes_}) {
    if (direction->check.active()) direction->check.cancel();
    if (direction->release.active()) direction->release.cancel();
    direction->throttled = false;
    direction->thisSecond = 0;
  }
}

void ThrottlingFactory::watch(Direction& direction) {
  direction.check = time_.callLater(std::chrono::seconds(1), [this, &direction] {
    const double used = static_cast<double>(direction.thisSecond) / static_cast<double>(*direction.limit);
    direction.thisSecond = 0;
    watch(direction);
    if (used <= 1) return;
    const auto wait = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(used - 1));
    if (direction.release.active()) direction.release.cancel();
    direction.release = time_.callLater(wait, [this, &direction] { setThrottled(direction, false); });
    setThrottled(direction, true);
  });
}

void ThrottlingFactory::setThrottled(Direction& direction, bool throttled) {
  if (std::exchange(direction.throttled, throttled) == throttled) return;
  // The calls may add or end connections.
  std::vector<std::shared_ptr<Protocol>> all;
  for (Throttled* protocol : protocols_) all.push_back(protocol->Protocol::shared_from_this());
  for (const auto& protocol : all) {
    auto& wrapper = static_cast<Throttled&>(*protocol);
    if (!protocols_.contains(&wrapper)) continue;
    if (&direction == &reads_) {
      wrapper.throttleReads(throttled);
    } else {
      wrapper.throttleWrites(throttled);
    }
  }
}

// ---- limits of connections

namespace {

std::string hostOf(const Address& address) {
  return std::visit(
      [](const auto& a) -> std::string {
        if constexpr (requires { a.host; }) {
          return a.host;
        } else {
          return {};
        }
      },
      address);
}

// Calls `release` once: when its connection is lost, or never was.
class Counted final : public ProtocolWrapper {
 public:
  Counted(std::shared_ptr<Protocol> wrapped, UniqueFunction<void()> release)
      : ProtocolWrapper(std::move(wrapped)), release_(std::move(release)) {}
  ~Counted() override { release(); }
  void connectionLost(const Failure& reason) override {
    release();
    ProtocolWrapper::connectionLost(reason);
  }

 private:
  void release() {
    if (auto release = std::exchange(release_, nullptr)) release();
  }
  UniqueFunction<void()> release_;
};

}  // namespace

LimitConnectionsByPeer::LimitConnectionsByPeer(std::shared_ptr<Factory> factory, std::size_t maxConnectionsPerPeer)
    : WrappingFactory(std::move(factory)), maxConnectionsPerPeer_(maxConnectionsPerPeer) {}

std::shared_ptr<Protocol> LimitConnectionsByPeer::buildProtocol(const Address& peer) {
  const auto count = counts_.find(hostOf(peer));
  if (count != counts_.end() && count->second >= maxConnectionsPerPeer_) return nullptr;
  return WrappingFactory::buildProtocol(peer);
}

std::shared_ptr<ProtocolWrapper> LimitConnectionsByPeer::wrap(std::shared_ptr<Protocol> protocol, const Address& peer) {
  const auto self = std::static_pointer_cast<LimitConnectionsByPeer>(shared_from_this());
  const std::string host = hostOf(peer);
  auto counted = std::make_shared<Counted>(std::move(protocol), [self, host] {
    if (--self->counts_.at(host) == 0) self->counts_.erase(host);
  });
  ++counts_[host];
  return counted;
}

LimitTotalConnectionsFactory::LimitTotalConnectionsFactory(std::shared_ptr<Factory> factory,
                                                           std::size_t connectionLimit,
                                                           std::shared_ptr<Factory> overflow)
    : WrappingFactory(std::move(factory)), connectionLimit_(connectionLimit), overflow_(std::move(overflow)) {}

std::shared_ptr<Protocol> LimitTotalConnectionsFactory::buildProtocol(const Address& peer) {
  if (connectionCount_ < connectionLimit_) return WrappingFactory::buildProtocol(peer);
  return overflow_ ? overflow_->buildProtocol(peer) : nullptr;
}

std::shared_ptr<ProtocolWrapper> LimitTotalConnectionsFactory::wrap(std::shared_ptr<Protocol> protocol,
                                                                    const Address&) {
  const auto self = std::static_pointer_cast<LimitTotalConnectionsFactory>(shared_from_this());
  auto counted = std::make_shared<Counted>(std::move(protocol), [self] { --self->connectionCount_; });
  ++connectionCount_;
  return counted;
}

// ---- TrafficLoggingFactory

namespace {

std::string quoted(std::string_view data, std::size_t limit) {
  const bool cut = limit != 0 && data.size() > limit;
  std::string text = "\"";
  for (const char c : data.substr(0, cut ? limit : data.size())) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text += {'\\', c};
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else if (byte < 0x20 || byte >= 0x7f) {
      text += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      text += c;
    }
  }
  return text + (cut ? "\"<... elided>" : "\"");
}

class TrafficLoggingProtocol final : public ProtocolWrapper {
 public:
  TrafficLoggingProtocol(std::shared_ptr<Protocol> wrapped, const std::string& path, std::size_t lengthLimit,
                         std::uint64_t number)
      : ProtocolWrapper(std::move(wrapped)), lengthLimit_(lengthLimit), number_(std::to_string(number)) {
    file_.open(path);
    if (!file_) throw std::system_error(errno, std::generic_category(), "TrafficLoggingFactory: cannot write " + path);
  }
  void connectionMade() override {
    log("*");
    ProtocolWrapper::connectionMade();
  }
  void dataReceived(std::string_view data) override {
    log("C " + number_ + ": " + quoted(data, lengthLimit_));
    ProtocolWrapper::dataReceived(data);
  }
  void connectionLost(const Failure& reason) override {
    log("C " + number_ + ": " + whyLost(reason).getErrorMessage());
    ProtocolWrapper::connectionLost(reason);
  }
  void write(std::string_view data) override {
    log("S " + number_ + ": " + quoted(data, lengthLimit_));
    ProtocolWrapper::write(data);
  }
  void writeSequence(std::span<const std::string_view> pieces) override {
    for (const std::string_view piece : pieces) write(piece);
  }
  void loseConnection() override {
    log("S " + number_ + ": *");
    ProtocolWrapper::loseConnection();
  }

 private:
  void log(const std::string& line) { file_ << line << std::endl; }
  std::ofstream file_;
  std::size_t lengthLimit_;
  std::string number_;
};

}  // namespace

TrafficLoggingFactory::TrafficLoggingFactory(std::shared_ptr<Factory> factory, std::string logfilePrefix,
                                             std::size_t lengthLimit)
    : WrappingFactory(std::move(factory)), logfilePrefix_(std::move(logfilePrefix)), lengthLimit_(lengthLimit) {}

std::shared_ptr<ProtocolWrapper> TrafficLoggingFactory::wrap(std::shared_ptr<Protocol> protocol, const Address&) {
  const std::uint64_t number = ++counter_;
  return std::make_shared<TrafficLoggingProtocol>(std::move(protocol), logfilePrefix_ + '-' + std::to_string(number),
                                                  lengthLimit_, number);
}

}  // namespace torsion
