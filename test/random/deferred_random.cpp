// deferred_random COUNT SEED, deferred_random fresh COUNT: random programs over Deferreds.
//
// All that users give the library does something at random when it is called, and when it is destroyed: it fires,
// cancels, adds, pauses, drops or throws. In the end each program lets go of all it has, and then: each callback has
// run exactly once, each value that came was whole and of its own type, and nothing is left. Memory errors are for the
// sanitizers to find. A program that fails is named by its seed: deferred_random 1 SEED repeats it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <deferred/share.hpp>
#include <deferred/sync.hpp>
#include <reactor/testing/clock.hpp>

using namespace torsion;

namespace {

std::mt19937 rng;
unsigned seed = 0;
int depth = 0;
int budget = 0;  // of actions, in this program
long live = 0;   // of values, captures and coroutines' locals
long failures = 0;

void fail(const char* what) {
  std::printf("seed %u: %s\n", seed, what);
  ++failures;
}
int below(int n) {
  return static_cast<int>(rng() % static_cast<unsigned>(n));
}
bool once(int in) {
  return below(in) == 0;
}
void act();
void maybeAct(int in) {
  if (depth < 12 && budget > 0 && once(in)) act();
}
struct Boom : std::runtime_error {
  using runtime_error::runtime_error;
};
void maybeThrow(int in) {
  if (once(in)) throw Boom("thrown");
}

// A capture, or a local variable: acts when it goes.
struct Guard {
  bool on = true;
  Guard() { ++live; }
  Guard(Guard&& other) noexcept : on(std::exchange(other.on, false)) { ++live; }
  Guard(const Guard&) { ++live; }
  ~Guard() {
    --live;
    if (on) maybeAct(6);
  }
};

// ---- values: each knows what it is, so that one that was destroyed, or is another one's, is seen
template <unsigned kMark>
struct Marked {
  unsigned mark = kMark;
  Marked() { ++live; }
  Marked(const Marked& other) : mark(other.mark) { ++live; }
  Marked& operator=(const Marked&) = default;
  ~Marked() {
    check();
    mark = 0;
    --live;
  }
  void check() const {
    if (mark != kMark) fail("a value is of another type, or was destroyed before");
  }
};
struct Number {  // plain
  unsigned mark = 0x4e4e4e4e;
  void check() const {
    if (mark != 0x4e4e4e4e) fail("a number is of another type");
  }
};
struct Live : Marked<0x11111111> {  // moves without throwing; acts when it goes, moved from or not
  Live() = default;
  Live(Live&& other) noexcept : Marked(other) {}
  Live(const Live& other) : Marked(other) { maybeThrow(40); }
  ~Live() { maybeAct(10); }
};
struct alignas(64) Heavy : Marked<0x22222222> {  // throws when it is moved
  char pad[200] = {};
  std::unique_ptr<int> owned = std::make_unique<int>(1);
  Heavy() = default;
  Heavy(Heavy&& other) : Marked(other), owned(std::move(other.owned)) { maybeThrow(60); }
  Heavy(const Heavy& other) : Marked(other) { maybeThrow(40); }
  ~Heavy() { maybeAct(10); }
};

using D = Deferred<Live>;

// ---- what the program holds. Whatever is used is looked up anew, or taken out, as users must do.
struct Held {
  std::unique_ptr<D> d;
  int pauses = 0;
  ~Held() {
    while (d && pauses > 0) resume();
  }
  void resume() {
    --pauses;
    d->unpause();
  }
};
// A producer that its canceller keeps, and nobody else: fired through a plain pointer, as an event source does.
struct Request {
  Resolver<Number> answer;
  Request();
  ~Request();
};
struct Source {
  std::function<void()> callback;
  std::function<void()> errback;
  std::function<void(int)> onCancel;
};

std::vector<std::shared_ptr<Held>> held;
std::vector<std::shared_ptr<Source>> sources;
std::vector<Request*> requests;
std::vector<Canceller> cancellers;
std::vector<Shared<Live>> shares;
std::unique_ptr<DeferredLock> lock;
std::unique_ptr<DeferredSemaphore> semaphore;
std::unique_ptr<DeferredQueue<Live>> queue;
std::unique_ptr<Clock> timer;
bool losesPauses = false;  // this program gives Deferreds away that are paused, which nobody can unpause then

Request::Request() {
  ++live;
  requests.push_back(this);
}
Request::~Request() {
  --live;
  requests.erase(std::find(requests.begin(), requests.end(), this));
}

// Has to run once.
struct Probe {
  bool on = true;
  bool ran = false;
  Probe() { ++live; }
  Probe(Probe&& other) noexcept : on(std::exchange(other.on, false)), ran(other.ran) { ++live; }
  ~Probe() {
    --live;
    if (on && !ran && !losesPauses) fail("a callback has not run");
  }
  void run() {
    if (std::exchange(ran, true)) fail("a callback has run twice");
  }
};

D keepSafe(D d) {
  cancellers.push_back(d.canceller());
  return std::move(d).addBoth([probe = Probe()](Result<Live> result) mutable {
    probe.run();
    if (result.ok()) result.value().check();
    return result;
  });
}
void keep(D d) {
  auto h = std::make_shared<Held>();
  h->d = std::make_unique<D>(keepSafe(std::move(d)));
  held.push_back(std::move(h));
}
template <class T>
T* pick(std::vector<T>& from) {
  return from.empty() ? nullptr : &from[static_cast<std::size_t>(below(static_cast<int>(from.size())))];
}
std::shared_ptr<Held> pickHeld() {
  auto* h = pick(held);
  return h && (*h)->d ? *h : nullptr;
}
template <class T>
T takeOne(std::vector<T>& from) {
  std::swap(*pick(from), from.back());
  T taken = std::move(from.back());
  from.pop_back();
  return taken;
}

template <class Head>
void addSource(const Resolver<Head>& r) {
  auto source = std::make_shared<Source>();
  source->callback = [r] { r.callback(Head()); };
  source->errback = [r] { r.errback(Boom("errback")); };
  source->onCancel = [r](int how) {
    switch (how) {
      case 0:
        return r.onCancel([g = Guard()](const Resolver<Head>&) { maybeAct(2); });
      case 1:
        return r.onCancel([g = Guard()](const Resolver<Head>& self) {
          maybeAct(2);
          if (!self.called()) self.callback(Head());
        });
      case 2:
        return r.onCancel([g = Guard()](const Resolver<Head>&) {
          maybeAct(2);
          return CancelPending();
        });
      case 3:
        return r.onCancel([g = Guard()](const Resolver<Head>&) {
          maybeAct(2);
          throw Boom("canceller");
        });
      default:
        return r.onCancel([g = Guard()](const Resolver<Head>&) -> Deferred<void> {
          co_await Deferred<void>().addCallback([] {});
          maybeAct(2);
        });
    }
  };
  if (!once(4)) sources.push_back(std::move(source));
}
// A new Deferred, whose head mostly has another type than its end.
D newDeferred() {
  switch (below(4)) {
    case 0: {
      Resolver<Number> r;
      addSource(r);
      return r.deferred().addCallback([g = Guard()](Number n) {
        n.check();
        maybeAct(4);
        return Live();
      });
    }
    case 1: {
      Resolver<Heavy> r;
      addSource(r);
      return r.deferred().addCallback([g = Guard()](Heavy h) {
        h.check();
        maybeAct(4);
        return Live();
      });
    }
    case 2: {
      auto request = std::make_shared<Request>();
      request->answer.onCancel([request, g = Guard()](const Resolver<Number>&) { maybeAct(2); });
      return request->answer.deferred().addCallback([](Number n) {
        n.check();
        return Live();
      });
    }
    default: {
      Resolver<Live> r;
      addSource(r);
      return r.deferred();
    }
  }
}
D someDeferred() {
  if (!held.empty() && !once(3)) {
    if (auto h = takeOne(held); h->d) {
      if (losesPauses && once(4)) h->pauses = 0;
      while (h->d && h->pauses > 0) h->resume();
      if (auto d = std::move(h->d)) return std::move(*d);
    }
  }
  return keepSafe(newDeferred());
}
std::vector<D> some(int most) {
  std::vector<D> all;
  for (int i = below(most + 1); i > 0; --i) all.push_back(someDeferred());
  return all;
}

// ---- coroutines
D work(D first, Guard) {
  Guard local;
  try {
    Live value = co_await std::move(first);
    value.check();
    maybeAct(3);
    maybeThrow(6);
  } catch (const CancelledError&) {
    maybeAct(3);
    if (once(2)) throw;
  } catch (const std::exception&) {
    maybeAct(3);
  }
  // A coroutine that got hold of its own Deferred, paused, would keep itself.
  for (int i = losesPauses ? 0 : below(3); i > 0; --i) {
    Guard inner;
    bool failed = false;
    try {
      D next = someDeferred();
      if (once(2)) {
        Live value = co_await next;
        value.check();
        maybeAct(4);
      } else {
        Live value = co_await std::move(next);
        value.check();
      }
    } catch (const std::exception&) {
      failed = true;
    }
    if (failed && once(3)) co_await someDeferred();
  }
  maybeThrow(5);
  if (once(3)) co_return Failure(Boom("returned"));
  co_return Live();
}
// Waits for one that others may take, or drop.
D watch(D& d) {
  Live value = co_await d;
  value.check();
  maybeAct(2);
  co_return value;
}
Deferred<Heavy> heavyWork(D first) {
  Guard local;
  co_await std::move(first);
  Heavy heavy;
  co_return heavy;
}

void addSomething(const std::shared_ptr<Held>& h) {
  switch (below(5)) {
    case 0:
      h->d->addCallback([g = Guard()](Live value) {
        value.check();
        maybeAct(2);
        maybeThrow(6);
        return Live();
      });
      break;
    case 1:
      h->d->addErrback([g = Guard()](const Boom&) {
        maybeAct(2);
        maybeThrow(6);
        return Live();
      });
      break;
    case 2:
      h->d->addErrback([g = Guard()](Failure f) -> Result<Live> {
        maybeAct(2);
        if (once(2)) return f;
        return Live();
      });
      break;
    case 3:
      h->d->addErrback([g = Guard()](const Failure&) -> D {
        maybeAct(2);
        return someDeferred();
      });
      break;
    default:
      h->d->addBoth([g = Guard()](Result<Live> result) -> Result<Live> {
        if (result.ok()) result.value().check();
        maybeAct(2);
        maybeThrow(6);
        return result;
      });
  }
}
D changeType(D d) {
  switch (below(4)) {
    case 0:
      return std::move(d).addCallback([g = Guard()](const Live& value) -> D {
        value.check();
        maybeAct(2);
        maybeThrow(8);
        return someDeferred();
      });
    case 1:
      return std::move(d)
          .addCallback([g = Guard()](const Live&) { return Heavy(); })
          .addCallback([g = Guard()](const Heavy& value) {
            value.check();
            maybeAct(2);
            return Live();
          });
    case 2:
      return std::move(d)
          .addCallback([g = Guard()](const Live&) { return Number(); })
          .addBoth([g = Guard()](Result<Number> result) {
            if (result.ok()) result.value().check();
            maybeAct(2);
            return Live();
          });
    default:
      return std::move(d).addCallback([g = Guard()](Live value) -> D {  // a coroutine with captures
        co_await someDeferred();
        maybeAct(2);
        co_return value;
      });
  }
}

void actAtRandom() {
  switch (below(26)) {
    case 0:
    case 1:
    case 2:
      keep(newDeferred());
      break;
    case 3:
    case 4:
      if (auto* source = pick(sources)) {
        auto one = *source;
        auto fire = once(4) ? one->errback : one->callback;
        if (once(2)) one.reset();
        fire();
      }
      break;
    case 5:
      if (auto* request = pick(requests)) (*request)->answer.callback(Number());
      break;
    case 6:
      if (!sources.empty()) takeOne(sources);
      break;
    case 7:
      if (!held.empty()) takeOne(held);
      break;
    case 8:
    case 9:
    case 10:
      if (auto h = pickHeld()) addSomething(h);
      break;
    case 11:
    case 12:
      keep(changeType(someDeferred()));
      break;
    case 13:
    case 14:
      if (auto h = pickHeld()) h->d->cancel();
      break;
    case 15:
      if (auto h = pickHeld()) {
        if (h->pauses > 0) {
          h->resume();
        } else {
          ++h->pauses;
          h->d->pause();
        }
      }
      break;
    case 16: {
      Resolver<Live> target;
      keep(target.deferred());
      keep(someDeferred().chainDeferred(std::move(target)).addCallback([g = Guard()] {
        maybeAct(3);
        return Live();
      }));
      break;
    }
    case 17:
      switch (below(4)) {
        case 0:
          keep(DeferredList(some(4), DeferredListOptions{once(2), once(2)})
                   .addCallback([g = Guard()](const std::vector<Result<Live>>& all) {
                     for (const auto& one : all) {
                       if (one.ok()) one.value().check();
                     }
                     maybeAct(2);
                     return Live();
                   }));
          break;
        case 1:
          keep(DeferredList(some(4), FireOnOneCallback{once(2), once(2)}).addCallback([g = Guard()](const auto&) {
            maybeAct(2);
            return Live();
          }));
          break;
        case 2:
          keep(gatherResults(some(4), once(2)).addCallback([g = Guard()](const std::vector<Live>& all) {
            for (const Live& one : all) one.check();
            maybeAct(2);
            return Live();
          }));
          break;
        default:
          keep(gatherResults(someDeferred(), heavyWork(someDeferred())).addCallback([](const auto& both) {
            std::get<0>(both).check();
            std::get<1>(both).check();
            return Live();
          }));
      }
      break;
    case 18:
      keep(race(some(4)).addCallback([g = Guard()](std::pair<std::size_t, Live> first) {
        first.second.check();
        maybeAct(2);
        return std::move(first.second);
      }));
      break;
    case 19:
      if (shares.empty() || once(2)) shares.push_back(share(someDeferred()));
      if (auto* one = pick(shares)) {
        auto shared = *one;
        if (once(6)) {
          shared.cancel();
        } else {
          keep(shared.deferred());
        }
      }
      if (shares.size() > 5) takeOne(shares);
      break;
    case 20:
      if (auto h = pickHeld(); h && once(3)) {
        keep(watch(*h->d));
      } else {
        keep(work(someDeferred(), Guard()));
      }
      break;
    case 21:
      keep(heavyWork(someDeferred()).addCallback([](const Heavy& value) {
        value.check();
        return Live();
      }));
      break;
    case 22:
      switch (below(5)) {
        case 0:
          keep(lock->run([g = Guard()]() -> D {
            maybeAct(2);
            maybeThrow(8);
            return someDeferred();
          }));
          break;
        case 1:
          keep(semaphore->run([g = Guard()] {
            maybeAct(2);
            maybeThrow(8);
            return Live();
          }));
          break;
        case 2:
          keep(semaphore->acquire().addCallback([g = Guard()] {
            maybeAct(2);
            return Live();
          }));
          break;
        case 3:
          if (semaphore->tokens() < semaphore->limit()) semaphore->release();
          break;
        default:
          if (once(4)) {
            auto old = std::exchange(semaphore, std::make_unique<DeferredSemaphore>(2));
            auto oldLock = std::exchange(lock, std::make_unique<DeferredLock>());
          }
      }
      break;
    case 23:
      if (once(2)) {
        keep(queue->get());
      } else {
        queue->put(Live());
      }
      if (once(20)) auto old = std::exchange(queue, std::make_unique<DeferredQueue<Live>>());
      break;
    case 24:
      if (auto h = pickHeld()) {
        const std::chrono::seconds limit(below(4));
        if (once(2)) {
          h->d->addTimeout(limit, *timer);
        } else {
          h->d->addTimeout(limit, *timer, [g = Guard()](Result<Live> result, Duration) -> Result<Live> {
            maybeAct(3);
            return result;
          });
        }
      }
      if (depth == 1) timer->advance(std::chrono::seconds(below(3)));
      break;
    default:
      if (once(2)) {
        if (auto* source = pick(sources)) {
          auto one = *source;
          one->onCancel(below(5));
        }
      } else if (!cancellers.empty()) {
        const Canceller one = *pick(cancellers);
        one.cancel();
      }
  }
}

void act() {
  ++depth;
  --budget;
  try {
    actAtRandom();
  } catch (const Boom&) {
  } catch (const std::logic_error&) {  // fired already; taken by another one
  }
  --depth;
}

template <class T>
void clear(std::vector<T>& all) {
  while (!all.empty()) std::exchange(all, {});
}

// Fires, cancels and drops all there is, and what comes up meanwhile: callbacks make new Deferreds.
void letGo() {
  while (!sources.empty() || !requests.empty() || !cancellers.empty()) {
    for (auto& h : std::vector(held)) {
      while (h->d && h->pauses > 0) h->resume();
    }
    for (auto& source : std::exchange(sources, {})) {
      try {
        source->callback();
      } catch (const std::exception&) {
      }
    }
    // Each is destroyed with what its canceller holds.
    while (!requests.empty()) requests.front()->answer.onCancel([](const Resolver<Number>&) {});
    // Again and again, since a coroutine may catch it and wait for something else.
    const std::vector<Canceller> all = std::exchange(cancellers, {});
    for (int round = 0; round < 5; ++round) {
      for (const Canceller& one : all) {
        try {
          one.cancel();
        } catch (const Boom&) {
        }
      }
    }
    if (timer) timer->advance(std::chrono::seconds(10));
  }
  clear(held);
  clear(shares);
}

void runProgram(unsigned number) {
  seed = number;
  rng.seed(seed);
  losesPauses = once(4);
  lock = std::make_unique<DeferredLock>();
  semaphore = std::make_unique<DeferredSemaphore>(2);
  queue = std::make_unique<DeferredQueue<Live>>();
  timer = std::make_unique<Clock>();
  for (int i = 0; i < 60; ++i) {
    depth = 0;
    budget = 300;
    act();
  }
  budget = 0;
  letGo();
  queue.reset();
  lock.reset();
  semaphore.reset();
  timer.reset();
  letGo();
  if (live != 0) fail((std::to_string(live) + " objects are left").c_str());
  live = 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what has been said stays said, whatever comes
  const bool fresh = argc == 3 && std::strcmp(argv[1], "fresh") == 0;
  if (argc != 3) {
    std::fprintf(stderr, "deferred_random COUNT SEED, or fresh COUNT\n");
    return 2;
  }
  const auto count = static_cast<unsigned>(std::strtoul(argv[fresh ? 2 : 1], nullptr, 10));
  const unsigned first = fresh ? std::random_device()() : static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10));
  std::printf("seeds %u to %u\n", first, first + count - 1);
  std::fflush(stdout);
  setUnhandledFailureHandler([](std::string_view, const Failure&, const std::source_location&) { maybeAct(10); });
  const bool names = std::getenv("NAMES") != nullptr;  // each before it runs, for those that crash
  unsigned failed = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (names) std::fprintf(stderr, "seed %u\n", first + i);
    const long before = failures;
    runProgram(first + i);
    if (failures != before) ++failed;
  }
  std::printf("%u passed, %u failed\n", count - failed, failed);
  return failed != 0;
}
