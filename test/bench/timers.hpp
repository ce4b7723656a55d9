// The work of the timer benchmarks, the same for every side.
//
// A million timers, due in 60 to 120 s: schedule, postpone each by 5 s, cancel each, in the order in which they were
// scheduled; then as many, postponed in one random order and cancelled in another. Then as many again, due in 0.5 to 1
// s, postponed by 0.5 s each, which expire while the loop runs. Each timer has a callable of 16 bytes. The figures are
// CPU time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "bench.hpp"

namespace bench {

using std::chrono::milliseconds;

inline constexpr std::size_t kTimers = 1'000'000;

/// Times one side. Side has
///   void schedule(std::size_t i, milliseconds in);   a timer whose callable is `calls += a` with two captured words
///   void postpone(std::size_t i, milliseconds in);   `in` from now, later than before
///   void cancel(std::size_t i);
///   void settle();                                   does what cancelling or postponing left to do
///   void run(f, g);                                  calls f and g in the loop, then runs until no timer is left
template <class Side>
void timeTimers(Side& side, const long& calls) {
  std::mt19937 random(1);
  std::vector<milliseconds> due(kTimers);
  for (auto& ms : due) ms = milliseconds(60'000 + random() % 60'000);
  std::vector<std::size_t> order(kTimers);
  std::iota(order.begin(), order.end(), 0);

  const auto time = [](const char* name, auto work) {
    const double start = cpuTime();
    work();
    report(name, (cpuTime() - start) / kTimers);
  };
  const auto scheduleAll = [&] {
    for (const std::size_t i : order) side.schedule(i, due[i]);
  };
  const auto postponeAll = [&] {
    for (const std::size_t i : order) side.postpone(i, due[i] + milliseconds(5000));
    side.settle();
  };
  const auto cancelAll = [&] {
    for (const std::size_t i : order) side.cancel(i);
    side.settle();
  };

  const auto outstanding = [&] {
    scheduleAll();  // from now on every side has the memory that it needs
    cancelAll();
    time("schedule", scheduleAll);
    time("postpone", postponeAll);
    time("cancel", cancelAll);

    scheduleAll();
    std::shuffle(order.begin(), order.end(), random);
    time("postpone_random", postponeAll);
    std::shuffle(order.begin(), order.end(), random);
    time("cancel_random", cancelAll);
  };
  double start = 0;
  const auto expiring = [&] {
    for (auto& ms : due) ms = milliseconds(500 + random() % 500);
    for (std::size_t i = 0; i < kTimers; ++i) side.schedule(i, due[i]);
    for (std::size_t i = 0; i < kTimers; ++i) side.postpone(i, due[i] + milliseconds(500));
    start = cpuTime();
  };
  side.run(outstanding, expiring);
  report("expire", (cpuTime() - start) / kTimers);
  if (calls != long(kTimers)) {
    std::fprintf(stderr, "%ld timers expired, not %zu\n", calls, kTimers);
    std::exit(1);
  }
}

}  // namespace bench
