// The frame of the getPage benchmarks, the same for every side: `getpage_SIDE PORT PAGES` fetches
// http://127.0.0.1:PORT/ PAGES times, kInFlight at a time, a connection each; the figures leave out the program's
// start.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "bench.hpp"

namespace bench {

inline constexpr int kInFlight = 64;
inline constexpr std::size_t kWarmUp = 500;
/// What nginx answers, in full.
inline constexpr std::size_t kBody = 13;
/// No connection, and no single read or write, may take longer.
inline constexpr int kTimeoutSeconds = 30;

/// Counts pages for a side: which fetches as long as `more()` says so, and calls `got()` for each page.
class Pages {
 public:
  explicit Pages(char** argv) : port(argv[1]), wanted_(std::strtoul(argv[2], nullptr, 10) + kWarmUp) {}

  const char* const port;

  bool more() {
    if (started_ == wanted_) return false;
    ++started_;
    return true;
  }
  /// True for the last page.
  bool got(std::size_t status, std::size_t bytes) {
    if (status != 200 || bytes != kBody) fail("a wrong page");
    ++ended_;
    if (ended_ == kWarmUp) {
      cpu_ = cpuTime();
    } else if (ended_ == wanted_) {
      report("cpu_us", (cpuTime() - cpu_) / 1e3 / double(wanted_ - kWarmUp));
    }
    return ended_ == wanted_;
  }
  [[noreturn]] static void fail(const char* why) {
    std::fprintf(stderr, "a page failed: %s\n", why);
    std::exit(1);
  }

 private:
  std::size_t wanted_, started_ = 0, ended_ = 0;
  double cpu_ = 0;
};

}  // namespace bench
