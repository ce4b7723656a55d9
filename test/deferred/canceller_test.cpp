#include <deferred/canceller.hpp>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>

using namespace torsion;

TEST_CASE("a canceller stops a Deferred that was given away") {
  Resolver<int> r;
  Canceller stop;
  bool cancelled = false;
  {
    auto d = r.deferred();
    stop = d.canceller();
    std::move(d).addErrback([&](const CancelledError&) { return cancelled = true, 0; });
  }
  Canceller copy = stop;
  copy.cancel();
  CHECK(cancelled);
  stop.cancel();
}

TEST_CASE("a canceller follows the chain to the Deferred that it waits for") {
  Resolver<int> outer, inner;
  bool cancelled = false;
  inner.onCancel([&](const Resolver<int>&) { cancelled = true; });
  Canceller stop;
  {
    auto d = outer.deferred().addCallback([&](int) { return inner.deferred(); });
    stop = d.canceller();
    std::move(d).addErrback([](const CancelledError&) { return 0; });
  }
  outer.callback(1);
  stop.cancel();
  CHECK(cancelled);
}

TEST_CASE("a canceller of a chain that has ended, and an empty one, do nothing") {
  Canceller stop;
  stop.cancel();
  {
    Deferred<int> d;
    stop = d.canceller();
  }
  stop.cancel();
}
