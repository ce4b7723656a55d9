// Timers of Torsion's Reactor.
#include <reactor/reactor.hpp>
#include <vector>

#include "timers.hpp"

namespace {

struct Side {
  long& calls;
  torsion::Reactor& reactor = torsion::reactor();
  std::vector<torsion::DelayedCall> timers = std::vector<torsion::DelayedCall>(bench::kTimers);

  void schedule(std::size_t i, bench::milliseconds in) {
    timers[i] = reactor.callLater(in, [this, step = 1L] {
      calls += step;
      if (calls == long(bench::kTimers)) reactor.stop();
    });
  }
  void postpone(std::size_t i, bench::milliseconds in) { timers[i].reset(in); }
  void cancel(std::size_t i) { timers[i].cancel(); }
  void settle() {}
  void run(auto f, auto g) {
    reactor.callWhenRunning(f);
    reactor.callLater(bench::milliseconds(0), g);
    reactor.run();
  }
};

}  // namespace

int main() {
  long calls = 0;
  Side side{calls};
  bench::timeTimers(side, calls);
}
