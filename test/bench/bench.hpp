// What the C++ sides of the benchmarks share: CPU time, values the optimiser cannot see through, the line that reports
// a figure to bench.py, and a count of allocations.
#pragma once

#include <cstddef>
#include <cstdio>
#include <ctime>

namespace bench {

/// User and system time of this process so far, in nanoseconds: what others do on the machine counts little.
inline double cpuTime() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
}

inline double wallTime() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
}

/// The same value, of which the optimiser knows nothing.
template <class T>
T opaque(T value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// A figure for bench.py: one line, a name and a number.
inline void report(const char* name, double value) {
  std::printf("%s %.6g\n", name, value);
}

/// Calls of operator new in this program, counted by bench.cpp.
extern std::size_t allocations;
/// Exceptions thrown in this program, counted by bench.cpp.
extern std::size_t thrown;

}  // namespace bench
