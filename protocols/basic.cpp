#include <protocols/basic.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace torsion {

// ---- errors

LineTooLongError::LineTooLongError(std::size_t maxLength)
    : runtime_error("a line is longer than " + std::to_string(maxLength) + " bytes (see setMaxLength)") {}
StringTooLongError::StringTooLongError(std::size_t length, std::size_t limit)
    : runtime_error("a string has " + std::to_string(length) + " bytes, more than the " + std::to_string(limit) +
                    " that are allowed") {}

// ---- MessageReceiver

void MessageReceiver::dataReceived(std::string_view data) {
  if (receiving_) {
    late_ += data;
    return;
  }
  std::string joined = std::exchange(kept_, {});
  if (joined.empty()) {
    input_ = data;
  } else {
    input_ = joined += data;
  }
  const auto self = weak_from_this().lock();  // a message may be the last that this lives for
  receiving_ = true;
  struct Keep {
    MessageReceiver& self;
    std::string& joined;
    ~Keep() {
      if (!self.transport().disconnecting()) {
        // In the memory that it is in, unless that is more than a message may take: long messages come in many pieces.
        if (!joined.empty() && !self.input_.empty() && joined.capacity() <= 3 * self.maxLength_) {
          joined.erase(0, joined.size() - self.input_.size());
          self.kept_ = std::move(joined);
        } else {
          self.kept_ = std::string(self.input_);
        }
        self.kept_ += self.late_;
      }
      self.input_ = {};
      self.late_ = {};
      self.receiving_ = false;
    }
  } keep{*this, joined};
  while (!paused_ && !transport().disconnecting()) {
    if (!input_.empty() && receive()) continue;
    if (late_.empty()) break;
    joined = std::string(input_).append(late_);
    late_.clear();
    input_ = joined;
  }
}

std::string_view MessageReceiver::take(std::size_t size) noexcept {
  const std::string_view taken = input_.substr(0, size);
  input_.remove_prefix(taken.size());
  seen_ = 0;
  return taken;
}

std::string MessageReceiver::takeAll() {
  std::string all = std::exchange(kept_, {});
  all.append(input_).append(late_);
  input_ = {};
  late_.clear();
  seen_ = 0;
  return all;
}

void MessageReceiver::pauseProducing() {
  paused_ = true;
  transport().pauseProducing();
}

void MessageReceiver::resumeProducing() {
  paused_ = false;
  transport().resumeProducing();
  dataReceived({});
}

void MessageReceiver::stopProducing() {
  paused_ = true;
  transport().stopProducing();
}

// ---- LineReceiver

bool LineReceiver::receive() {
  if (rawMode_) {
    rawDataReceived(take(input().size()));
    return true;
  }
  const std::size_t end = input().find(delimiter_, seen());
  if (end == std::string_view::npos ? input().size() >= maxLength() + delimiter_.size() : end > maxLength()) {
    lineLengthExceeded(take(input().size()));
    return true;
  }
  if (end == std::string_view::npos) {
    setSeen(input().size() - std::min(input().size(), delimiter_.size() - 1));
    return false;
  }
  const std::string_view line = take(end + delimiter_.size());
  lineReceived(line.substr(0, end));
  return true;
}

void LineReceiver::lineLengthExceeded(std::string_view) {
  transport().loseConnection(LineTooLongError(maxLength()));
}

void LineReceiver::sendLine(std::string_view line) {
  const std::array<std::string_view, 2> pieces = {line, delimiter_};
  transport().writeSequence(pieces);
}

void LineReceiver::setLineMode(std::string_view extra) {
  rawMode_ = false;
  if (!extra.empty()) dataReceived(extra);
}

void LineReceiver::setDelimiter(std::string delimiter) {
  if (delimiter.empty()) throw std::invalid_argument("setDelimiter: an empty string ends no line");
  delimiter_ = std::move(delimiter);
  setSeen(0);
}

// ---- NetstringReceiver

bool NetstringReceiver::receive() {
  std::size_t length = 0;
  std::size_t digits = 0;
  for (; digits < input().size() && input()[digits] >= '0' && input()[digits] <= '9'; ++digits) {
    if (digits == 1 && length == 0) {
      transport().loseConnection(NetstringParseError("a netstring's length begins with a zero"));
      return false;
    }
    length = length * 10 + static_cast<std::size_t>(input()[digits] - '0');
    if (length > maxLength()) {
      transport().loseConnection(StringTooLongError(length, maxLength()));
      return false;
    }
  }
  if (digits == input().size()) return false;
  if (digits == 0 || input()[digits] != ':') {
    transport().loseConnection(NetstringParseError("a netstring does not begin with its length and a colon"));
    return false;
  }
  const std::size_t end = digits + 1 + length;
  if (input().size() <= end) return false;
  if (input()[end] != ',') {
    transport().loseConnection(NetstringParseError("a netstring does not end with a comma"));
    return false;
  }
  stringReceived(take(end + 1).substr(digits + 1, length));
  return true;
}

void NetstringReceiver::sendString(std::string_view string) {
  const std::string head = std::to_string(string.size()) + ':';
  const std::array<std::string_view, 3> pieces = {head, string, ","};
  transport().writeSequence(pieces);
}

// ---- IntNStringReceiver

template <class Length>
bool IntNStringReceiver<Length>::receive() {
  constexpr std::size_t kPrefix = sizeof(Length);
  if (input().size() < kPrefix) return false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < kPrefix; ++i) length = length << 8 | static_cast<unsigned char>(input()[i]);
  if (length > maxLength()) {
    lengthLimitExceeded(length);
    if (length > maxLength()) takeAll();
    return true;
  }
  if (input().size() < kPrefix + length) return false;
  stringReceived(take(kPrefix + length).substr(kPrefix));
  return true;
}

template <class Length>
void IntNStringReceiver<Length>::lengthLimitExceeded(std::size_t length) {
  transport().loseConnection(StringTooLongError(length, maxLength()));
}

template <class Length>
void IntNStringReceiver<Length>::sendString(std::string_view string) {
  if (string.size() > std::numeric_limits<Length>::max()) {
    throw StringTooLongError(string.size(), std::numeric_limits<Length>::max());
  }
  char prefix[sizeof(Length)];
  std::size_t length = string.size();
  for (std::size_t i = sizeof prefix; i-- > 0; length >>= 8) prefix[i] = static_cast<char>(length & 0xff);
  const std::array<std::string_view, 2> pieces = {std::string_view(prefix, sizeof prefix), string};
  transport().writeSequence(pieces);
}

template class IntNStringReceiver<std::uint8_t>;
template class IntNStringReceiver<std::uint16_t>;
template class IntNStringReceiver<std::uint32_t>;

// ---- FileSender

namespace {

class Transfer final : public Producer, public std::enable_shared_from_this<Transfer> {
 public:
  Transfer(std::shared_ptr<std::istream> file, Transport& consumer, UniqueFunction<std::string(std::string)> transform)
      : file_(std::move(file)), consumer_(consumer), transform_(std::move(transform)) {}

  Deferred<std::string> begin() {
    self_ = shared_from_this();
    resolver_.onCancel([transfer = weak_from_this()](const Resolver<std::string>&) {
      if (const auto running = transfer.lock()) running->end();
    });
    Deferred<std::string> done = resolver_.deferred();
    try {
      consumer_.registerProducer(*this, false);
    } catch (...) {
      self_.reset();
      throw;
    }
    return done;
  }

  void resumeProducing() override {
    const auto self = shared_from_this();
    if (!self_) return;
    try {
      std::string piece;
      do {
        piece.resize(kPieceSize);
        file_->read(piece.data(), static_cast<std::streamsize>(piece.size()));
        piece.resize(static_cast<std::size_t>(file_->gcount()));
        if (file_->bad()) throw std::ios_base::failure("beginFileTransfer: the file cannot be read");
        if (piece.empty()) {
          end();
          return resolver_.callback(std::move(last_));
        }
        if (transform_) piece = transform_(std::move(piece));
      } while (piece.empty());
      last_ = piece.back();
      consumer_.write(piece);
    } catch (...) {
      const Failure failure = Failure::current();
      end();
      resolver_.errback(failure);
    }
  }
  void pauseProducing() override {}
  void stopProducing() override {
    const auto self = std::exchange(self_, nullptr);
    if (self) resolver_.errback(FileTransferStopped());
  }

 private:
  static constexpr std::size_t kPieceSize = 16384;

  void end() {
    const auto self = std::exchange(self_, nullptr);
    if (self) consumer_.unregisterProducer();
  }

  std::shared_ptr<std::istream> file_;
  Transport& consumer_;
  UniqueFunction<std::string(std::string)> transform_;
  Resolver<std::string> resolver_;
  std::string last_;
  std::shared_ptr<Transfer> self_;  // while it is registered
};

}  // namespace

Deferred<std::string> FileSender::beginFileTransfer(std::shared_ptr<std::istream> file, Transport& consumer,
                                                    UniqueFunction<std::string(std::string)> transform) {
  return std::make_shared<Transfer>(std::move(file), consumer, std::move(transform))->begin();
}

}  // namespace torsion
