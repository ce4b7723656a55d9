// Coroutines that return a Deferred (deferred/deferred.hpp).
#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/detail/second_handle.hpp>
#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <deferred/sync.hpp>
#include <test/support/at_end.hpp>
#include <test/support/small_stack.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;
using Strings = std::vector<std::string>;

namespace {

struct GenericError : std::runtime_error {
  using runtime_error::runtime_error;
};

template <class T>
std::string peek(Deferred<T>& d) {
  // Shared, since the callback stays with a Deferred that has no result yet.
  auto seen = std::make_shared<std::string>("pending");
  d.addBoth([seen](Result<T> result) {
    if (!result.ok()) {
      *seen = "!" + result.failure().getErrorMessage();
    } else if constexpr (std::is_void_v<T>) {
      *seen = "done";
    } else {
      *seen = std::to_string(result.value());
    }
    return result;
  });
  return *seen;
}

Deferred<int> addTen(Deferred<int> d) {
  co_return 10 + co_await std::move(d);
}

Deferred<int> passOn(Deferred<int> d) {
  co_return co_await std::move(d);
}

// Coroutines that call each other. Each notes how it is entered and left: "2(1 " and "2)4 " is the second with 1 and 4.
struct Calls {
  std::string log;
  std::vector<std::pair<Resolver<int>, int>> awaited;  // by the innermost ones, each to be fired with its argument

  Deferred<int> inner(int x) {
    enter(1, x);
    Resolver<int> r;
    awaited.emplace_back(r, x);
    x = 1 + co_await r.deferred();
    co_return leave(1, x);
  }
  Deferred<int> middle(int x, int calls) {
    enter(2, x);
    for (int i = 0; i < calls; ++i) x = co_await inner(x);
    co_return leave(2, x + 2);
  }
  Deferred<int> outer(int x, int calls) {
    enter(3, x);
    for (int i = 0; i < calls; ++i) x = co_await middle(x, calls);
    co_return leave(3, x + 4);
  }
  // Also those that are awaited only then.
  void fireAll() {
    for (std::size_t i = 0; i < awaited.size(); ++i) {
      auto [r, x] = awaited[i];
      r.callback(x);
    }
  }

 private:
  void enter(int who, int x) { log += std::to_string(who) + "(" + std::to_string(x) + " "; }
  int leave(int who, int x) {
    log += std::to_string(who) + ")" + std::to_string(x) + " ";
    return x;
  }
};

// For the tests of cancel: translates two errors of what it awaits, directly or through another coroutine.
struct Untranslated : std::exception {};
struct Translated : std::exception {
  const char* what() const noexcept override { return "translated"; }
};
struct NoError : std::exception {
  explicit NoError(int value) : value(value) {}
  int value;
};
Deferred<int> translate(bool direct, Deferred<void> first, Deferred<int> d) {
  try {
    co_await std::move(first);
    if (direct) co_return 1 + co_await std::move(d);
    co_return 1 + co_await passOn(std::move(d));
  } catch (const Untranslated&) {
    throw Translated();
  } catch (const NoError& e) {
    co_return e.value - 1;
  }
}
// Calls f with a function that starts such a coroutine, in each of the ways in which that can come to wait.
template <class F>
void eachWayToWait(F f) {
  for (bool direct : {true, false}) {
    for (bool second : {false, true}) {
      CAPTURE(direct);
      CAPTURE(second);
      f([&](Deferred<int> awaited) {
        Resolver<void> first;
        auto d = translate(direct, second ? first.deferred() : succeed(), std::move(awaited));
        if (second) first.callback();
        return d;
      });
    }
  }
}

Deferred<int> cleanUp(Deferred<int> d) {
  try {
    co_return co_await std::move(d);
  } catch (const CancelledError&) {
    co_return -1;
  }
}

}  // namespace

TEST_CASE("a coroutine starts at once and runs as far as it can") {
  Strings log;
  auto run = [&]() -> Deferred<int> {
    log.push_back("started");
    int n = co_await succeed(4);
    log.push_back("went on");
    co_return n;
  };
  auto d = run();
  CHECK(log == Strings{"started", "went on"});
  CHECK(peek(d) == "4");
}

TEST_CASE("a coroutine waits for a Deferred that has not fired") {
  Resolver<int> r;
  auto d = addTen(r.deferred());
  CHECK(peek(d) == "pending");
  r.callback(5);
  CHECK(peek(d) == "15");
}

TEST_CASE("a failure is thrown at the co_await, and what a coroutine throws is its Deferred's failure") {
  Resolver<int> r;
  auto d = addTen(r.deferred());
  r.errback(GenericError("deep"));
  CHECK(peek(d) == "!deep");
  d.addErrback([](const GenericError&) { return 0; });
  auto immediate = addTen(fail<int>(GenericError("at once")));
  CHECK(peek(immediate) == "!at once");
  immediate.addErrback([](const GenericError&) { return 0; });
}

TEST_CASE("what a coroutine throws after it has waited is its Deferred's failure") {
  Resolver<int> r;
  auto run = [](Deferred<int> d) -> Deferred<int> {
    co_await std::move(d);
    throw GenericError("its own");
  };
  auto d = run(r.deferred());
  r.callback(1);
  CHECK(peek(d) == "!its own");
  d.addErrback([](const GenericError&) { return 0; });
}

TEST_CASE("coroutines that call each other go on from the inside out") {
  Calls calls;
  SUBCASE("once") {
    auto d = calls.outer(1, 1);
    CHECK(calls.log == "3(1 2(1 1(1 ");
    calls.fireAll();
    CHECK(peek(d) == "8");
    CHECK(calls.log == "3(1 2(1 1(1 1)2 2)4 3)8 ");
  }
  SUBCASE("again and again") {
    auto d = calls.outer(1, 3);
    calls.fireAll();
    CHECK(peek(d) == "20");
    CHECK(calls.log ==
          "3(1 2(1 1(1 1)2 1(2 1)3 1(3 1)4 2)6 2(6 1(6 1)7 1(7 1)8 1(8 1)9 2)11 "
          "2(11 1(11 1)12 1(12 1)13 1(13 1)14 2)16 3)20 ");
  }
}

TEST_CASE("a coroutine waits for a call of another to which a callback was added") {
  Calls calls;
  auto addTwo = [&](int n) {
    calls.log += "+2 ";
    return n + 2;
  };
  auto run = [&](int waitsBefore) -> Deferred<int> {
    int x = 1;
    for (int i = 0; i < waitsBefore; ++i) x = co_await calls.inner(x);
    auto d = calls.inner(x);
    d.addCallback(addTwo);
    co_return 4 + co_await std::move(d);
  };
  SUBCASE("at once") {
    auto d = run(0);
    calls.fireAll();
    CHECK(peek(d) == "8");
    CHECK(calls.log == "1(1 1)2 +2 ");
  }
  SUBCASE("after it has waited for one before") {
    auto d = run(1);
    calls.fireAll();
    CHECK(peek(d) == "9");
    CHECK(calls.log == "1(1 1)2 1(2 1)3 +2 ");
  }
  SUBCASE("that has ended already") {
    auto ended = [&]() -> Deferred<int> {
      auto d = addTen(succeed(1));
      d.addCallback(addTwo);
      co_return 4 + co_await std::move(d);
    };
    auto d = ended();
    CHECK(peek(d) == "17");
  }
}

TEST_CASE("a coroutine catches the failure of a later call, and goes on") {
  Resolver<int> first, second;
  auto run = [&]() -> Deferred<int> {
    int x = co_await addTen(first.deferred());
    try {
      x = co_await addTen(second.deferred());
    } catch (const GenericError&) {
      x += 4;
    }
    co_return x;
  };
  auto d = run();
  first.callback(1);
  CHECK(peek(d) == "pending");
  second.errback(GenericError("x"));
  CHECK(peek(d) == "15");
}

TEST_CASE("awaiting a Deferred that waits for another gives that one's result") {
  Resolver<int> inner;
  auto waiting = succeed(0).addCallback([&](int) { return inner.deferred(); });
  SUBCASE("of a moved one") {
    auto d = addTen(std::move(waiting));
    CHECK(peek(d) == "pending");
    inner.callback(5);
    CHECK(peek(d) == "15");
  }
  SUBCASE("of a named one") {
    auto run = [&]() -> Deferred<int> { co_return 10 + co_await waiting; };
    auto d = run();
    CHECK(peek(d) == "pending");
    inner.callback(5);
    CHECK(peek(d) == "15");
  }
}

TEST_CASE("a coroutine of nothing, and one that returns a Failure or a Result") {
  auto nothing = []() -> Deferred<void> { co_return; }();
  CHECK(peek(nothing) == "done");
  auto fails = []() -> Deferred<int> { co_return Failure(GenericError("returned")); }();
  CHECK(peek(fails) == "!returned");
  fails.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a coroutine may be told of failures again and again") {
  Resolver<int> a, b;
  Strings log;
  auto run = [&]() -> Deferred<void> {
    for (auto* r : {&a, &b}) {
      try {
        co_await r->deferred();
      } catch (const GenericError& e) {
        log.push_back(e.what());
      }
    }
  };
  auto d = run();
  a.errback(GenericError("one"));
  b.errback(GenericError("two"));
  CHECK(log == Strings{"one", "two"});
  CHECK(peek(d) == "done");
}

TEST_CASE("co_await of a temporary or a moved Deferred takes the result") {
  Resolver<std::unique_ptr<int>> r;
  auto run = [](Deferred<std::unique_ptr<int>> d) -> Deferred<int> {
    auto p = co_await std::move(d);
    co_return *p;
  };
  auto d = run(r.deferred());
  r.callback(std::make_unique<int>(6));
  CHECK(peek(d) == "6");
}

TEST_CASE("co_await of a named Deferred that has its result leaves it there") {
  auto source = succeed(3);
  auto run = [&]() -> Deferred<int> {
    int first = co_await source;
    int second = co_await source;
    co_return first + second;
  };
  auto d = run();
  CHECK(peek(d) == "6");
  CHECK(peek(source) == "3");

  Unhandled unhandled;
  {
    auto failed = fail<int>(GenericError("seen"));
    auto look = [&]() -> Deferred<void> {
      try {
        co_await failed;
      } catch (const GenericError&) {
      }
    };
    look();
  }
  CHECK(unhandled.flush().empty());
}

TEST_CASE("awaiting runs the links that are in the way first") {
  Deferred<int> source;
  source.pause();
  source.addCallback([](int n) { return n + 1; });
  source.callback(1);
  Deferred<int> d = addTen(detail::secondHandle(source));
  CHECK(peek(d) == "pending");
  source.unpause();
  CHECK(peek(d) == "12");
}

TEST_CASE("the coroutine's arguments and locals are gone before its callbacks run") {
  Resolver<int> r;
  auto token = std::make_shared<int>(0);
  auto run = [](std::shared_ptr<int> argument, Deferred<int> d) -> Deferred<int> {
    auto local = argument;
    co_return co_await std::move(d);
  };
  long uses = 0;
  auto d = run(token, r.deferred());
  CHECK(token.use_count() == 3);
  d.addCallback([&](int n) { return uses = token.use_count(), n; });
  r.callback(1);
  CHECK(uses == 1);
  auto endsAtOnce = [](std::shared_ptr<int> argument) -> Deferred<int> { co_return *argument; };
  auto ended = endsAtOnce(token);
  CHECK(token.use_count() == 1);
  CHECK(peek(ended) == "0");
}

// ---- cancel

TEST_CASE("cancel of a coroutine cancels what it waits for") {
  Resolver<int> r;
  bool cancelled = false;
  r.onCancel([&](const Resolver<int>&) { cancelled = true; });
  auto d = addTen(r.deferred());
  d.cancel();
  CHECK(cancelled);
  CHECK(peek(d) == "!cancelled");
  d.addErrback([](const CancelledError&) { return 0; });
}

TEST_CASE("cancel reaches what a coroutine waits for, however it came to wait") {
  eachWayToWait([](auto start) {
    Resolver<int> r;
    bool cancelled = false;
    auto d = start(r.deferred().addErrback([&](const Failure& f) {
      cancelled = f.check<CancelledError>();
      return f;
    }));
    d.cancel();
    CHECK(cancelled);
    CHECK(peek(d) == "!cancelled");
    d.addErrback([](const CancelledError&) { return 0; });
  });
}

TEST_CASE("a coroutine may translate the error of what was cancelled, into another or a value") {
  eachWayToWait([](auto start) {
    Resolver<int> fails, ends;
    fails.onCancel([](const Resolver<int>& self) { self.errback(Untranslated()); });
    ends.onCancel([](const Resolver<int>& self) { self.errback(NoError(4321)); });
    auto failed = start(fails.deferred()), ended = start(ends.deferred());
    failed.cancel();
    ended.cancel();
    CHECK(peek(failed) == "!translated");
    CHECK(peek(ended) == "4320");
    failed.addErrback([](const Translated&) { return 0; });
  });
}

TEST_CASE("a cancelled coroutine waits for what its Deferred's errbacks make of the cancel") {
  eachWayToWait([](auto start) {
    Resolver<int> r, more;
    auto d = start(r.deferred().addErrback([&](const CancelledError&) { return more.deferred(); }));
    d.cancel();
    CHECK(peek(d) == "pending");
    more.callback(6543);
    CHECK(peek(d) == "6544");
  });
}

TEST_CASE("a second cancel reaches what an errback makes of the first") {
  eachWayToWait([](auto start) {
    Resolver<int> r, more;
    bool cancelled = false;
    more.onCancel([&](const Resolver<int>&) { cancelled = true; });
    auto d = start(r.deferred().addErrback([&](const CancelledError&) { return more.deferred(); }));
    d.cancel();
    CHECK_FALSE(cancelled);
    d.cancel();
    CHECK(cancelled);
    CHECK(peek(d) == "!cancelled");
    d.addErrback([](const CancelledError&) { return 0; });
  });
}

TEST_CASE("a coroutine may catch the cancel and return") {
  Resolver<int> r;
  auto d = cleanUp(r.deferred());
  d.cancel();
  CHECK(peek(d) == "-1");
}

TEST_CASE("what the awaited one's canceller fires arrives at the co_await") {
  Resolver<int> r;
  auto d = addTen(r.deferred());
  SUBCASE("a value: the body goes on") {
    r.onCancel([](const Resolver<int>& self) { self.callback(1); });
    d.cancel();
    CHECK(peek(d) == "11");
  }
  SUBCASE("an error of its own") {
    r.onCancel([](const Resolver<int>& self) { self.errback(GenericError("mine")); });
    d.cancel();
    CHECK(peek(d) == "!mine");
    d.addErrback([](const Failure&) { return 0; });
  }
}

TEST_CASE("a coroutine that catches the cancel and waits again needs a second one") {
  Resolver<int> first, second;
  auto run = [](Deferred<int> a, Deferred<int> b) -> Deferred<int> {
    try {
      co_await std::move(a);
    } catch (const CancelledError&) {
    }
    co_return co_await std::move(b);
  };
  auto d = run(first.deferred(), second.deferred());
  d.cancel();
  CHECK(first.called());
  CHECK_FALSE(second.called());
  CHECK(peek(d) == "pending");
  SUBCASE("cancelled again") {
    d.cancel();
    CHECK(peek(d) == "!cancelled");
    d.addErrback([](const Failure&) { return 0; });
  }
  SUBCASE("or it goes on as if nothing had been") {
    second.callback(5);
    CHECK(peek(d) == "5");
  }
}

TEST_CASE("cancel reaches through 100,000 stacked coroutines, without their height on the stack") {
  bool cancelled = false;
  std::string seen;
  onSmallStack([&] {
    Resolver<int> r;
    r.onCancel([&](const Resolver<int>&) { cancelled = true; });
    Deferred<int> d = addTen(r.deferred());
    for (int i = 0; i < 100000; ++i) {
      auto next = addTen(std::move(d));
      d = std::move(next);
    }
    d.cancel();
    seen = peek(d);
    d.addErrback([](const Failure&) { return 0; });
  });
  CHECK(cancelled);
  CHECK(seen == "!cancelled");
}

TEST_CASE("a coroutine that translates the error of a cancel") {
  Resolver<int> r;
  auto run = [](Deferred<int> d) -> Deferred<int> {
    try {
      co_return co_await std::move(d);
    } catch (const CancelledError&) {
      throw GenericError("translated");
    }
  };
  auto d = run(r.deferred());
  d.cancel();
  CHECK(peek(d) == "!translated");
  d.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a cancel whose canceller only asks leaves the coroutine waiting") {
  Resolver<int> r;
  r.onCancel([](const Resolver<int>&) { return CancelPending(); });
  auto d = addTen(r.deferred());
  d.cancel();
  CHECK(peek(d) == "pending");
  r.errback(CancelledError());
  CHECK(peek(d) == "!cancelled");
  d.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("cancel of a coroutine that has ended does nothing") {
  auto d = addTen(succeed(1));
  d.cancel();
  CHECK(peek(d) == "11");
}

TEST_CASE("what a canceller throws is the failure of the coroutine's Deferred") {
  Resolver<int> r;
  r.onCancel([](const Resolver<int>&) { throw GenericError("canceller"); });
  auto d = addTen(r.deferred());
  d.cancel();
  CHECK(peek(d) == "!canceller");
  d.addErrback([](const Failure&) { return 0; });
  r.callback(1);
}

// ---- lifetimes

TEST_CASE("a lambda coroutine as a callback keeps its captures and its argument until it ends") {
  Resolver<int> gate;
  std::string seen;
  Resolver<std::string> source;
  source.deferred()
      .addCallback([suffix = std::string("a long enough suffix to be on the heap"),
                    &gate](const std::string& argument) -> Deferred<std::string> {
        co_await gate.deferred();
        co_return argument + suffix;
      })
      .addCallback([&](std::string text) { seen = text; });
  source.callback("a long enough argument to be on the heap, ");
  gate.callback(1);
  CHECK(seen == "a long enough argument to be on the heap, a long enough suffix to be on the heap");
}

TEST_CASE("an errback and an addBoth may be lambda coroutines too") {
  Resolver<int> gate, second;
  std::string seen;
  fail<std::string>(GenericError("a message that is long enough to be on the heap"))
      .addErrback([&gate](const GenericError& e) -> Deferred<std::string> {
        co_await gate.deferred();
        co_return e.what();
      })
      .addBoth([&second](const Result<std::string>& result) -> Deferred<std::string> {
        co_await second.deferred();
        co_return result.value();
      })
      .addCallback([&](std::string text) { seen = text; });
  gate.callback(1);
  second.callback(1);
  CHECK(seen == "a message that is long enough to be on the heap");
}

TEST_CASE("a coroutine may drop its own Deferred, and goes on") {
  Resolver<int> first, second;
  std::unique_ptr<Deferred<void>> own;
  int seen = 0;
  auto run = [&]() -> Deferred<void> {
    co_await first.deferred();
    own.reset();
    seen = co_await second.deferred();
  };
  own = std::make_unique<Deferred<void>>(run());
  first.callback(1);
  CHECK_FALSE(own);
  second.callback(2);
  CHECK(seen == 2);
}

TEST_CASE("a coroutine whose Resolver is dropped gets BrokenDeferred") {
  auto r = std::make_unique<Resolver<int>>();
  auto d = addTen(r->deferred());
  r.reset();
  bool broken = false;
  d.addErrback([&](const BrokenDeferred&) { return broken = true, 0; });
  CHECK(broken);
}

TEST_CASE("a coroutine that waits for what can never fire is destroyed, its locals with it") {
  auto token = std::make_shared<int>(0);
  Deferred<int> stuck;
  stuck.pause();
  stuck.callback(1);
  auto run = [](std::shared_ptr<int> held, Deferred<int> d) -> Deferred<int> {
    auto local = held;
    co_return co_await std::move(d);
  };
  {
    auto d = run(token, std::move(stuck));
    CHECK(token.use_count() == 3);
  }
  CHECK(token.use_count() == 1);
}

TEST_CASE("a million coroutines, each waiting for the one made before it, need no stack") {
  std::string fired, broken;
  onSmallStack([&] {
    auto addOne = [](Deferred<int> d) -> Deferred<int> { co_return 1 + co_await std::move(d); };
    for (auto* seen : {&fired, &broken}) {
      Resolver<int> innermost;
      Deferred<int> last = innermost.deferred();
      for (int i = 0; i < 1000000; ++i) {
        auto next = addOne(std::move(last));
        last = std::move(next);
      }
      if (seen == &fired) {
        innermost.callback(0);
        *seen = peek(last);
      } else {
        last.addErrback([&](const BrokenDeferred&) { return broken = "broken", 0; });
        {
          auto gone = std::move(last);
        }
        {
          auto gone = std::move(innermost);
        }
      }
    }
  });
  CHECK(fired == "1000000");
  CHECK(broken == "broken");
}

TEST_CASE("a loop over fired Deferreds needs no stack") {
  auto run = []() -> Deferred<int> {
    int sum = 0;
    for (int i = 0; i < 100000; ++i) sum += co_await succeed(1);
    co_return sum;
  };
  auto d = run();
  CHECK(peek(d) == "100000");
}

namespace {
Deferred<int> recurse(int depth, Resolver<int>& bottom) {
  if (depth == 0) co_return co_await bottom.deferred();
  co_return 1 + co_await recurse(depth - 1, bottom);
}
}  // namespace

TEST_CASE("a coroutine that awaits its own call 1,000 deep") {
  Resolver<int> bottom;
  auto d = recurse(1000, bottom);
  bottom.callback(1);
  CHECK(peek(d) == "1001");
}

TEST_CASE("coroutines await lists, locks and queues") {
  DeferredLock lock;
  DeferredQueue<int> queue;
  Strings log;
  auto worker = [&](std::string name) -> Deferred<int> {
    co_await lock.acquire();
    int n = co_await queue.get();
    log.push_back(name + std::to_string(n));
    lock.release();
    co_return n;
  };
  std::vector<Deferred<int>> workers;
  workers.push_back(worker("a"));
  workers.push_back(worker("b"));
  auto all = [](std::vector<Deferred<int>> ds) -> Deferred<int> {
    auto values = co_await gatherResults(std::move(ds));
    co_return values[0] * 10 + values[1];
  };
  auto d = all(std::move(workers));
  queue.put(1);
  queue.put(2);
  CHECK(log == Strings{"a1", "b2"});
  CHECK(peek(d) == "12");
}

TEST_CASE("a coroutine's failure keeps the trail of what it awaited, and adds the co_await") {
  std::size_t steps = 0;
  addTen(fail<int>(GenericError("x")).addCallback([](int n) { return n; })).addErrback([&](const Failure& f) {
    return steps = f.trail().size(), 0;
  });
  CHECK(steps == 2);
}

TEST_CASE("a failure's trail names all the coroutines that it passed, also one that throws it again") {
  auto fails = []() -> Deferred<int> {
    co_await succeed();
    throw GenericError("x");
  };
  auto throwsAgain = [&]() -> Deferred<int> {
    try {
      co_return co_await fails();
    } catch (const GenericError&) {
      throw;
    }
  };
  std::vector<unsigned> lines;
  addTen(throwsAgain()).addErrback([&](const Failure& f) {
    for (const auto& where : f.trail()) lines.push_back(where.line());
    return 0;
  });
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] < lines[1]);
  CHECK(lines[2] < lines[0]);
}

TEST_CASE("an unhandled failure of a coroutine is reported") {
  Unhandled unhandled;
  Resolver<int> r;
  addTen(r.deferred());
  r.errback(GenericError("nobody"));
  CHECK(unhandled.flush() == Strings{"nobody"});
}

TEST_CASE("a failure that a coroutine has seen is unhandled again when later callbacks pass it on") {
  Unhandled unhandled;
  {
    auto d = fail<int>(GenericError("seen"));
    auto run = [&]() -> Deferred<void> {
      try {
        co_await d;
      } catch (const GenericError&) {
      }
    };
    run();
    d.addCallback([](int n) { return n; });
  }
  CHECK(unhandled.flush() == Strings{"seen"});
}

TEST_CASE("a second cancel of a coroutine whose Deferred is paused does nothing") {
  Resolver<int> awaited;
  auto d = cleanUp(awaited.deferred());
  d.pause();
  d.cancel();
  d.cancel();
  CHECK_FALSE(awaited.called());
  d.unpause();
  CHECK(peek(d) == "-1");
}

TEST_CASE("a coroutine that nobody can resume goes while it is being suspended") {
  bool gone = false;
  auto work = [](Deferred<int> first, Deferred<int> paused, AtEnd) -> Deferred<void> {
    co_await std::move(first);
    co_await std::move(paused);
  };
  Resolver<int> r;
  Deferred<int> p;
  p.callback(1);
  p.pause();
  work(r.deferred(), std::move(p), AtEnd([&] { gone = true; }));
  r.callback(1);
  CHECK(gone);
}

TEST_CASE("a coroutine whose value cannot be moved fails") {
  struct Value {
    bool throws = false;
    Value() = default;
    Value(const Value& other) : throws(other.throws) {
      if (throws) throw GenericError("moved");
    }
    Value(Value&& other) : throws(other.throws) {
      if (std::exchange(other.throws, false)) throw GenericError("moved");
    }
  };
  // Armed after the value has come into the promise.
  struct Arm {
    Value** value;
    ~Arm() { (*value)->throws = true; }
  };
  struct Pinned {
    explicit Pinned(int& throwsAt) : throwsAt(&throwsAt) {}
    Pinned(Pinned&& other) : throwsAt(other.throwsAt) {
      if (--*throwsAt == 0) throw GenericError("moved");
    }
    int* throwsAt;
  };
  auto work = [](Deferred<void> first, int& throwsAt) -> Deferred<Pinned> {
    co_await std::move(first);
    Pinned value(throwsAt);
    co_return value;
  };
  for (int at = 1; at <= 3; ++at) {
    int throwsAt = at;
    Resolver<void> r;
    std::string seen = "a value";
    work(r.deferred(), throwsAt)
        .addErrback([&](const GenericError& e) -> Failure {
          seen = e.what();
          throw e;
        })
        .addBoth([] {});
    r.callback();
    CHECK(seen == (throwsAt <= 0 ? "moved" : "a value"));
  }
}

TEST_CASE("what a coroutine's frame holds may look at its Deferred, which has fired by then") {
  Resolver<void> r;
  Canceller stop;
  std::string seen;
  auto work = [](Deferred<void> first, AtEnd) -> Deferred<int> {
    co_await std::move(first);
    co_return 5;
  };
  Deferred<int> d = work(r.deferred(), AtEnd([&] { stop.cancel(); }));
  stop = d.canceller();
  d.addBoth([&](Result<int> result) {
    seen += result.ok() ? std::to_string(result.value()) : result.failure().getErrorMessage();
    return result;
  });
  r.callback();
  CHECK(seen == "5");
}

TEST_CASE("a coroutine that would wait for itself gets an error") {
  Unhandled unhandled;
  Resolver<void> r;
  std::optional<Deferred<int>> d;
  auto work = [](Deferred<void> first, std::optional<Deferred<int>>& self) -> Deferred<int> {
    co_await std::move(first);
    co_return co_await std::move(*self);
  };
  std::string seen;
  SUBCASE("its own Deferred") {
    d = work(r.deferred(), d);
    auto canceller = d->canceller();
    r.callback();
    CHECK(unhandled.flush() == Strings{"a coroutine awaits its own Deferred"});
  }
  SUBCASE("one that waits for it") {
    d = work(r.deferred(), d).addCallback([](int n) { return n; });
    d = succeed().addCallback([inner = std::make_shared<Deferred<int>>(std::move(*d))] { return std::move(*inner); });
    r.callback();
    const auto reported = unhandled.flush();
    REQUIRE(reported.size() == 1);
    CHECK(reported[0].starts_with("these would wait for each other for ever: the Deferreds made at "));
  }
}

TEST_CASE("cancel of coroutines and lists within each other needs no stack") {
  onSmallStack([] {
    Resolver<int> r;
    int cancelled = 0;
    r.onCancel([&](const Resolver<int>&) { ++cancelled; });
    Deferred<int> d = r.deferred();
    auto wait = [](Deferred<int> inner) -> Deferred<int> {
      Deferred<std::vector<int>> list = gatherResults({std::move(inner)}, true);
      co_return (co_await std::move(list))[0];
    };
    for (int i = 0; i < 20'000; ++i) d = wait(std::move(d));
    d.cancel();
    CHECK(cancelled == 1);
    CHECK(peek(d).starts_with("!input 0 failed"));
    d.addErrback([](const Failure&) { return 0; });
  });
}
