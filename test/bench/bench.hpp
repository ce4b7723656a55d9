// What the C++ sides of the benchmarks share: CPU time, values the optimiser cannot see through, the line that reports
// a figure to bench.py, and a count of allocations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <limits>

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

/// CPU nanoseconds of the quickest of `times` calls of `work`, as Python's timeit takes it: whoever shares the core
/// makes the others longer.
template <class Work>
double quickest(int times, Work work) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < times; ++i) {
    const double start = cpuTime();
    work();
    least = std::min(least, cpuTime() - start);
  }
  return least;
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
