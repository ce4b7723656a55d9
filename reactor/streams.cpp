#include <reactor/streams.hpp>

#include <algorithm>
#include <vector>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

namespace {

const Logger logger("torsion.streams");

// What a read is for.
struct Wanted {
  enum class Kind { some, all, exactly, until, line };
  Kind kind;
  std::size_t count = 0;
  std::string separator = {};
  std::size_t searched = 0;  // no separator begins before
};

class StreamProtocol;

}  // namespace

namespace detail {

// What the two handles share and own: when it goes, the connection does. It knows its protocol, which the transport
// owns, weakly, and holds no Deferred: so there is no ring through a coroutine that waits and owns a handle.
class StreamState {
 public:
  explicit StreamState(std::size_t limit) noexcept : limit_(limit) {}
  StreamState(const StreamState&) = delete;
  StreamState& operator=(const StreamState&) = delete;
  ~StreamState() { transport().loseConnection(); }

  static StreamPair handles(std::shared_ptr<StreamState> state) {
    StreamReader reader(state);
    return {std::move(reader), StreamWriter(std::move(state))};
  }

  Deferred<std::string> read(Wanted wanted);
  Deferred<void> drain();
  Deferred<void> waitClosed();
  Transport& transport() const noexcept;
  bool atEof() const noexcept { return ended_ && size() == 0; }

  // Of the protocol.
  void setProtocol(const std::shared_ptr<StreamProtocol>& protocol) noexcept { protocol_ = protocol; }
  void append(std::string_view data);
  void end() noexcept { ended_ = true; }
  void lose(const Failure& reason) {
    ended_ = true;
    lost_ = reason;
  }
  bool full() const noexcept { return size() > limit_ && size() - limit_ > limit_; }
  void pause();
  // What a read gives now, a value or a failure; nothing if it has to wait for more.
  std::optional<Result<std::string>> attempt(Wanted& wanted);

 private:
  std::size_t size() const noexcept { return buffer_.size() - taken_; }
  std::string_view unread() const noexcept { return std::string_view(buffer_).substr(taken_); }
  bool broken() const { return lost_ && !lost_->check<ConnectionDone>(); }
  std::optional<Result<std::string>> attemptUntil(Wanted& wanted);
  std::string take(std::size_t count);
  void drop(std::size_t count);
  void resumeIfSmall();
  void resume();

  const std::size_t limit_;
  std::weak_ptr<StreamProtocol> protocol_;
  std::string buffer_;
  std::size_t taken_ = 0;  // of buffer_
  bool ended_ = false;
  bool paused_ = false;
  std::optional<Failure> lost_;  // the connection is gone
};

}  // namespace detail

namespace {

using detail::StreamState;

class StreamProtocol : public Protocol, public HalfCloseableProtocol {
 public:
  explicit StreamProtocol(const std::shared_ptr<StreamState>& state) noexcept : state_(state) {}

  void dataReceived(std::string_view data) override {
    const auto state = state_.lock();
    if (!state) return;
    state->append(data);
    serve(*state);
    if (!reading_ && state->full()) state->pause();
  }
  void readConnectionLost() override {
    const auto state = state_.lock();
    if (!state) return;
    state->end();
    serve(*state);
  }
  void writeConnectionLost() override {}
  void connectionLost(const Failure& reason) override {
    const auto state = state_.lock();
    if (state) {
      state->lose(reason);
      serve(*state);
    } else if (reading_) {
      std::exchange(reading_, std::nullopt)->resolver.errback(reason);
    }
    for (const auto& waiter : std::exchange(closing_, {})) {
      if (waiter.called()) continue;
      if (reason.check<ConnectionDone>()) {
        waiter.callback();
      } else {
        waiter.errback(reason);
      }
    }
  }

  bool reading() const noexcept { return reading_.has_value(); }
  Deferred<std::string> wait(Wanted wanted) {
    reading_.emplace(Reading{std::move(wanted), Resolver<std::string>()});
    reading_->resolver.onCancel([weak = weak_from_this()](const Resolver<std::string>&) {
      if (const auto self = weak.lock()) static_cast<StreamProtocol&>(*self).reading_.reset();
    });
    return reading_->resolver.deferred();
  }
  Deferred<void> waitClosed() {
    std::erase_if(closing_, [](const auto& waiter) { return waiter.called(); });
    return closing_.emplace_back().deferred();
  }

 private:
  struct Reading {
    Wanted wanted;
    Resolver<std::string> resolver;
  };

  void serve(StreamState& state) {
    if (!reading_) return;
    if (auto result = state.attempt(reading_->wanted)) {
      std::exchange(reading_, std::nullopt)->resolver.resolve(std::move(*result));
    }
  }

  const std::weak_ptr<StreamState> state_;
  std::optional<Reading> reading_;
  std::vector<Resolver<void>> closing_;
};

}  // namespace

namespace detail {

Transport& StreamState::transport() const noexcept {
  const auto protocol = protocol_.lock();
  return protocol ? protocol->transport() : Transport::inert();
}

void StreamState::append(std::string_view data) {
  // Moves what is left to the front at most once for each byte read.
  if (taken_ > size()) {
    buffer_.erase(0, taken_);
    taken_ = 0;
  }
  buffer_.append(data);
}

std::string StreamState::take(std::size_t count) {
  std::string taken;
  if (taken_ == 0 && count == buffer_.size()) {
    taken.swap(buffer_);
  } else {
    taken.assign(buffer_, taken_, count);
    drop(count);
  }
  resumeIfSmall();
  return taken;
}

void StreamState::drop(std::size_t count) {
  taken_ += count;
  if (taken_ < buffer_.size()) return;
  // An idle connection holds no memory.
  buffer_ = {};
  taken_ = 0;
}

void StreamState::pause() {
  if (std::exchange(paused_, true)) return;
  transport().pauseProducing();
}

void StreamState::resume() {
  if (!std::exchange(paused_, false)) return;
  transport().resumeProducing();
}

void StreamState::resumeIfSmall() {
  if (size() <= limit_) resume();
}

std::optional<Result<std::string>> StreamState::attempt(Wanted& wanted) {
  using Kind = Wanted::Kind;
  switch (wanted.kind) {
    case Kind::some:
      if (size() > 0) return take(std::min(size(), wanted.count));
      if (!ended_) return std::nullopt;
      if (broken()) return Result<std::string>(*lost_);
      return std::string();
    case Kind::all:
      if (!ended_) return std::nullopt;
      if (broken()) return Result<std::string>(*lost_);
      return take(size());
    case Kind::exactly:
      if (size() >= wanted.count) return take(wanted.count);
      if (!ended_) return std::nullopt;
      if (broken()) return Result<std::string>(*lost_);
      return Result<std::string>(Failure(IncompleteReadError(take(size()), wanted.count)));
    case Kind::until:
    case Kind::line:
      return attemptUntil(wanted);
  }
  return std::nullopt;
}

std::optional<Result<std::string>> StreamState::attemptUntil(Wanted& wanted) {
  const std::string& separator = wanted.separator;
  const bool line = wanted.kind == Wanted::Kind::line;
  const std::size_t found = unread().find(separator, wanted.searched);
  if (found != std::string_view::npos && found <= limit_) return take(found + separator.size());
  if (found == std::string_view::npos && size() >= separator.size()) wanted.searched = size() + 1 - separator.size();
  const std::size_t consumed = found == std::string_view::npos ? wanted.searched : found;
  if (consumed > limit_) {
    if (line) {
      drop(found == std::string_view::npos ? size() : found + separator.size());
      resumeIfSmall();
    }
    return Result<std::string>(Failure(LimitOverrunError(
        (found == std::string_view::npos ? "no separator comes within the limit of "
                                         : "the separator comes after the limit of ") +
            std::to_string(limit_) + " bytes; give the stream a higher limit, or read with read() or readExactly()",
        consumed)));
  }
  if (!ended_) return std::nullopt;
  if (broken()) return Result<std::string>(*lost_);
  if (line) return take(size());
  return Result<std::string>(Failure(IncompleteReadError(take(size()), std::nullopt)));
}

Deferred<std::string> StreamState::read(Wanted wanted) {
  const auto protocol = protocol_.lock();
  if (protocol && protocol->reading()) {
    return fail<std::string>(std::logic_error(
        "StreamReader: another read waits on this stream; await that one, or cancel it, before the next"));
  }
  if (auto result = attempt(wanted)) {
    Resolver<std::string> now;
    now.resolve(std::move(*result));
    return now.deferred();
  }
  // A transport that dropped its protocol without connectionLost: nothing will come any more.
  if (!protocol) return fail<std::string>(ConnectionLost("the connection is gone"));
  auto waiting = protocol->wait(std::move(wanted));
  resume();  // it needs more than is there, whatever the limit
  return waiting;
}

Deferred<void> StreamState::drain() {
  if (lost_) return fail<void>(*lost_);
  return transport().drained();
}

Deferred<void> StreamState::waitClosed() {
  if (lost_) return broken() ? fail<void>(*lost_) : succeed();
  const auto protocol = protocol_.lock();
  if (!protocol) return fail<void>(ConnectionLost("the connection is gone"));
  return protocol->waitClosed();
}

}  // namespace detail

IncompleteReadError::IncompleteReadError(std::string partial_, std::optional<std::size_t> expected_)
    : runtime_error("the stream ended after " + std::to_string(partial_.size()) +
                    (expected_ ? " of " + std::to_string(*expected_) + " bytes" : " bytes, without the separator")),
      partial(std::move(partial_)),
      expected(expected_) {}

Deferred<std::string> StreamReader::read(std::size_t most) {
  if (most == 0) return succeed(std::string());
  return state_->read({Wanted::Kind::some, most});
}

Deferred<std::string> StreamReader::read() {
  return state_->read({Wanted::Kind::all});
}

Deferred<std::string> StreamReader::readExactly(std::size_t count) {
  return state_->read({Wanted::Kind::exactly, count});
}

Deferred<std::string> StreamReader::readUntil(std::string separator) {
  if (separator.empty()) {
    return fail<std::string>(std::invalid_argument("StreamReader::readUntil: the separator is empty"));
  }
  return state_->read({Wanted::Kind::until, 0, std::move(separator)});
}

Deferred<std::string> StreamReader::readLine() {
  return state_->read({Wanted::Kind::line, 0, "\n"});
}

bool StreamReader::atEof() const noexcept {
  return state_->atEof();
}

void StreamWriter::write(std::string_view data) {
  state_->transport().write(data);
}

Deferred<void> StreamWriter::drain() {
  return state_->drain();
}

void StreamWriter::close() {
  state_->transport().loseConnection();
}

Deferred<void> StreamWriter::waitClosed() {
  return state_->waitClosed();
}

Transport& StreamWriter::transport() const noexcept {
  return state_->transport();
}

Deferred<StreamPair> openConnection(StreamClientEndpoint& endpoint, std::size_t limit, std::source_location where) {
  auto state = std::make_shared<StreamState>(limit);
  auto protocol = std::make_shared<StreamProtocol>(state);
  state->setProtocol(protocol);
  return connectProtocol(endpoint, std::move(protocol), where)
      .addCallback([state = std::move(state)](std::shared_ptr<StreamProtocol>) mutable {
        return StreamState::handles(std::move(state));
      });
}

namespace {

using Handler = std::function<Deferred<void>(StreamReader, StreamWriter)>;

class ServedProtocol final : public StreamProtocol {
 public:
  ServedProtocol(std::shared_ptr<StreamState> state, std::shared_ptr<Handler> handler) noexcept
      : StreamProtocol(state), fresh_(std::move(state)), handler_(std::move(handler)) {}

  void connectionMade() override {
    auto [reader, writer] = StreamState::handles(std::move(fresh_));
    // The handler stays until its coroutine has ended: that uses its captures.
    (*handler_)(std::move(reader), std::move(writer))
        .addErrback([handler = handler_, weak = weak_from_this()](const Failure& failure) {
          logger.failure("Unhandled error in a connection's handler", failure);
          if (const auto self = weak.lock()) self->transport().abortConnection();
        })
        .addCallback([handler = handler_] {});
  }

 private:
  std::shared_ptr<StreamState> fresh_;  // until the handler has it
  const std::shared_ptr<Handler> handler_;
};

}  // namespace

Deferred<std::shared_ptr<ListeningPort>> startServer(StreamServerEndpoint& endpoint, Handler handler, std::size_t limit,
                                                     std::source_location where) {
  detail::require(handler, "startServer: there is no handler");
  auto shared = std::make_shared<Handler>(std::move(handler));
  return endpoint.listen(makeFactory([shared, limit] {
                           auto state = std::make_shared<StreamState>(limit);
                           auto protocol = std::make_shared<ServedProtocol>(state, shared);
                           state->setProtocol(protocol);
                           return protocol;
                         }),
                         where);
}

}  // namespace torsion
