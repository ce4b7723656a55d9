// What a peer may send to AMP. The first byte of the input says how the rest is used: as boxes, which must be found the
// same however they are cut, and as a reference finds them that takes one byte after another; as the peer of an AMP
// with commands of all argument types, which must send nothing but boxes; or as the text of an argument, which, if it
// is read, must come out the same when it is written and read again.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <protocols/amp.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/string_transport.hpp>

#include "require.hpp"

using namespace torsion;

namespace {

constexpr std::size_t kMaxBoxLength = 700, kMaxKeys = 5;

enum class End : std::uint8_t { none, tooLong, limit };

// ---- boxes

struct Reference {
  std::vector<amp::Box> boxes;
  amp::Box box;
  std::string kept, key;
  std::size_t length = 0;
  End end = End::none;

  void byte(char c) {
    kept += c;
    if (kept.size() < 2) return;
    const std::size_t size =
        static_cast<std::size_t>(static_cast<unsigned char>(kept[0])) * 256 + static_cast<unsigned char>(kept[1]);
    if (kept.size() == 2) {
      if (key.empty() && size > 255) end = End::tooLong;
      if (end == End::none && length + 2 + size > kMaxBoxLength) end = End::limit;
    }
    if (end != End::none || kept.size() < 2 + size) return;
    length += kept.size();
    const std::string string = std::exchange(kept, {}).substr(2);
    if (!key.empty()) {
      box[std::exchange(key, {})] = string;
    } else if (!string.empty()) {
      key = string;
      if (box.size() == kMaxKeys && !box.contains(key)) end = End::limit;
    } else {
      boxes.push_back(std::exchange(box, {}));
      length = 0;
    }
  }
};

struct Boxes : amp::AMP {
  Boxes() {
    setMaxBoxLength(kMaxBoxLength);
    setMaxKeys(kMaxKeys);
  }
  void ampBoxReceived(amp::Box box) override { got.push_back(std::move(box)); }
  void connectionLost(const Failure& reason) override {
    AMP::connectionLost(reason);
    REQUIRE(end == End::none);
    REQUIRE((reason.check<amp::TooLong, amp::AmpLimitError>()));
    end = reason.check<amp::TooLong>() ? End::tooLong : End::limit;
  }
  std::vector<amp::Box> got;
  End end = End::none;
};

void checkBoxes(std::string_view input, std::size_t piece) {
  Reference reference;
  auto boxes = std::make_shared<Boxes>();
  StringTransportWithDisconnection transport;
  boxes->makeConnection(transport);
  for (std::size_t at = 0; at < input.size() && boxes->end == End::none; at += piece) {
    const std::string_view part = input.substr(at, piece);
    boxes->dataReceived(part);
    for (const char c : part) {
      if (reference.end == End::none) reference.byte(c);
    }
    REQUIRE(boxes->got == reference.boxes);
    REQUIRE(boxes->end == reference.end);
  }
  for (const amp::Box& box : boxes->got) {
    REQUIRE(amp::parseString(amp::serialize(box)) == std::vector<amp::Box>{box});
  }
}

// ---- commands

struct Declared : std::runtime_error {
  using runtime_error::runtime_error;
};

struct Item {
  std::optional<int> number;
  std::string text;
  static constexpr auto fields =
      amp::fields(amp::field("number", &Item::number), amp::field("text", &Item::text, amp::Unicode()));
};
struct All {
  static constexpr std::string_view commandName = "A";
  struct Arguments {
    std::optional<std::int64_t> integer;
    std::optional<std::uint8_t> byte;
    std::optional<std::string> string, unicode;
    std::optional<bool> boolean;
    std::optional<double> number;
    std::optional<amp::Decimal> decimal;
    std::optional<amp::DateTime> time;
    std::optional<std::filesystem::path> path;
    std::optional<std::vector<int>> list;
    std::optional<std::vector<Item>> items;
    std::optional<amp::Descriptor> descriptor;
  };
  using Response = Arguments;
  static constexpr auto arguments = amp::fields(
      amp::field("i", &Arguments::integer), amp::field("y", &Arguments::byte), amp::field("s", &Arguments::string),
      amp::field("u", &Arguments::unicode, amp::Unicode()), amp::field("b", &Arguments::boolean),
      amp::field("f", &Arguments::number), amp::field("d", &Arguments::decimal), amp::field("t", &Arguments::time),
      amp::field("p", &Arguments::path), amp::field("l", &Arguments::list), amp::field("a", &Arguments::items),
      amp::field("o", &Arguments::descriptor));
  static constexpr auto response = arguments;
  static constexpr auto errors = amp::errors(amp::error<Declared>("D"), amp::fatalError<amp::InvalidSignature>("S"));
};

struct Commands : amp::AMP {
  Commands() {
    setMaxQuestions(3);
    respond<All>([](All::Arguments a) {
      if (a.integer == 7) throw Declared("seven");
      return a;
    });
    respondString("W", [this](const amp::Box&, const auto&) { return waiting.emplace_back().deferred(); });
    respondString("E", [](const amp::Box& box, const auto&) { return succeed(box); });
    respondString("F", [this](const amp::Box&, const auto&) {
      for (const auto& resolver : std::exchange(waiting, {})) resolver.callback(amp::Box{{"late", ""}});
      return succeed(amp::Box());
    });
  }
  void connectionLost(const Failure& reason) override {
    AMP::connectionLost(reason);
    lost = true;
  }
  std::vector<Resolver<amp::Box>> waiting;
  bool lost = false;
};

void checkCommands(std::string_view input, std::size_t piece) {
  LogCapture log;
  {
    auto commands = std::make_shared<Commands>();
    StringTransportWithDisconnection transport;
    commands->makeConnection(transport);
    std::size_t fired = 0;
    constexpr std::size_t kCalls = 4;
    for (std::size_t i = 0; i < kCalls; ++i) {
      commands->callRemote<All>({}).addBoth([&fired](Result<All::Arguments>) { ++fired; });
    }
    for (std::size_t at = 0; at < input.size() && commands->connected(); at += piece) {
      commands->dataReceived(input.substr(at, piece));
    }
    amp::parseString(transport.value());  // throws if it is cut off
    if (commands->connected()) commands->transport().loseConnection();
    REQUIRE(commands->lost);
    REQUIRE(fired == kCalls);
    commands->waiting.clear();
  }
  log.takeErrorTexts();
}

// ---- arguments

template <class T, class A = amp::ArgumentFor<T>>
void checkArgument(std::string_view text, A argument = {}) {
  T value{};
  try {
    argument.fromString(text, value);
  } catch (const amp::AmpError&) {
    return;
  }
  const std::string written = argument.toString(value);
  T again{};
  argument.fromString(written, again);
  REQUIRE(argument.toString(again) == written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = 1 + data[0] / 3;
  switch (data[0] % 3) {
    case 0:
      checkBoxes(input, piece);
      checkBoxes(input, std::max<std::size_t>(input.size(), 1));
      break;
    case 1:
      checkCommands(input, piece);
      break;
    default:
      checkArgument<std::int64_t>(input);
      checkArgument<std::uint8_t>(input);
      checkArgument<std::string>(input, amp::Unicode());
      checkArgument<double>(input);
      checkArgument<amp::Decimal>(input);
      checkArgument<amp::DateTime>(input);
      checkArgument<std::filesystem::path>(input);
      checkArgument<std::vector<double>>(input);
      break;
  }
  return 0;
}
