// Turns of a real reactor's loop, for tests of sockets.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <functional>

#include <reactor/reactor.hpp>

namespace torsion::test {

/// Turns until `done`; the limit only ends a test that would hang.
inline void runUntil(Reactor& reactor, const std::function<bool()>& done) {
  const Duration limit = reactor.seconds() + std::chrono::seconds(20);
  while (!done()) {
    reactor.iterate(std::chrono::milliseconds(100));
    REQUIRE_MESSAGE(reactor.seconds() < limit, "nothing happened");
  }
}

/// Turns enough for what is due to happen, and for what must not.
inline void spin(Reactor& reactor, int turns = 20) {
  for (int i = 0; i < turns; ++i) reactor.iterate();
}

}  // namespace torsion::test
