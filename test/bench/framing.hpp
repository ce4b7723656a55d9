// The work of the framing benchmarks, the same for every side: a stream in memory, given in reads of 64 KiB, or of few
// bytes, so that nearly every message is cut.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bench.hpp"

namespace bench {

inline constexpr std::size_t kMessages = 1'000'000;
inline constexpr std::size_t kRead = 65536;
inline constexpr std::size_t kShortRead = 24;
inline constexpr std::size_t kLongRead = 16384;
inline constexpr std::size_t kLongLine = 1 << 20;
inline constexpr std::size_t kLongLines = 32;
inline constexpr std::string_view kMessage = "sixteen letters.";

inline std::string repeated(std::size_t count, std::string_view what) {
  std::string all;
  all.reserve(count * what.size());
  for (std::size_t i = 0; i < count; ++i) all += what;
  return all;
}

/// Times one side: `feed(input, read)` takes `input` in reads of `read` bytes and returns the bytes of all its
/// messages. Reports CPU nanoseconds per message in the quickest of eight passes as `name`.
template <class Feed>
void timeFraming(const char* name, const std::string& input, std::size_t read, std::size_t messages, std::size_t bytes,
                 Feed feed) {
  const double least = quickest(8, [&] {
    if (feed(std::string_view(input), read) != bytes * messages) std::abort();
  });
  report(name, least / static_cast<double>(messages));
}

template <class Feed>
void timeLines(Feed feed) {
  const std::string lines = repeated(kMessages, std::string(kMessage) + "\r\n");
  timeFraming("lines", lines, kRead, kMessages, kMessage.size(), feed);
  timeFraming("cut", lines, kShortRead, kMessages, kMessage.size(), feed);
  const std::string longs = repeated(kLongLines, std::string(kLongLine, 'x') + "\r\n");
  timeFraming("long", longs, kLongRead, kLongLines, kLongLine, feed);
}
template <class Feed>
void timeNetstrings(Feed feed) {
  timeFraming("netstrings", repeated(kMessages, "16:" + std::string(kMessage) + ","), kRead, kMessages, kMessage.size(),
              feed);
}
template <class Feed>
void timeInt32(Feed feed) {
  timeFraming("int32", repeated(kMessages, std::string("\0\0\0\x10", 4) + std::string(kMessage)), kRead, kMessages,
              kMessage.size(), feed);
}

}  // namespace bench
