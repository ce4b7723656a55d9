// Chains of Torsion's Deferred.
#include <deferred/deferred.hpp>

#include "chain.hpp"

int main() {
  using namespace bench;
  using torsion::Deferred;
  const long a = opaque(1L), b = opaque(2L), c = opaque(0L);

  timeChains("int", 2400000, [&](int i) {
    Deferred<int> d;
    for (int k = 0; k < kCallbacks; ++k) d.addCallback(intStep(a, b));
    d.callback(i);
    return 1;
  });

  const auto strings = [&](const char* text) {
    Deferred<std::string> d;
    for (int k = 0; k < kCallbacks; ++k) d.addCallback(stringStep(c, c, c));
    d.callback(text);
    return 1;
  };
  timeChains("string", 2400000, [&](int) { return strings(kLong); });
  timeChains("short", 2400000, [&](int) { return strings(kShort); });

  timeChains("failure", 480000, [&](int) {
    Deferred<int> d;
    for (int k = 0; k < kCallbacks; ++k) d.addErrback([a](const Expected&) { return int(a); });
    d.addErrback([](const torsion::Failure&) { return 1; });
    d.errback(Happened("it happened"));
    return 1;
  });

  report("sizeof_chain", sizeof(torsion::detail::Chain));
}
