// The work of the chain benchmarks, the same for every side, and the loop that times it.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "bench.hpp"

namespace bench {

inline constexpr int kCallbacks = 10;

/// A callback of 16 bytes.
inline auto intStep(long a, long b) {
  return [a, b](int x) { return x + int(a ^ b); };
}

/// A callback of 24 bytes.
inline auto stringStep(long a, long b, long c) {
  return [a, b, c](std::string s) {
    s.front() = char(s.front() + a + b + c);
    return s;
  };
}

/// A string with memory of its own, and one that std::string keeps inside.
inline constexpr char kLong[] = "forty characters, as a page might begin,";
inline constexpr char kShort[] = "hello, world";

/// What the failing chains fail with, and what their errbacks wait for in vain.
struct Happened : std::runtime_error {
  using runtime_error::runtime_error;
};
struct Expected : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Runs `chain(i)` `count` times in slices, after a warm-up; reports CPU nanoseconds per callback in the quickest slice
/// as `name`, and allocations and exceptions per chain as `name`_allocations and `name`_thrown.
template <class Chain>
void timeChains(const std::string& name, int count, Chain chain) {
  constexpr int kSlices = 48;
  const int each = count / kSlices;
  long sum = 0;
  const auto slice = [&] {
    for (int i = 0; i < each; ++i) sum += chain(i);
  };
  slice();
  const std::size_t allocationsBefore = allocations, thrownBefore = thrown;
  report(name.c_str(), quickest(kSlices, slice) / each / kCallbacks);
  const double chains = double(each) * kSlices;
  report((name + "_allocations").c_str(), double(allocations - allocationsBefore) / chains);
  report((name + "_thrown").c_str(), double(thrown - thrownBefore) / chains);
  opaque(sum);
}

}  // namespace bench
