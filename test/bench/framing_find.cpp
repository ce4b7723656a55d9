// By hand: std::string_view::find over what a read gave, the rest kept in a std::string; a virtual function gets the
// message. It knows no limit of length, no raw mode and no end of the connection, and looks at a cut message anew.
#include <cstdint>

#include "framing.hpp"

namespace {

struct Receiver {
  virtual ~Receiver() = default;
  virtual std::size_t consume(std::string_view input) = 0;  // bytes of whole messages
  virtual void received(std::string_view message) = 0;

  void read(std::string_view data) {
    if (kept.empty()) {
      kept.assign(data.substr(consume(data)));
    } else {
      kept += data;
      kept.erase(0, consume(kept));
    }
  }
  std::string kept;
};

template <class Framing>
struct Counter final : Framing {
  void received(std::string_view message) override { bytes += message.size(); }
  std::size_t bytes = 0;
};

struct Lines : Receiver {
  std::size_t consume(std::string_view input) override {
    std::size_t at = 0;
    for (std::size_t end; (end = input.find("\r\n", at)) != std::string_view::npos; at = end + 2) {
      received(input.substr(at, end - at));
    }
    return at;
  }
};

struct Netstrings : Receiver {
  std::size_t consume(std::string_view input) override {
    std::size_t at = 0;
    for (;;) {
      const std::size_t colon = input.find(':', at);
      if (colon == std::string_view::npos) return at;
      std::size_t length = 0;
      for (std::size_t i = at; i < colon; ++i) length = length * 10 + static_cast<std::size_t>(input[i] - '0');
      if (input.size() < colon + length + 2) return at;
      if (input[colon + length + 1] != ',') std::abort();
      received(input.substr(colon + 1, length));
      at = colon + length + 2;
    }
  }
};

struct Int32 : Receiver {
  std::size_t consume(std::string_view input) override {
    std::size_t at = 0;
    for (;;) {
      if (input.size() < at + 4) return at;
      std::uint32_t length = 0;
      for (std::size_t i = at; i < at + 4; ++i) length = length << 8 | static_cast<unsigned char>(input[i]);
      if (input.size() < at + 4 + length) return at;
      received(input.substr(at + 4, length));
      at += 4 + length;
    }
  }
};

template <class Framing>
std::size_t feed(std::string_view input, std::size_t read) {
  Counter<Framing> counter;
  Receiver* receiver = bench::opaque<Receiver*>(&counter);
  for (std::size_t at = 0; at < input.size(); at += read) receiver->read(input.substr(at, read));
  return counter.bytes;
}

}  // namespace

int main() {
  bench::timeLines(feed<Lines>);
  bench::timeNetstrings(feed<Netstrings>);
  bench::timeInt32(feed<Int32>);
}
