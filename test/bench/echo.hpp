// What the servers of the echo benchmarks share: they print their port, serve, and are killed.
#pragma once

#include <sys/resource.h>

#include <cstdio>

namespace bench {

inline constexpr int kBacklog = 4096;

/// For thousands of connections.
inline void raiseDescriptorLimit() {
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

inline void serving(int port) {
  std::printf("%d\n", port);
  std::fflush(stdout);
}

}  // namespace bench
