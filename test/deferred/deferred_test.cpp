#include <deferred/deferred.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/detail/second_handle.hpp>
#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <test/support/at_end.hpp>
#include <test/support/small_stack.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;
using Strings = std::vector<std::string>;

namespace {

struct GenericError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct NarrowError : GenericError {
  using GenericError::GenericError;
};

// What a fired Deferred holds, without taking it: "5", "!text", or "pending".
template <class T>
std::string peek(Deferred<T>& d) {
  // Shared, since the callback stays with a Deferred that has no result yet.
  auto seen = std::make_shared<std::string>("pending");
  d.addBoth([seen](Result<T> result) {
    if (result.ok()) {
      if constexpr (std::is_void_v<T>) {
        *seen = "done";
      } else if constexpr (std::is_same_v<T, std::string>) {
        *seen = result.value();
      } else {
        *seen = std::to_string(result.value());
      }
    } else {
      *seen = "!" + result.failure().getErrorMessage();
    }
    return result;
  });
  return *seen;
}

}  // namespace

TEST_CASE("a callback added before the result gets it when it comes") {
  Deferred<int> d;
  int seen = 0;
  d.addCallback([&](int value) { return seen = value; });
  CHECK(seen == 0);
  CHECK_FALSE(d.called());
  d.callback(5);
  CHECK(seen == 5);
  CHECK(d.called());
}

TEST_CASE("a callback added after the result runs before addCallback returns") {
  Deferred<int> d;
  d.callback(5);
  int seen = 0;
  d.addCallback([&](int value) { return seen = value; });
  CHECK(seen == 5);
}

TEST_CASE("each callback gets what the one before returned") {
  Resolver<int> r;
  std::string seen;
  auto d = r.deferred()
               .addCallback([](int n) { return std::to_string(n); })
               .addCallback([](std::string text) { return text + "!"; })
               .addCallback([&](const std::string& text) { seen = text; });
  static_assert(std::is_same_v<decltype(d), Deferred<void>>);
  r.callback(7);
  CHECK(seen == "7!");
}

TEST_CASE("values and failures take their own side of a pair") {
  auto both = [](Deferred<int> d, Strings& log) {
    return std::move(d).addCallbacks([&](int n) { return log.push_back("cb"), n; },
                                     [&](const Failure&) { return log.push_back("eb"), 0; });
  };
  Strings log;
  both(succeed(1), log);
  CHECK(log == Strings{"cb"});
  log.clear();
  both(fail<int>(GenericError("x")), log);
  CHECK(log == Strings{"eb"});
}

TEST_CASE("a missing half passes the result by") {
  auto d = fail<int>(GenericError("x")).addCallback([](int n) { return n + 1; });
  CHECK(peek(d) == "!x");
  d.addErrback([](const Failure&) { return 3; });
  auto e = std::move(d).addErrback([](const Failure&) { return 4; });
  CHECK(peek(e) == "3");
}

TEST_CASE("an errback does not see what its own pair's callback throws, the next one does") {
  Strings log;
  auto d = succeed(1).addCallbacks([](int) -> int { throw GenericError("thrown"); },
                                   [&](const Failure&) { return log.push_back("own"), 0; });
  d.addErrback([&](const Failure& f) { return log.push_back(f.getErrorMessage()), 2; });
  CHECK(log == Strings{"thrown"});
  CHECK(peek(d) == "2");
}

TEST_CASE("callbacks may return a Failure, a Result or nothing") {
  auto failed = succeed(1).addCallback([](int) { return Failure(GenericError("returned")); });
  static_assert(std::is_same_v<decltype(failed), Deferred<int>>);
  CHECK(peek(failed) == "!returned");
  failed.addErrback([](const Failure&) -> Result<int> { return 5; });
  CHECK(peek(failed) == "5");
  auto result = succeed(1).addCallback([](int) -> Result<std::string> { return GenericError("in a Result"); });
  static_assert(std::is_same_v<decltype(result), Deferred<std::string>>);
  CHECK(peek(result) == "!in a Result");
  result.addErrback([](const Failure&) { return "text"; });
  CHECK(peek(result) == "text");
  auto nothing = succeed(1).addCallback([](int) {});
  CHECK(peek(nothing) == "done");
  auto back = std::move(nothing).addCallback([] { return 8; });
  CHECK(peek(back) == "8");
}

TEST_CASE("an errback's parameter chooses what it catches, as catch does") {
  Strings log;
  auto d = fail<int>(NarrowError("n"));
  d.addErrback([&](const CancelledError&) { return log.push_back("cancelled"), 1; });
  d.addErrback([&](const GenericError& e) { return log.push_back(e.what()), 2; });
  d.addErrback([&](const Failure&) { return log.push_back("late"), 3; });
  CHECK(log == Strings{"n"});
  CHECK(peek(d) == "2");

  SUBCASE("by value") {
    auto e = fail<int>(GenericError("v")).addErrback([](GenericError) { return 4; });
    CHECK(peek(e) == "4");
  }
  SUBCASE("by reference") {
    auto e = fail<int>(GenericError("v")).addErrback([](GenericError&) { return 4; });
    CHECK(peek(e) == "4");
  }
  SUBCASE("a generic lambda catches all") {
    auto e = fail<int>(GenericError("v")).addErrback([](const auto&) { return 4; });
    CHECK(peek(e) == "4");
  }
  SUBCASE("a function pointer") {
    int (*errback)(const GenericError&) = [](const GenericError&) { return 6; };
    auto e = fail<int>(GenericError("v")).addErrback(errback);
    CHECK(peek(e) == "6");
  }
  SUBCASE("a broader class than was thrown, not a narrower one") {
    auto e = fail<int>(GenericError("v")).addErrback([](const NarrowError&) { return 4; });
    CHECK(peek(e) == "!v");
    e.addErrback([](const std::exception&) { return 5; });
    CHECK(peek(e) == "5");
  }
}

TEST_CASE("addBoth takes a Result or nothing") {
  int calls = 0;
  succeed(1).addBoth([&](Result<int> r) { calls += r.value(); });
  fail<int>(GenericError("x")).addBoth([&](Result<int> r) { calls += r.ok() ? 100 : 1; });
  fail<int>(GenericError("x")).addBoth([&] { ++calls; });
  succeed().addBoth([&](Result<void> r) { calls += r.ok(); });
  CHECK(calls == 4);
}

TEST_CASE("a callback added from a running callback runs after those added before, and not inside it") {
  Deferred<int> d;
  Strings log;
  d.addCallback([&](int n) {
    log.push_back("first starts");
    d.addCallback([&](int m) { return log.push_back("inner"), m; });
    log.push_back("first ends");
    return n;
  });
  d.addCallback([&](int n) { return log.push_back("second"), n; });
  d.callback(1);
  CHECK(log == Strings{"first starts", "first ends", "second", "inner"});
}

TEST_CASE("callbacks added by a failing callback still run") {
  Deferred<int> d;
  Strings log;
  d.addCallback([&](int) -> int {
    d.addErrback([&](const Failure& f) { return log.push_back(f.getErrorMessage()), 1; });
    throw GenericError("first");
  });
  d.callback(1);
  CHECK(log == Strings{"first"});
}

TEST_CASE("what a callback throws that a running one has added goes to the errback that is added next") {
  Deferred<int> d;
  d.addCallback([&](int n) {
    d.addCallback([](int) -> int { throw GenericError("inner"); });
    return n;
  });
  d.callback(1);
  CHECK(peek(d) == "!inner");
  d.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a second firing throws AlreadyCalledError and says where the Deferred was made") {
  Resolver<int> r;
  auto d = r.deferred();
  r.callback(1);
  CHECK_THROWS_AS(r.callback(2), AlreadyCalledError);
  CHECK_THROWS_AS(r.errback(GenericError("x")), AlreadyCalledError);
  try {
    r.callback(2);
  } catch (const AlreadyCalledError& e) {
    CHECK(std::string(e.what()).find("deferred_test.cpp") != std::string::npos);
  }
  CHECK(peek(d) == "1");
  auto failed = Resolver<int>();
  auto e = failed.deferred();
  failed.errback(GenericError("x"));
  CHECK_THROWS_AS(failed.callback(2), AlreadyCalledError);
  CHECK_THROWS_AS(failed.errback(GenericError("y")), AlreadyCalledError);
  CHECK(peek(e) == "!x");
  e.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("the handle fires only while its type is that of its head") {
  Deferred<int> d;
  auto e = std::move(d).addCallback([](int n) { return std::to_string(n); });
  CHECK_THROWS_AS(e.callback("x"), std::logic_error);
  CHECK_THROWS_AS(e.errback(GenericError("x")), std::logic_error);
  CHECK_THROWS_AS(d.callback(1), std::logic_error);
  CHECK_THROWS_AS(d.cancel(), std::logic_error);
}

// ---- returned Deferreds

TEST_CASE("a returned Deferred that has fired gives its result at once") {
  auto d = succeed(1).addCallback([](int n) { return succeed(n + 10); });
  static_assert(std::is_same_v<decltype(d), Deferred<int>>);
  CHECK(peek(d) == "11");
  auto e = succeed(1).addCallback([](int) { return fail<int>(GenericError("inner")); });
  CHECK(peek(e) == "!inner");
  e.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a returned Deferred that has been cancelled gives CancelledError") {
  Resolver<int> r;
  Deferred<int> inner = r.deferred();
  inner.cancel();
  auto outer = succeed(0).addCallback([&](int) { return std::move(inner); });
  CHECK(peek(outer) == "!cancelled");
  outer.addErrback([](const CancelledError&) { return 0; });
  CHECK_NOTHROW(r.callback(1));
  CHECK(peek(outer) == "0");
}

TEST_CASE("the chain waits for a returned Deferred that has not fired") {
  Resolver<std::string> inner;
  Resolver<int> outer;
  Strings log;
  auto d = outer.deferred().addCallback([&](int) { return inner.deferred(); });
  d.addCallback([&](std::string text) { return log.push_back(text), text; });
  outer.callback(1);
  CHECK(log.empty());
  CHECK(d.called());
  SUBCASE("and goes on with its value") {
    inner.callback("late");
    CHECK(log == Strings{"late"});
  }
  SUBCASE("or its failure") {
    inner.errback(GenericError("late"));
    CHECK(peek(d) == "!late");
    d.addErrback([](const Failure&) { return ""; });
  }
}

TEST_CASE("an errback may return a Deferred too") {
  Resolver<int> inner;
  auto d = fail<int>(GenericError("x")).addErrback([&](const GenericError&) { return inner.deferred(); });
  CHECK(peek(d) == "pending");
  inner.callback(3);
  CHECK(peek(d) == "3");
}

TEST_CASE("callbacks of the inner Deferred run before those of the one that waits") {
  Strings log;
  Resolver<int> inner;
  auto waits = succeed(0).addCallback(
      [&](int) { return inner.deferred().addCallback([&](int n) { return log.push_back("inner"), n + 1; }); });
  waits.addCallback([&](int n) { return log.push_back("outer " + std::to_string(n)), n; });
  inner.callback(1);
  CHECK(log == Strings{"inner", "outer 2"});
}

TEST_CASE("Deferreds nested three deep hand the result up") {
  Resolver<int> r;
  Strings log;
  auto d = succeed(0).addCallback([&](int) {
    return succeed(1)
        .addCallback([&](int) {
          return succeed(2).addCallback([&](int) { return r.deferred(); }).addCallback([&](int n) {
            return log.push_back("c"), n * 2;
          });
        })
        .addCallback([&](int n) { return log.push_back("b"), n + 1; });
  });
  d.addCallback([&](int n) { return log.push_back("a " + std::to_string(n)), n; });
  r.callback(5);
  CHECK(log == Strings{"c", "b", "a 11"});
}

TEST_CASE("callbacks of the inner Deferred that come after the waiting one see nothing") {
  Resolver<int> r;
  Deferred<int> inner = r.deferred();
  auto again = detail::secondHandle(inner);
  auto outer = succeed(0).addCallback([&](int) { return std::move(inner); });
  int seen = -1;
  again.addCallback([&](int n) { return seen = n; });
  r.callback(4);
  CHECK(peek(outer) == "4");
  CHECK(seen == 0);
}

TEST_CASE("a returned Deferred that has fired is left with nothing, also of its failure") {
  Unhandled unhandled;
  Strings seen;
  for (bool fails : {false, true}) {
    Deferred<int> inner = fails ? fail<int>(GenericError("x")) : succeed(4);
    auto again = detail::secondHandle(inner);
    auto outer = succeed(0).addCallback([&](int) { return std::move(inner); });
    again.addCallback([&](int n) { return seen.push_back(std::to_string(n)), n; });
    seen.push_back(peek(outer));
    outer.addErrback([](const GenericError&) { return 0; });
  }
  CHECK(seen == Strings{"0", "4", "0", "!x"});
  CHECK(unhandled.flush().empty());
}

TEST_CASE("a failure that the inner Deferred gets later goes up too, and leaves nothing to report") {
  Unhandled unhandled;
  {
    Resolver<int> r;
    Deferred<int> inner = r.deferred();
    auto again = detail::secondHandle(inner);
    auto outer = succeed(0).addCallback([&](int) { return std::move(inner); });
    Strings seen;
    again.addCallback([&](int n) { return seen.push_back("inner " + std::to_string(n)), n; });
    outer.addErrback([&](const GenericError& e) { return seen.push_back(e.what()), 1; });
    outer.addCallback([&](int n) { return seen.push_back("outer " + std::to_string(n)), n; });
    r.errback(GenericError("late"));
    CHECK(seen == Strings{"late", "outer 1", "inner 0"});
  }
  CHECK(unhandled.flush().empty());
}

TEST_CASE("of three that wait, the one in the middle is left with nothing") {
  Resolver<int> r;
  Deferred<int> middle;
  middle.addCallback([&](int) { return r.deferred(); });
  middle.callback(1);
  auto again = detail::secondHandle(middle);
  auto outer = succeed(0).addCallback([&](int) { return std::move(middle); });
  r.callback(7);
  int seen = -1;
  again.addCallback([&](int n) { return seen = n; });
  CHECK(seen == 0);
  CHECK(peek(outer) == "7");
}

TEST_CASE("a callback that returns its own Deferred gets a clear error") {
  Deferred<int> d;
  auto again = detail::secondHandle(d);
  d.addCallback([&](int) { return std::move(again); });
  d.callback(1);
  CHECK(peek(d) == "!a callback returned the Deferred that it is a callback of");
  d.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a chain that waits for another lets it go with its result, and only one error is reported") {
  Unhandled unhandled;
  {
    Resolver<int> inner;
    auto outer = succeed(0).addCallback([&](int) { return inner.deferred(); });
    inner.errback(GenericError("once"));
  }
  CHECK(unhandled.flush() == Strings{"once"});
}

TEST_CASE("returning a paused Deferred waits until it goes on") {
  Resolver<int> r;
  Deferred<int> inner = r.deferred();
  inner.pause();
  auto again = detail::secondHandle(inner);
  auto returnInner = [&](int) { return std::move(inner); };
  Deferred<int> outer;
  SUBCASE("fired before") {
    r.callback(6);
    outer.addCallback(returnInner);
    outer.callback(0);
  }
  SUBCASE("fired after") {
    outer.addCallback(returnInner);
    outer.callback(0);
    CHECK(peek(outer) == "pending");
    r.callback(6);
  }
  CHECK(peek(outer) == "pending");
  again.unpause();
  CHECK(peek(outer) == "6");
}

TEST_CASE("a paused outer Deferred gets the inner result but does not run; the inner one goes on") {
  Resolver<int> r;
  Deferred<int> inner = r.deferred();
  auto again = detail::secondHandle(inner);
  auto outer = succeed(0).addCallback([&](int) { return std::move(inner); });
  outer.pause();
  r.callback(2);
  CHECK(peek(outer) == "pending");
  CHECK(peek(again) == "0");
  outer.unpause();
  CHECK(peek(outer) == "2");
}

TEST_CASE("200,000 nested Deferreds need no stack") {
  std::string fired, cancelled;
  onSmallStack([&] {
    for (auto* seen : {&fired, &cancelled}) {
      Resolver<int> innermost;
      Deferred<int> last = innermost.deferred();
      for (int i = 0; i < 200000; ++i) {
        Deferred<int> next;
        next.addCallback([inner = std::move(last)](int) mutable { return std::move(inner); });
        next.callback(0);
        last = std::move(next);
      }
      if (seen == &fired) {
        innermost.callback(9);
      } else {
        last.cancel();
      }
      *seen = peek(last);
      last.addErrback([](const CancelledError&) { return 0; });
    }
  });
  CHECK(fired == "9");
  CHECK(cancelled == "!cancelled");
}

namespace {
struct Pages {
  std::unique_ptr<Deferred<Pages>> next;
  std::shared_ptr<int> token;
};
}  // namespace

TEST_CASE("200,000 Deferreds each in the value of the one before end without a stack") {
  auto token = std::make_shared<int>();
  onSmallStack([&] {
    auto first = std::make_unique<Deferred<Pages>>();
    first->callback(Pages{nullptr, token});
    for (int i = 0; i < 200000; ++i) {
      auto before = std::make_unique<Deferred<Pages>>();
      before->callback(Pages{std::move(first), token});
      first = std::move(before);
    }
    CHECK(token.use_count() == 200002);
  });
  CHECK(token.use_count() == 1);
}

// ---- chainDeferred

TEST_CASE("chainDeferred fires another with the result") {
  Resolver<int> target;
  auto d = target.deferred();
  Resolver<int> source;
  auto done = source.deferred().chainDeferred(target);
  static_assert(std::is_same_v<decltype(done), Deferred<void>>);
  SUBCASE("a value") {
    source.callback(4);
    CHECK(peek(d) == "4");
    CHECK(peek(done) == "done");
  }
  SUBCASE("a failure") {
    source.errback(GenericError("f"));
    CHECK(peek(d) == "!f");
    CHECK(peek(done) == "done");
    d.addErrback([](const Failure&) { return 0; });
  }
  SUBCASE("to one that has been fired: the source fails") {
    target.callback(1);
    source.callback(2);
    CHECK(peek(done).find("fired or cancelled already") != std::string::npos);
    done.addErrback([](const AlreadyCalledError&) {});
    CHECK(peek(done) == "done");
  }
  SUBCASE("cancelling the target does not cancel the source, whose result is dropped once") {
    d.cancel();
    CHECK(peek(done) == "pending");
    source.callback(2);
    CHECK(peek(done) == "done");
    d.addErrback([](const CancelledError&) { return 0; });
  }
}

TEST_CASE("a Deferred chained to itself fails, and does not keep itself") {
  Unhandled unhandled;
  {
    Resolver<int> r;
    auto d = r.deferred();
    d.addErrback([](const BrokenDeferred&) { return 0; });
    std::move(d).chainDeferred(std::move(r));
  }
  CHECK(unhandled.flush().size() == 1);
}

TEST_CASE("100,000 Deferreds chained by chainDeferred need no stack") {
  std::string seen;
  onSmallStack([&] {
    Resolver<int> first;
    Resolver<int> from = first;
    std::vector<Deferred<void>> links;
    for (int i = 0; i < 100000; ++i) {
      Resolver<int> to;
      links.push_back(from.deferred().chainDeferred(to));
      from = to;
    }
    auto last = from.deferred();
    first.callback(3);
    seen = peek(last);
  });
  CHECK(seen == "3");
}

// ---- pause

TEST_CASE("pauses nest") {
  Deferred<int> d;
  d.pause();
  d.pause();
  d.callback(1);
  CHECK(d.called());
  CHECK(peek(d) == "pending");
  d.unpause();
  CHECK(peek(d) == "pending");
  d.unpause();
  CHECK(peek(d) == "1");
}

TEST_CASE("a failed Deferred may be paused too") {
  auto d = fail<int>(GenericError("x"));
  d.pause();
  Strings log;
  d.addErrback([&](const Failure& f) { return log.push_back(f.getErrorMessage()), 0; });
  CHECK(log.empty());
  d.unpause();
  CHECK(log == Strings{"x"});
}

TEST_CASE("unpause before the result runs nothing") {
  Deferred<int> d;
  d.pause();
  CHECK(peek(d) == "pending");
  d.unpause();
  CHECK(peek(d) == "pending");
  d.callback(1);
  CHECK(peek(d) == "1");
}

TEST_CASE("a callback that pauses its own Deferred stops it there") {
  Deferred<int> d;
  Strings log;
  d.addCallback([&](int n) { return d.pause(), log.push_back("one"), n; });
  d.addCallback([&](int n) { return log.push_back("two"), n; });
  d.callback(1);
  CHECK(log == Strings{"one"});
  d.unpause();
  CHECK(log == Strings{"one", "two"});
}

// ---- cancel

TEST_CASE("cancel without a canceller fails with CancelledError and drops one late result") {
  Resolver<int> r;
  auto d = r.deferred();
  d.cancel();
  CHECK(peek(d) == "!cancelled");
  d.addErrback([](const CancelledError&) { return 0; });
  SUBCASE("a value") {
    CHECK_NOTHROW(r.callback(1));
  }
  SUBCASE("a failure") {
    CHECK_NOTHROW(r.errback(GenericError("late")));
  }
  SUBCASE("cancelled again in between") {
    d.cancel();
    CHECK_NOTHROW(r.callback(1));
  }
  SUBCASE("cancelled again after it") {
    CHECK_NOTHROW(r.callback(1));
    d.cancel();
  }
  CHECK_THROWS_AS(r.callback(2), AlreadyCalledError);
  CHECK_THROWS_AS(r.errback(GenericError("x")), AlreadyCalledError);
  CHECK(peek(d) == "0");
}

TEST_CASE("cancel calls the canceller once, and a late result is then an error") {
  Resolver<int> r;
  int calls = 0;
  r.onCancel([&](const Resolver<int>&) { ++calls; });
  auto d = r.deferred();
  d.cancel();
  d.cancel();
  CHECK(calls == 1);
  CHECK(peek(d) == "!cancelled");
  d.addErrback([](const CancelledError&) { return 0; });
  CHECK_THROWS_AS(r.callback(1), AlreadyCalledError);
  CHECK_THROWS_AS(r.errback(GenericError("late")), AlreadyCalledError);
  CHECK(peek(d) == "0");
}

TEST_CASE("a canceller may fire what it likes") {
  Resolver<int> r;
  auto d = r.deferred();
  SUBCASE("a value") {
    r.onCancel([](const Resolver<int>& self) { self.callback(7); });
    d.cancel();
    CHECK(peek(d) == "7");
  }
  SUBCASE("a failure") {
    r.onCancel([](const Resolver<int>& self) { self.errback(GenericError("mine")); });
    d.cancel();
    CHECK(peek(d) == "!mine");
    d.addErrback([](const Failure&) { return 0; });
  }
}

TEST_CASE("what a canceller throws comes out of cancel, which can be tried again") {
  Resolver<int> r;
  int calls = 0;
  r.onCancel([&](const Resolver<int>&) {
    if (++calls == 1) throw GenericError("not now");
  });
  auto d = r.deferred();
  CHECK_THROWS_AS(d.cancel(), GenericError);
  CHECK_FALSE(d.called());
  d.cancel();
  CHECK(calls == 2);
  CHECK(peek(d) == "!cancelled");
  d.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("cancel after the result does nothing") {
  Resolver<int> r;
  bool cancelled = false;
  r.onCancel([&](const Resolver<int>&) { cancelled = true; });
  auto d = r.deferred();
  SUBCASE("a value") {
    r.callback(1);
    d.cancel();
    CHECK(peek(d) == "1");
  }
  SUBCASE("a failure") {
    r.errback(GenericError("x"));
    d.cancel();
    CHECK(peek(d) == "!x");
    d.addErrback([](const GenericError&) { return 0; });
  }
  CHECK_FALSE(cancelled);
}

TEST_CASE("cancel of a Deferred that waits cancels the one it waits for") {
  Resolver<int> inner, r;
  Strings cancelled;
  inner.onCancel([&](const Resolver<int>&) { cancelled.push_back("inner"); });
  r.onCancel([&](const Resolver<int>&) { cancelled.push_back("outer"); });
  auto outer = r.deferred().addCallback([&](int) { return inner.deferred(); });
  r.callback(1);
  outer.cancel();
  CHECK(cancelled == Strings{"inner"});
  CHECK(peek(outer) == "!cancelled");
  outer.addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a callback may cancel its own Deferred") {
  Deferred<int> d;
  Strings log;
  d.addCallback([&](int n) { return d.cancel(), n; });
  d.callback(1);
  CHECK(peek(d) == "1");
}

TEST_CASE("a pending cancel leaves the Deferred to its producer") {
  Resolver<int> r;
  int calls = 0;
  r.onCancel([&](const Resolver<int>&) { return ++calls, CancelPending(); });
  auto d = r.deferred();
  d.cancel();
  d.cancel();
  CHECK(calls == 1);
  CHECK_FALSE(d.called());
  SUBCASE("which fires it when it is done") {
    r.errback(CancelledError());
    CHECK(peek(d) == "!cancelled");
    d.addErrback([](const Failure&) { return 0; });
  }
  SUBCASE("or was quicker") {
    r.callback(3);
    CHECK(peek(d) == "3");
  }
}

TEST_CASE("a canceller is dropped when the Deferred fires") {
  auto token = std::make_shared<int>(0);
  Resolver<int> r;
  r.onCancel([token](const Resolver<int>&) {});
  auto d = r.deferred();
  CHECK(token.use_count() == 2);
  SUBCASE("with a value") {
    r.callback(1);
    CHECK(token.use_count() == 1);
  }
  SUBCASE("with a failure") {
    r.errback(GenericError("x"));
    CHECK(token.use_count() == 1);
    d.addErrback([](const Failure&) { return 0; });
  }
  SUBCASE("also if it then waits for another") {
    Resolver<int> inner;
    d.addCallback([&](int) { return inner.deferred(); });
    r.callback(1);
    CHECK(token.use_count() == 1);
    inner.callback(2);
  }
}

// ---- lifetimes

TEST_CASE("when the last Resolver goes unfired, the Deferred fails with BrokenDeferred") {
  auto r = std::make_unique<Resolver<int>>();
  auto copy = *r;
  auto d = r->deferred();
  r.reset();
  CHECK_FALSE(d.called());
  copy = Resolver<int>();
  CHECK(d.called());
  bool broken = false;
  d.addErrback([&](const BrokenDeferred&) { return broken = true, 0; });
  CHECK(broken);
}

TEST_CASE("waiting for a Deferred that nobody can fire fails at once") {
  auto d = succeed(1).addCallback([](int) { return Deferred<int>(); });
  bool broken = false;
  d.addErrback([&](const BrokenDeferred&) { return broken = true, 0; });
  CHECK(broken);
}

TEST_CASE("callbacks run though the Deferred was dropped") {
  Resolver<int> r;
  int seen = 0;
  r.deferred().addCallback([&](int n) { seen = n; });
  r.callback(4);
  CHECK(seen == 4);
}

TEST_CASE("a callback may drop its Deferred and its Resolver, and the next ones run") {
  Strings log;
  auto r = std::make_unique<Resolver<int>>();
  auto d = std::make_unique<Deferred<int>>(r->deferred());
  auto token = std::make_shared<int>(0);
  d->addCallback([&, token](int n) {
    d.reset();
    r.reset();
    log.push_back("dropped");
    return n;
  });
  d->addCallback([&, token](int n) -> int {
    log.push_back("next");
    throw GenericError(std::to_string(n));
  });
  d->addErrback([&, token](const GenericError& e) { return log.push_back(e.what()), 0; });
  const Resolver<int> copy = *r;
  SUBCASE("fired by another Resolver") {
    copy.callback(5);
  }
  SUBCASE("fired by that one") {
    r->callback(5);
  }
  CHECK(log == Strings{"dropped", "next", "5"});
  CHECK(token.use_count() == 1);
}

TEST_CASE("a callback may drop the Deferred that waits for it") {
  Strings log;
  Resolver<int> inner;
  std::unique_ptr<Deferred<int>> outer;
  auto waits = [&](int) {
    return inner.deferred().addCallback([&](int n) {
      outer.reset();
      return n + 1;
    });
  };
  outer = std::make_unique<Deferred<int>>(succeed(0).addCallback(waits));
  outer->addCallback([&](int n) { return log.push_back(std::to_string(n)), n; });
  inner.callback(1);
  CHECK(log == Strings{"2"});
}

TEST_CASE("a canceller may drop the Deferred that is cancelled") {
  Resolver<int> r;
  bool cancelled = false;
  auto d = std::make_unique<Deferred<int>>(r.deferred());
  d->addErrback([&](const CancelledError&) { return cancelled = true, 0; });
  r.onCancel([&](const Resolver<int>&) { d.reset(); });
  Canceller stop = d->canceller();
  SUBCASE("by its own handle") {
    d->cancel();
  }
  SUBCASE("by a stop button") {
    stop.cancel();
  }
  CHECK(cancelled);
}

TEST_CASE("callables are destroyed when they have run, or when their chain goes") {
  auto token = std::make_shared<int>(0);
  Resolver<int> r;
  {
    auto d = r.deferred();
    d.addCallback([token](int n) { return n; });
    d.addErrback([token](const Failure&) { return 0; });
    CHECK(token.use_count() == 3);
  }
  r.callback(1);
  CHECK(token.use_count() == 1);
  {
    Deferred<int> unfired;
    unfired.addCallback([token](int n) { return n; });
  }
  CHECK(token.use_count() == 1);
}

TEST_CASE("a callable lives until the Deferred that it returned has fired") {
  auto token = std::make_shared<int>(0);
  Resolver<int> inner;
  auto d = succeed(1).addCallback([token, &inner](int) { return inner.deferred(); });
  CHECK(token.use_count() == 2);
  inner.callback(1);
  CHECK(token.use_count() == 1);
}

TEST_CASE("a callable's destructor may use the chain it was in") {
  Deferred<int> d;
  struct AddsWhenDestroyed {
    Deferred<int>* d;
    int* seen;
    AddsWhenDestroyed(Deferred<int>* d, int* seen) : d(d), seen(seen) {}
    AddsWhenDestroyed(AddsWhenDestroyed&& other) noexcept : d(std::exchange(other.d, nullptr)), seen(other.seen) {}
    ~AddsWhenDestroyed() {
      if (d) d->addCallback([seen = seen](int n) { return *seen = n; });
    }
  };
  int seen = 0;
  d.addCallback([a = AddsWhenDestroyed(&d, &seen)](int n) { return n + 1; });
  d.callback(1);
  CHECK(seen == 2);
}

TEST_CASE("move-only values pass through") {
  Resolver<std::unique_ptr<int>> r;
  int seen = 0;
  r.deferred()
      .addCallback([](std::unique_ptr<int> p) { return p; })
      .addErrback([](const Failure&) { return std::unique_ptr<int>(); })
      .addBoth([](Result<std::unique_ptr<int>> result) { return result; })
      .addCallback([&](std::unique_ptr<int> p) { seen = *p; });
  r.callback(std::make_unique<int>(3));
  CHECK(seen == 3);
}

TEST_CASE("large values pass through") {
  struct Large {
    char bytes[200] = {};
  };
  Large large;
  large.bytes[199] = 'x';
  Resolver<Large> inner;
  char seen = 0;
  succeed(large).addCallback([&](const Large&) { return inner.deferred(); }).addCallback([&](Large value) {
    seen = value.bytes[199];
  });
  inner.callback(large);
  CHECK(seen == 'x');
}

TEST_CASE("a value whose move throws becomes a failure") {
  struct Stubborn {
    explicit Stubborn(int moves) : moves(moves) {}
    Stubborn(Stubborn&& other) : moves(other.moves - 1) {
      if (moves < 0) throw GenericError("will not move");
    }
    int moves;
  };
  Resolver<Stubborn> r;
  Strings log;
  auto d = r.deferred().addCallback([](Stubborn s) { return s.moves; }).addErrback([&](const Failure& f) {
    return log.push_back(f.getErrorMessage()), 0;
  });
  r.callback(0);
  CHECK(log == Strings{"will not move"});
}

// ---- unhandled failures and trails

TEST_CASE("a failure that nobody handled is reported the moment the last handle goes") {
  Unhandled unhandled;
  Resolver<int> r;
  {
    auto d = r.deferred();
    r.errback(GenericError("lost"));
    CHECK(unhandled.flush().empty());
  }
  CHECK(unhandled.flush() == Strings{"lost"});
}

TEST_CASE("with no handle left it is reported as soon as it comes") {
  Unhandled unhandled;
  Resolver<int> r;
  r.deferred().addCallback([](int n) { return n; });
  r.errback(GenericError("lost"));
  CHECK(unhandled.flush() == Strings{"lost"});
}

TEST_CASE("a late errback that handles the failure prevents the report") {
  Unhandled unhandled;
  {
    auto d = fail<int>(GenericError("late"));
    d.addErrback([](const Failure&) { return 1; });
  }
  CHECK(unhandled.flush().empty());
}

TEST_CASE("an errback that goes on failing is reported once") {
  Unhandled unhandled;
  {
    fail<int>(GenericError("again")).addErrback([](const Failure& f) { return f; });
  }
  CHECK(unhandled.flush() == Strings{"again"});
}

TEST_CASE("an errback that returns a Deferred has handled the failure") {
  Unhandled unhandled;
  Resolver<int> good;
  {
    fail<int>(GenericError("handled")).addErrback([&](const Failure&) { return good.deferred(); });
  }
  CHECK(unhandled.flush().empty());
  good.callback(1);
  CHECK(unhandled.flush().empty());
}

TEST_CASE("a report says what went wrong, and where the Deferred was made") {
  static std::string report;
  UnhandledFailureHandler before =
      setUnhandledFailureHandler([](std::string_view what, const Failure& f, const std::source_location& made) {
        report = std::string(what) + ": " + f.getErrorMessage() + " " + std::to_string(made.line());
      });
  const unsigned line = __LINE__ + 1;
  fail<int>(GenericError("lost"));
  setUnhandledFailureHandler(before);
  CHECK(report == "Unhandled error in Deferred: lost " + std::to_string(line));
}

TEST_CASE("a failure's trail names the steps it passed") {
  std::size_t steps = 0;
  std::string text;
  fail<int>(GenericError("x"))
      .addCallback([](int n) { return n; })
      .addErrback([](const CancelledError&) { return 0; })
      .addErrback([](const Failure& f) -> int { f.raise(); })
      .addErrback([&](const Failure& f) {
        steps = f.trail().size();
        text = f.getTraceback();
        return 0;
      });
  CHECK(steps == 3);
  CHECK(text.find("GenericError: x") != std::string::npos);
  CHECK(text.find("deferred_test.cpp") != std::string::npos);
}

// ---- addTimeout is tested in time_test.cpp, where a clock is at hand

TEST_CASE("a Deferred that was moved from names the place where it is used") {
  Deferred<int> d;
  Deferred<int> e = std::move(d);
  auto text = [](auto f) -> std::string {
    try {
      f();
    } catch (const std::logic_error& error) {
      return error.what();
    }
    return "nothing";
  };
  const auto used = [](int line) {
    return std::string("this Deferred was moved from; it is used at ") + __FILE__ + ":" + std::to_string(line);
  };
  CHECK(text([&] { d.addErrback([](const Failure&) { return 0; }); }) == used(__LINE__));
  CHECK(text([&] { d.cancel(); }) == used(__LINE__));
  CHECK(text([&] { d.called(); }) == used(__LINE__));
  CHECK(text([&] { static_cast<void>(std::move(d).addBoth([] {})); }) == used(__LINE__));
}

TEST_CASE("callback() of a Deferred that something else fires is refused, and that one fires it still") {
  Resolver<int> r;
  Deferred<int> d = r.deferred();
  CHECK_THROWS_AS(d.callback(1), std::logic_error);
  CHECK_THROWS_AS(d.errback(GenericError("x")), std::logic_error);
  CHECK_FALSE(d.called());
  r.callback(2);
  CHECK(peek(d) == "2");
}

TEST_CASE("null callables are refused where they are given") {
  Deferred<int> d;
  CHECK_THROWS_AS(d.addCallback(static_cast<int (*)(int)>(nullptr)), std::invalid_argument);
  CHECK_THROWS_AS(d.addCallback(std::function<int(int)>()), std::invalid_argument);
  CHECK_THROWS_AS(d.addErrback(std::function<int(Failure)>()), std::invalid_argument);
  CHECK_THROWS_AS(d.addBoth(std::function<Result<int>(Result<int>)>()), std::invalid_argument);
  d.callback(3);
  CHECK(peek(d) == "3");
}

TEST_CASE("Deferreds that would wait for each other fail, and name each other") {
  Unhandled unhandled;
  const std::string place = std::string(__FILE__) + ":" + std::to_string(__LINE__ + 1);
  Resolver<void> ra, rb;
  std::optional<Deferred<void>> a, b;
  std::string seen;
  a = ra.deferred().addCallback([&]() -> Deferred<void> { return std::move(*b); });
  b = rb.deferred().addCallback([&]() -> Deferred<void> { return std::move(*a); });
  const Canceller stop = a->canceller();
  b->addErrback([&](const std::logic_error& error) { seen = error.what(); });
  ra.callback();
  rb.callback();
  CHECK(seen == "these would wait for each other for ever: the Deferreds made at " + place + ", " + place);
  stop.cancel();
}

TEST_CASE("unpause() without pause() is refused, also while a Deferred waits for another one") {
  Resolver<std::string> inner;
  Deferred<std::string> d = succeed(1).addCallback([&](int) { return inner.deferred(); });
  d.addCallback([](std::string s) { return s + "!"; });
  CHECK_THROWS_AS(d.unpause(), std::logic_error);
  d.pause();
  d.unpause();
  CHECK_THROWS_AS(d.unpause(), std::logic_error);
  inner.callback("x");
  CHECK(peek(d) == "x!");
}

TEST_CASE("a callback may destroy the Deferred that it is being added to") {
  auto d = std::make_unique<Deferred<int>>(succeed(1));
  auto e = std::move(*d).addCallback([&](int n) {
    d.reset();
    return std::to_string(n);
  });
  CHECK(peek(e) == "1");
  d = std::make_unique<Deferred<int>>(fail<int>(GenericError("x")));
  auto f = std::move(*d).addErrback([&](const GenericError&) {
    d.reset();
    return 2;
  });
  CHECK(peek(f) == "2");
}

TEST_CASE("a step that waits may get its result before it is over") {
  // The destructor of its argument cancels what it waits for already.
  std::string seen;
  Resolver<AtEachEnd> r;
  Resolver<int> first, second;
  auto end = std::make_shared<int>();
  auto d = r.deferred()
               .addCallback([&](AtEachEnd) { return first.deferred(); })
               .addErrback([&, end](const CancelledError&) {
                 seen += "cancelled ";
                 return second.deferred();
               })
               .addCallback([&](int n) { seen += std::to_string(n); });
  const Canceller stop = d.canceller();
  r.callback(AtEachEnd([&] {
    if (seen.empty()) stop.cancel();
  }));
  CHECK(seen == "cancelled ");
  second.callback(7);
  CHECK(seen == "cancelled 7");
  CHECK(end.use_count() == 1);
}

TEST_CASE("callbacks that drop the last Resolver of the next Deferred need no stack") {
  onSmallStack([] {
    // Each callback holds what alone could fire the next one.
    int ran = 0;
    auto first = std::make_unique<Resolver<int>>();
    Deferred<int> d = first->deferred();
    for (int i = 0; i < 100'000; ++i) {
      Resolver<int> next;
      Deferred<int> after = next.deferred();
      std::move(d).addBoth([&ran, next](Result<int>) { ++ran; });
      d = std::move(after);
    }
    std::move(d).addBoth([&ran](Result<int>) { ++ran; });
    first.reset();
    CHECK(ran == 100'001);
  });
}
