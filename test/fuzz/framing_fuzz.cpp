// What a peer may send to the receivers of lines and strings. The first byte of the input says which of them gets the
// rest, and how it is cut: in pieces of one length, and of many. A reference that takes one byte after another says
// what must have been delivered after each, how much is kept, and where the connection is lost; behind the wrappers of
// protocols/policies.hpp just as without them.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <protocols/basic.hpp>
#include <protocols/policies.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/string_transport.hpp>

#include "require.hpp"

using namespace torsion;

namespace {

enum class End : std::uint8_t { none, asked, lineTooLong, stringTooLong, noNetstring };

constexpr std::size_t kMaxLine = 16;
constexpr std::size_t kMaxString = 300;  // three digits, and two bytes of a prefix
constexpr std::size_t kMaxShort = 200;   // for a prefix of one byte

// What a line or string asks of the one that gets it: its first byte is a command.
bool asks(std::string_view message, char command) {
  return message.starts_with(command);
}
bool asksForRaw(std::string_view line) {
  return asks(line, 'R') || asks(line, 'X');
}
std::size_t rawLength(std::string_view line) {
  return line.size() > 1 ? static_cast<unsigned char>(line[1]) : 0;
}

void logMessage(std::string& log, std::string_view message) {
  log.append(std::to_string(message.size())).append(1, ':').append(message).append(1, '\n');
}
void logRaw(std::string& log, std::string_view data) {
  for (const char c : data) log.append(1, 'r').append(1, c);
}

// ---- the reference

struct Reference {
  std::string log;
  std::string kept;
  End end = End::none;

  Reference() = default;
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;
  virtual ~Reference() = default;
  virtual void byte(char c) = 0;
  virtual std::size_t mostKept() const = 0;

 protected:
  void deliver(std::string_view message) {
    logMessage(log, message);
    if (asks(message, 'Q')) end = End::asked;
  }
};

struct ReferenceLines : Reference {
  std::string delimiter = "\r\n";
  std::size_t raw = 0;          // bytes to come
  bool makesDelimiter = false;  // those do
  std::string raws;

  void byte(char c) override {
    if (raw > 0) {
      logRaw(log, {&c, 1});
      raws += c;
      if (--raw == 0 && makesDelimiter) delimiter = raws;
      return;
    }
    kept += c;
    if (kept.ends_with(delimiter)) {
      const std::string line = kept.substr(0, kept.size() - delimiter.size());
      kept.clear();
      deliver(line);
      if (asks(line, 'D') && line.size() > 1) delimiter = line.substr(1);
      if (asksForRaw(line)) {
        raw = rawLength(line);
        makesDelimiter = asks(line, 'X');
        raws.clear();
      }
    } else if (kept.size() >= kMaxLine + delimiter.size()) {
      end = End::lineTooLong;  // a delimiter that comes now ends a longer line
    }
  }
  std::size_t mostKept() const override { return kMaxLine + delimiter.size() - 1; }
};

struct ReferenceNetstrings : Reference {
  std::string digits;
  std::string string;
  bool inString = false;

  void byte(char c) override {
    kept += c;
    if (!inString) {
      if (c == ':' && !digits.empty()) {
        inString = true;
      } else if (c < '0' || c > '9' || digits == "0") {
        end = End::noNetstring;
      } else if (std::stoul(digits += c) > kMaxString) {
        end = End::stringTooLong;
      }
    } else if (string.size() < std::stoul(digits)) {
      string += c;
    } else if (c != ',') {
      end = End::noNetstring;
    } else {
      deliver(string);
      kept.clear();
      digits.clear();
      string.clear();
      inString = false;
    }
  }
  std::size_t mostKept() const override { return std::to_string(kMaxString).size() + 1 + kMaxString; }
};

template <std::size_t kPrefix, std::size_t kMax>
struct ReferenceStrings : Reference {
  void byte(char c) override {
    kept += c;
    if (kept.size() < kPrefix) return;
    std::size_t length = 0;
    for (std::size_t i = 0; i < kPrefix; ++i) length = length * 256 + static_cast<unsigned char>(kept[i]);
    if (length > kMax) {
      end = End::stringTooLong;
    } else if (kept.size() == kPrefix + length) {
      deliver(kept.substr(kPrefix));
      kept.clear();
    }
  }
  std::size_t mostKept() const override { return kPrefix + kMax - 1; }
};

// What holds after so many bytes.
struct Step {
  std::size_t log = 0;
  std::size_t kept = 0;
};

// ---- the receivers

template <class Base>
struct Checked : Base {
  std::string log;
  End end = End::none;
  bool paused = false;

  using Base::takeAll;

  void resume() {
    paused = false;
    this->resumeProducing();
  }
  void connectionLost(const Failure& reason) override {
    REQUIRE(end == End::none);
    if (reason.check<ConnectionDone>()) {
      end = End::asked;
    } else if (reason.check<LineTooLongError>()) {
      end = End::lineTooLong;
    } else if (reason.check<StringTooLongError>()) {
      end = End::stringTooLong;
    } else if (reason.check<NetstringParseError>()) {
      end = End::noNetstring;
    } else {
      REQUIRE(!"another reason");
    }
  }

 protected:
  void deliver(std::string_view message) {
    mayDeliver();
    logMessage(log, message);
    if (asks(message, 'P')) pause();
    if (asks(message, 'Q')) this->transport().loseConnection();
  }
  void pause() {
    paused = true;
    this->pauseProducing();
  }
  void mayDeliver() const {
    REQUIRE(!paused);
    REQUIRE(end == End::none);
  }
};

struct CheckedLines : Checked<LineReceiver> {
  using Reference = ReferenceLines;
  static constexpr std::size_t kMax = kMaxLine;
  std::size_t raw = 0;
  bool makesDelimiter = false;
  std::string raws;

  void lineReceived(std::string_view line) override {
    deliver(line);
    if (asks(line, 'D') && line.size() > 1) setDelimiter(std::string(line.substr(1)));
    if (asksForRaw(line)) {
      raw = rawLength(line);
      makesDelimiter = asks(line, 'X') && raw > 0;
      raws.clear();
      setRawMode();
    }
  }
  void rawDataReceived(std::string_view data) override {
    mayDeliver();
    REQUIRE(!data.empty());
    const std::string_view mine = data.substr(0, raw);
    logRaw(log, mine);
    raws += mine;
    raw -= mine.size();
    if (raw > 0) return;
    setLineMode(data.substr(mine.size()));
    if (makesDelimiter) setDelimiter(raws);  // what was not raw has not been looked at yet
    if (asks(raws, 'P')) pause();
  }
};

template <class Base, class R, std::size_t kMaxLength>
struct CheckedStrings : Checked<Base> {
  using Reference = R;
  static constexpr std::size_t kMax = kMaxLength;
  void stringReceived(std::string_view string) override { this->deliver(string); }
};

// ---- the comparison

// How one run goes.
struct Manner {
  std::size_t piece;      // bytes, at most if varied
  bool varied = false;    // pieces of various lengths
  bool giveBack = false;  // what is kept is taken after each, and comes again with the next
  bool wrapped = false;   // in policies
};

// What stands between the transport and the receiver, on a clock that goes on with each piece.
struct Policies {
  explicit Policies(std::shared_ptr<Protocol> protocol) {
    std::shared_ptr<Factory> factory = makeFactory([protocol = std::move(protocol)] { return protocol; });
    factory = std::make_shared<LimitConnectionsByPeer>(std::move(factory), 1);
    factory = std::make_shared<LimitTotalConnectionsFactory>(std::move(factory), 1);
    factory = std::make_shared<ThrottlingFactory>(std::move(factory), ThrottlingLimits{.readLimit = 16}, clock);
    factory = std::make_shared<TimeoutFactory>(std::move(factory), std::chrono::seconds(10), clock);
    outermost = factory->buildProtocol(IPv4Address{"192.0.2.1", 1});
  }
  Clock clock;
  std::shared_ptr<Protocol> outermost;
};

// Gives `input` to a receiver, piece by piece.
template <class C>
void run(std::string_view input, const Manner& manner, const std::vector<Step>& steps, const Reference& reference) {
  auto checked = std::make_shared<C>();
  Policies policies(checked);
  Protocol& first = manner.wrapped ? *policies.outermost : *checked;
  StringTransportWithDisconnection transport;
  checked->setMaxLength(C::kMax);
  first.makeConnection(transport);
  std::uint32_t random = static_cast<std::uint32_t>(input.size());
  std::string kept;
  std::size_t given = 0;
  while (given < input.size() && checked->end == End::none) {
    random = random * 1664525 + 1013904223;
    const std::size_t size = manner.varied ? 1 + (random >> 16) % manner.piece : manner.piece;
    const std::string_view piece = input.substr(given, size);
    given += piece.size();
    first.dataReceived(manner.giveBack ? kept.append(piece) : piece);
    while (checked->paused && checked->end == End::none) checked->resume();
    // The reference has no steps after the one that ends the connection.
    const Step& step = steps[std::min(given, steps.size() - 1)];
    if (checked->log.size() != step.log) {
      std::fprintf(stderr, "after %zu bytes:\n%s\nexpected the first %zu bytes of:\n%s\n", given, checked->log.c_str(),
                   step.log, reference.log.c_str());
    }
    REQUIRE(checked->log.size() == step.log);
    REQUIRE(checked->end == (given >= steps.size() - 1 ? reference.end : End::none));
    if (checked->end == End::none && (manner.giveBack || given == input.size())) {
      kept = checked->takeAll();
      REQUIRE(kept == input.substr(given - step.kept, step.kept));
    }
    policies.clock.advance(std::chrono::milliseconds(700));
  }
  REQUIRE(checked->end == reference.end);
  REQUIRE(checked->log == reference.log);
  REQUIRE(transport.value().empty());
  if (checked->end != End::none) REQUIRE(policies.clock.getDelayedCalls().empty());
}

template <class C>
void check(std::string_view input, std::size_t piece) {
  typename C::Reference reference;
  std::vector<Step> steps(1);
  for (const char c : input) {
    reference.byte(c);
    steps.push_back({reference.log.size(), reference.kept.size()});
    if (reference.end != End::none) break;
    REQUIRE(reference.kept.size() <= reference.mostKept());
  }
  run<C>(input, {.piece = input.size()}, steps, reference);
  run<C>(input, {.piece = piece}, steps, reference);
  run<C>(input, {.piece = piece, .giveBack = true}, steps, reference);
  run<C>(input, {.piece = 2 * piece, .varied = true}, steps, reference);
  run<C>(input, {.piece = 2 * piece, .varied = true, .wrapped = true}, steps, reference);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = 1 + data[0] / 5;
  switch (data[0] % 5) {
    case 0:
      check<CheckedLines>(input, piece);
      break;
    case 1:
      check<CheckedStrings<NetstringReceiver, ReferenceNetstrings, kMaxString>>(input, piece);
      break;
    case 2:
      check<CheckedStrings<Int8StringReceiver, ReferenceStrings<1, kMaxShort>, kMaxShort>>(input, piece);
      break;
    case 3:
      check<CheckedStrings<Int16StringReceiver, ReferenceStrings<2, kMaxString>, kMaxString>>(input, piece);
      break;
    default:
      check<CheckedStrings<Int32StringReceiver, ReferenceStrings<4, kMaxString>, kMaxString>>(input, piece);
      break;
  }
  return 0;
}
