#include <deferred/list.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/detail/second_handle.hpp>
#include <deferred/functions.hpp>
#include <test/support/at_end.hpp>
#include <test/support/small_stack.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;
using Strings = std::vector<std::string>;

namespace {

struct GenericError : std::runtime_error {
  using runtime_error::runtime_error;
};

// Three inputs, and how a list over them turned out.
struct Inputs {
  Resolver<int> a, b, c;
  int cancelled = 0;

  std::vector<Deferred<int>> take(bool countCancels = false) {
    std::vector<Deferred<int>> all;
    for (auto* r : {&a, &b, &c}) {
      if (countCancels) r->onCancel([this](const Resolver<int>&) { ++cancelled; });
      all.push_back(r->deferred());
    }
    return all;
  }
};

// Two inputs. The first `firing` of them fire 5 when they are cancelled.
struct Pair {
  Resolver<int> a, b;

  std::vector<Deferred<int>> take(int firing) {
    std::vector<Deferred<int>> both;
    for (auto* r : {&a, &b}) {
      if (firing-- > 0) r->onCancel([](const Resolver<int>& self) { self.callback(5); });
      both.push_back(r->deferred());
    }
    return both;
  }
};

std::string text(const std::vector<Result<int>>& results) {
  std::string out;
  for (auto& r : results) out += r.ok() ? " " + std::to_string(r.value()) : " !" + r.failure().getErrorMessage();
  return out;
}

}  // namespace

TEST_CASE("a DeferredList fires when all inputs have, with results in the inputs' order") {
  Unhandled unhandled;
  Inputs in;
  std::string seen;
  DeferredList(in.take()).addCallback([&](std::vector<Result<int>> results) { seen = text(results); });
  in.c.callback(3);
  in.a.callback(1);
  CHECK(seen.empty());
  in.b.errback(GenericError("two"));
  CHECK(seen == " 1 !two 3");
}

TEST_CASE("a DeferredList of fired inputs, and of none, fires at once") {
  std::string seen;
  std::vector<Deferred<int>> inputs;
  inputs.push_back(succeed(1));
  inputs.push_back(succeed(2));
  DeferredList(std::move(inputs)).addCallback([&](std::vector<Result<int>> results) { seen = text(results); });
  CHECK(seen == " 1 2");
  bool empty = false;
  DeferredList(std::vector<Deferred<int>>()).addCallback([&](auto results) { empty = results.empty(); });
  CHECK(empty);
}

TEST_CASE("inputs that have fired before their list is made count at once") {
  Unhandled unhandled;
  std::vector<Deferred<int>> inputs;
  inputs.push_back(fail<int>(GenericError("first")));
  std::string seen;
  SUBCASE("among others") {
    inputs.push_back(succeed(2));
    DeferredList(std::move(inputs)).addCallback([&](auto results) { seen = text(results); });
    CHECK(seen == " !first 2");
  }
  SUBCASE("though others are pending") {
    Resolver<int> pending;
    inputs.push_back(pending.deferred());
    DeferredList(std::move(inputs), {.fireOnOneErrback = true}).addErrback([&](const FirstError& e) {
      seen = e.subFailure.getErrorMessage();
      return std::vector<Result<int>>();
    });
    CHECK(seen == "first");
  }
}

TEST_CASE("a callback may return a list, whose inputs may come later than the Deferred that waits for it") {
  Inputs in;
  Strings log;
  auto outer = succeed(0).addCallback([&](int) {
    Deferred<int> middle;
    middle.addCallback(
        [&](int) { return gatherResults(in.take()).addCallback([&](std::vector<int> values) { return values[2]; }); });
    middle.addCallback([&](int n) { return log.push_back("middle " + std::to_string(n)), n + 1; });
    middle.callback(0);
    return middle;
  });
  outer.addCallback([&](int n) { return log.push_back("outer " + std::to_string(n)), n; });
  in.a.callback(1), in.b.callback(2);
  CHECK(log.empty());
  in.c.callback(3);
  CHECK(log == Strings{"middle 3", "outer 4"});
}

TEST_CASE("an empty DeferredList with fireOnOneCallback fails, since nobody could fire it") {
  Unhandled unhandled;
  bool broken = false;
  auto d = succeed(0).addCallback([](int) { return DeferredList(std::vector<Deferred<int>>(), FireOnOneCallback{}); });
  std::move(d).addCallback([](auto) {}).addErrback([&](const BrokenDeferred&) { broken = true; });
  CHECK(broken);
}

TEST_CASE("a DeferredList keeps its inputs' failures, which are reported when it goes") {
  Unhandled unhandled;
  std::vector<Deferred<int>> inputs;
  inputs.push_back(fail<int>(GenericError("kept")));
  {
    auto list = DeferredList(std::move(inputs));
    CHECK(unhandled.flush().empty());
  }
  CHECK(unhandled.flush() == Strings{"kept"});
}

TEST_CASE("a callback that an input gets after its list sees the failure, or nothing with consumeErrors") {
  for (bool consume : {false, true}) {
    Resolver<int> r;
    std::vector<Deferred<int>> inputs;
    inputs.push_back(r.deferred());
    auto again = detail::secondHandle(inputs[0]);
    std::string seen, after;
    auto list = DeferredList(std::move(inputs), {.consumeErrors = consume});
    list.addCallback([&](auto results) { return seen = text(results), results; });
    again.addCallback([&](int n) { return after = std::to_string(n), n; });
    again.addErrback([&](const Failure& f) { return after = f.getErrorMessage(), 0; });
    r.errback(GenericError("bang"));
    CHECK(seen == " !bang");
    CHECK(after == (consume ? "0" : "bang"));
  }
}

TEST_CASE("consumeErrors counts them as handled") {
  Unhandled unhandled;
  std::vector<Deferred<int>> inputs;
  inputs.push_back(fail<int>(GenericError("consumed")));
  std::string seen;
  DeferredList(std::move(inputs), {.consumeErrors = true}).addCallback([&](auto results) { seen = text(results); });
  CHECK(seen == " !consumed");
  CHECK(unhandled.flush().empty());
}

TEST_CASE("fireOnOneErrback fails with the first failure and its index, at once") {
  Unhandled unhandled;
  Inputs in;
  std::string seen;
  std::size_t index = 9;
  DeferredList(in.take(), {.fireOnOneErrback = true, .consumeErrors = true}).addErrback([&](const FirstError& e) {
    seen = e.subFailure.getErrorMessage();
    index = e.index;
    return std::vector<Result<int>>();
  });
  in.a.callback(1);
  in.b.errback(GenericError("first"));
  CHECK(seen == "first");
  CHECK(index == 1);
  in.c.errback(GenericError("second"));
  CHECK(unhandled.flush().empty());
}

TEST_CASE("fireOnOneCallback fires with the first value and its index") {
  Inputs in;
  std::pair<int, std::size_t> seen;
  DeferredList(in.take(), FireOnOneCallback{.consumeErrors = true}).addCallback([&](auto result) {
    seen = std::get<0>(result);
  });
  in.a.errback(GenericError("x"));
  in.c.callback(7);
  CHECK(seen == std::pair<int, std::size_t>(7, 2));
  in.b.callback(8);
  CHECK(seen.first == 7);
}

TEST_CASE("fireOnOneCallback gives all the results if every input fails") {
  Inputs in;
  std::string seen;
  DeferredList(in.take(), FireOnOneCallback{.consumeErrors = true}).addCallback([&](auto result) {
    seen = text(std::get<1>(result));
  });
  in.a.errback(GenericError("a"));
  in.b.errback(GenericError("b"));
  in.c.errback(GenericError("c"));
  CHECK(seen == " !a !b !c");
}

TEST_CASE("both flags: whichever comes first") {
  Inputs in;
  std::string seen;
  auto d = DeferredList(in.take(), FireOnOneCallback{.fireOnOneErrback = true, .consumeErrors = true})
               .addCallback([&](auto) { seen = "value"; })
               .addErrback([&](const FirstError&) { seen = "error"; });
  SUBCASE("a failure") {
    in.b.errback(GenericError("x"));
    CHECK(seen == "error");
  }
  SUBCASE("a value") {
    in.b.callback(1);
    CHECK(seen == "value");
  }
}

TEST_CASE("cancel of a DeferredList cancels every input") {
  Inputs in;
  std::string seen;
  auto list = DeferredList(in.take(true), {.consumeErrors = true});
  list.addCallback([&](std::vector<Result<int>> results) { return seen = text(results), results; });
  SUBCASE("that is pending") {
    in.a.callback(1);
    list.cancel();
    CHECK(in.cancelled == 2);
    CHECK(seen == " 1 !cancelled !cancelled");
  }
  SUBCASE("though a stop button is all that is left of it") {
    auto stop = list.canceller();
    {
      auto gone = std::move(list);
    }
    stop.cancel();
    CHECK(in.cancelled == 3);
    CHECK(seen == " !cancelled !cancelled !cancelled");
  }
  SUBCASE("but none once it has fired") {
    in.a.callback(1), in.b.callback(2), in.c.callback(3);
    list.cancel();
    CHECK(in.cancelled == 0);
  }
}

TEST_CASE("cancel of a list that has fired early leaves the others alone") {
  Unhandled unhandled;
  Inputs in;
  SUBCASE("with a value") {
    auto list = DeferredList(in.take(true), FireOnOneCallback{});
    in.a.callback(1);
    list.cancel();
  }
  SUBCASE("with a failure") {
    auto list = DeferredList(in.take(true), {.fireOnOneErrback = true, .consumeErrors = true});
    in.a.errback(GenericError("x"));
    list.cancel();
    list.addErrback([](const FirstError&) { return std::vector<Result<int>>(); });
  }
  CHECK(in.cancelled == 0);
  CHECK_FALSE(in.b.called());
}

TEST_CASE("cancel of a list that waits for one value") {
  Pair in;
  SUBCASE("gives all the failures") {
    std::string seen;
    auto list = DeferredList(in.take(0), FireOnOneCallback{.consumeErrors = true});
    list.addCallback([&](auto result) { return seen = text(std::get<1>(result)), result; });
    list.cancel();
    CHECK(seen == " !cancelled !cancelled");
  }
  SUBCASE("gives the value that a canceller fires, and cancels the others all the same") {
    std::pair<int, std::size_t> seen;
    auto list = DeferredList(in.take(1), FireOnOneCallback{.consumeErrors = true});
    list.addCallback([&](auto result) { return seen = std::get<0>(result), result; });
    list.cancel();
    CHECK(seen == std::pair<int, std::size_t>(5, 0));
    CHECK(in.b.called());
  }
}

TEST_CASE("cancel of a list that fails with the first failure") {
  Pair in;
  std::string seen;
  auto cancelList = [&](int firing) {
    auto list = DeferredList(in.take(firing), {.fireOnOneErrback = true, .consumeErrors = true});
    list.addCallback([&](auto results) { return seen = text(results), results; });
    list.addErrback([&](const FirstError& e) {
      seen = std::to_string(e.index) + e.subFailure.getErrorMessage();
      return std::vector<Result<int>>();
    });
    list.cancel();
  };
  SUBCASE("gives that, and cancels the others all the same") {
    cancelList(0);
    CHECK(seen == "0cancelled");
    CHECK(in.b.called());
  }
  SUBCASE("which may be a later one") {
    cancelList(1);
    CHECK(seen == "1cancelled");
  }
  SUBCASE("gives the values if all cancellers fire some") {
    cancelList(2);
    CHECK(seen == " 5 5");
  }
}

TEST_CASE("a canceller that fires a value while its list is cancelled counts as that") {
  std::vector<Deferred<int>> inputs;
  Resolver<int> a, b;
  a.onCancel([](const Resolver<int>& r) { r.callback(5); });
  inputs.push_back(a.deferred());
  inputs.push_back(b.deferred());
  auto list = DeferredList(std::move(inputs), {.consumeErrors = true});
  std::string seen;
  list.addCallback([&](std::vector<Result<int>> results) { return seen = text(results), results; });
  list.cancel();
  CHECK(seen == " 5 !cancelled");
}

TEST_CASE("what a canceller throws while its list is cancelled is reported, and the others are cancelled still") {
  Unhandled unhandled;
  Resolver<int> a, b;
  a.onCancel([](const Resolver<int>&) { throw GenericError("canceller"); });
  std::vector<Deferred<int>> inputs;
  inputs.push_back(a.deferred());
  inputs.push_back(b.deferred());
  auto list = DeferredList(std::move(inputs), {.consumeErrors = true});
  list.cancel();
  CHECK(unhandled.flush() == Strings{"canceller"});
  CHECK(b.called());
  CHECK_FALSE(a.called());
  a.callback(1);
}

TEST_CASE("a list that nobody keeps still fires") {
  Inputs in;
  std::string seen;
  DeferredList(in.take()).addCallback([&](auto results) { seen = text(results); });
  in.a.callback(1), in.b.callback(2), in.c.callback(3);
  CHECK(seen == " 1 2 3");
}

TEST_CASE("lists of lists") {
  Inputs in, more;
  std::vector<Deferred<std::vector<int>>> lists;
  lists.push_back(gatherResults(in.take()));
  lists.push_back(gatherResults(more.take()));
  int sum = 0;
  gatherResults(std::move(lists)).addCallback([&](std::vector<std::vector<int>> all) {
    for (auto& one : all) {
      for (int n : one) sum += n;
    }
  });
  for (auto* i : {&in, &more}) i->a.callback(1), i->b.callback(2), i->c.callback(3);
  CHECK(sum == 12);
}

TEST_CASE("a DeferredList of Deferred<void>, and one of move-only values") {
  std::vector<Deferred<void>> nothing;
  nothing.push_back(succeed());
  std::size_t count = 0;
  DeferredList(std::move(nothing)).addCallback([&](std::vector<Result<void>> results) { count = results.size(); });
  CHECK(count == 1);
  std::vector<Deferred<std::unique_ptr<int>>> pointers;
  pointers.push_back(succeed(std::make_unique<int>(4)));
  int seen = 0;
  gatherResults(std::move(pointers)).addCallback([&](auto values) { seen = *values[0]; });
  CHECK(seen == 4);
}

TEST_CASE("gatherResults gives plain values") {
  Inputs in;
  std::vector<int> seen;
  gatherResults(in.take()).addCallback([&](std::vector<int> values) { seen = values; });
  in.b.callback(2), in.a.callback(1), in.c.callback(3);
  CHECK(seen == std::vector<int>{1, 2, 3});
  bool empty = false;
  gatherResults(std::vector<Deferred<int>>()).addCallback([&](auto values) { empty = values.empty(); });
  CHECK(empty);
  bool done = false;
  std::vector<Deferred<void>> nothing;
  nothing.push_back(succeed());
  gatherResults(std::move(nothing)).addCallback([&] { done = true; });
  CHECK(done);
}

TEST_CASE("gatherResults fails at the first failure and leaves the others running") {
  Unhandled unhandled;
  Inputs in;
  std::size_t index = 9;
  {
    auto d = gatherResults(in.take(true), true);
    d.addErrback([&](const FirstError& e) { return index = e.index, std::vector<int>(); });
    in.b.errback(GenericError("x"));
    CHECK(index == 1);
    CHECK(in.cancelled == 0);
    CHECK_FALSE(in.a.called());
  }
  CHECK(unhandled.flush().empty());
}

TEST_CASE("cancel of gatherResults cancels all and fails with the first") {
  Inputs in;
  auto d = gatherResults(in.take(true), true);
  bool first = false;
  d.addErrback([&](const FirstError& e) {
    first = e.index == 0 && e.subFailure.check<CancelledError>();
    return std::vector<int>();
  });
  d.cancel();
  CHECK(first);
  CHECK(in.cancelled == 3);
}

TEST_CASE("cancel of gatherResults gives the values if all cancellers fire some") {
  Pair in;
  std::vector<int> seen;
  auto d = gatherResults(in.take(2));
  d.addCallback([&](std::vector<int> values) { return seen = values, values; });
  d.cancel();
  CHECK(seen == std::vector<int>{5, 5});
}

TEST_CASE("a FirstError says whose failure it is, and what that says") {
  CHECK(FirstError(GenericError("some text"), 5).what() == std::string("input 5 failed: some text"));
}

TEST_CASE("gatherResults of Deferreds of different types gives a tuple") {
  Unhandled unhandled;
  Resolver<std::string> name;
  std::string seen;
  gatherResults(succeed(1), name.deferred(), succeed()).addCallback([&](std::tuple<int, std::string, Unit> all) {
    seen = std::get<1>(all) + std::to_string(std::get<0>(all));
  });
  CHECK(seen.empty());
  name.callback("x");
  CHECK(seen == "x1");

  Resolver<int> never;
  auto d = gatherResults(never.deferred(), fail<std::string>(GenericError("second")));
  std::size_t index = 9;
  std::move(d).addCallback([](auto) {}).addErrback([&](const FirstError& e) { index = e.index; });
  CHECK(index == 1);
  never.callback(1);
}

TEST_CASE("cancel of a tuple cancels all, and it fails with the first unless their cancellers fire values") {
  for (bool fires : {false, true}) {
    Resolver<int> number;
    Resolver<std::string> text;
    if (fires) {
      number.onCancel([](const Resolver<int>& r) { r.callback(1); });
      text.onCancel([](const Resolver<std::string>& r) { r.callback("x"); });
    }
    auto d = gatherResults(number.deferred(), text.deferred());
    Unhandled unhandled;
    std::string seen;
    auto done = std::move(d)
                    .addCallback([&](auto all) { seen = std::to_string(std::get<0>(all)) + std::get<1>(all); })
                    .addErrback([&](const FirstError& e) { seen = std::to_string(e.index) + e.what(); });
    done.cancel();
    CHECK(text.called());
    CHECK(seen == (fires ? "1x" : "0input 0 failed: cancelled"));
  }
}

TEST_CASE("race gives the first to succeed and cancels the others") {
  Unhandled unhandled;
  Inputs in;
  std::pair<std::size_t, int> seen;
  auto d = race(in.take(true)).addCallback([&](std::pair<std::size_t, int> winner) { seen = winner; });
  in.a.errback(GenericError("out"));
  CHECK_FALSE(d.called());
  in.c.callback(8);
  CHECK(seen == std::pair<std::size_t, int>(2, 8));
  CHECK(in.cancelled == 1);
  CHECK(unhandled.flush().empty());
}

TEST_CASE("race fails with all the failures, in the inputs' order") {
  Unhandled unhandled;
  Inputs in;
  Strings seen;
  race(in.take()).addCallback([](auto) {}).addErrback([&](const FailureGroup& group) {
    for (auto& f : group.failures) seen.push_back(f.getErrorMessage());
  });
  in.b.errback(GenericError("b")), in.a.errback(GenericError("a")), in.c.errback(GenericError("c"));
  CHECK(seen == Strings{"a", "b", "c"});
  CHECK(unhandled.flush().empty());
}

TEST_CASE("race cancels the losers once each, wherever the winner stands, and nobody if all fail") {
  Unhandled unhandled;
  for (std::size_t winner = 0; winner < 4; ++winner) {
    std::vector<Resolver<int>> producers(4);
    std::vector<int> cancelled(4);
    std::vector<Deferred<int>> inputs;
    for (std::size_t i = 0; i < 4; ++i) {
      producers[i].onCancel([&cancelled, i](const Resolver<int>&) { ++cancelled[i]; });
      inputs.push_back(producers[i].deferred());
    }
    std::pair<std::size_t, int> seen;
    race(std::move(inputs)).addCallback([&](auto first) { seen = first; });
    producers[winner].callback(7);
    CHECK(seen == std::pair<std::size_t, int>(winner, 7));
    std::vector<int> others(4, 1);
    others[winner] = 0;
    CHECK(cancelled == others);
  }
  Inputs in;
  race(in.take(true)).addCallback([](auto) {}).addErrback([](const FailureGroup&) {});
  in.a.errback(GenericError("a")), in.b.errback(GenericError("b")), in.c.errback(GenericError("c"));
  CHECK(in.cancelled == 0);
  CHECK(unhandled.flush().empty());
}

TEST_CASE("what the losers of a race fire late goes nowhere") {
  Unhandled unhandled;
  Resolver<int> winner, late, failsLate;
  std::vector<Deferred<int>> inputs;
  for (auto* r : {&winner, &late, &failsLate}) inputs.push_back(r->deferred());
  std::vector<std::pair<std::size_t, int>> seen;
  race(std::move(inputs)).addCallback([&](auto first) { seen.push_back(first); });
  winner.callback(1);
  CHECK_NOTHROW(late.callback(2));
  CHECK_NOTHROW(failsLate.errback(GenericError("late")));
  CHECK(seen == std::vector<std::pair<std::size_t, int>>{{0, 1}});
  CHECK(unhandled.flush().empty());
}

TEST_CASE("cancel of a race cancels all; a race of nothing fails at once") {
  Inputs in;
  std::size_t failures = 99;
  auto d = race(in.take(true)).addCallback([](auto) {}).addErrback([&](const FailureGroup& group) {
    failures = group.failures.size();
  });
  d.cancel();
  CHECK(in.cancelled == 3);
  CHECK(failures == 3);
  race(std::vector<Deferred<int>>()).addCallback([](auto) {}).addErrback([&](const FailureGroup& group) {
    failures = group.failures.size();
  });
  CHECK(failures == 0);
}

TEST_CASE("cancel of a race gives the value that a canceller fires") {
  Unhandled unhandled;
  Pair in;
  std::pair<std::size_t, int> seen;
  auto d = race(in.take(1));
  d.addCallback([&](auto first) { return seen = first, first; });
  d.cancel();
  CHECK(seen == std::pair<std::size_t, int>(0, 5));
  CHECK(in.b.called());
  CHECK(unhandled.flush().empty());
}

TEST_CASE("inputs that can never fire fail with BrokenDeferred") {
  std::vector<Deferred<int>> inputs;
  inputs.emplace_back();
  bool broken = false;
  DeferredList(std::move(inputs), {.consumeErrors = true}).addCallback([&](std::vector<Result<int>> results) {
    broken = results[0].failure().check<BrokenDeferred>();
  });
  CHECK(broken);
}

TEST_CASE("cancelling an empty list that waits for one value does nothing") {
  detail::setBrokenDeferreds(false);
  Unhandled unhandled;
  {
    auto list = DeferredList(std::vector<Deferred<int>>(), FireOnOneCallback{});
    list.cancel();
    CHECK_FALSE(list.called());
  }
  CHECK(unhandled.flush().empty());
  detail::setBrokenDeferreds(true);
}

TEST_CASE("a list that has fired lets go of inputs that are pending, and of their lists") {
  Unhandled unhandled;
  auto alive = std::make_shared<int>();
  std::weak_ptr<int> watch = alive;
  {
    Resolver<int> never;
    detail::setBrokenDeferreds(false);
    std::vector<Deferred<int>> inputs;
    inputs.push_back(never.deferred().addBoth([alive](Result<int> r) { return r; }));
    inputs.push_back(fail<int>(GenericError("early")));
    auto list = gatherResults(std::move(inputs), true);
    list.addErrback([](const FirstError&) { return std::vector<int>(); });
    alive.reset();
  }
  CHECK(watch.expired());
  detail::setBrokenDeferreds(true);
}

TEST_CASE("inputs that have failed already are all taken by a list that the first one fires") {
  Unhandled unhandled;
  std::vector<Deferred<int>> inputs;
  for (const char* what : {"one", "two", "three"}) inputs.push_back(fail<int>(GenericError(what)));
  std::string seen;
  gatherResults(std::move(inputs), true).addErrback([&](const FirstError& e) {
    seen = e.subFailure.getErrorMessage();
    return std::vector<int>();
  });
  CHECK(seen == "one");
  CHECK(unhandled.flush().empty());
}

TEST_CASE("an input that fails after its list has fired is reported when the list goes") {
  Unhandled unhandled;
  Resolver<int> late;
  {
    std::vector<Deferred<int>> inputs;
    inputs.push_back(fail<int>(GenericError("early")).addErrback([](const GenericError& e) { return Failure(e); }));
    inputs.push_back(late.deferred());
    auto list = gatherResults(std::move(inputs));
    list.addErrback([](const FirstError&) { return std::vector<int>(); });
    late.errback(GenericError("late"));
    CHECK(unhandled.flush().empty());
  }
  CHECK(unhandled.flush() == Strings{"early", "late"});
}

TEST_CASE("a list that has fired passes no cancel on, an empty one neither; a race does") {
  int cancelled = 0;
  Resolver<int> inner;
  inner.onCancel([&](const Resolver<int>&) { ++cancelled; });
  SUBCASE("a list of nothing") {
    auto d = DeferredList(std::vector<Deferred<int>>()).addCallback([&](auto) { return inner.deferred(); });
    d.cancel();
    CHECK(cancelled == 0);
    inner.callback(1);
  }
  SUBCASE("a race") {
    std::vector<Deferred<int>> inputs;
    inputs.push_back(succeed(1));
    auto d = race(std::move(inputs)).addCallback([&](auto) { return inner.deferred(); });
    d.cancel();
    CHECK(cancelled == 1);
    std::move(d).addErrback([](const CancelledError&) { return 0; });
  }
}

TEST_CASE("cancel of a list reaches every input, though the first one fires the list") {
  Unhandled unhandled;
  int cancelled = 0;
  Resolver<int> a, b;
  std::vector<Deferred<int>> inputs;
  for (auto* r : {&a, &b}) {
    r->onCancel([&](const Resolver<int>&) { ++cancelled; });
    inputs.push_back(r->deferred());
  }
  auto d = gatherResults(std::move(inputs), true).addErrback([](const FirstError&) { return std::vector<int>(); });
  d.cancel();
  CHECK(cancelled == 2);
}

TEST_CASE("a failure that an input of a dropped list ends with is reported when nothing keeps the list any more") {
  Unhandled unhandled;
  Resolver<int> early, late;
  auto input = early.deferred();
  auto again = detail::secondHandle(input);
  std::vector<Deferred<int>> inputs;
  inputs.push_back(std::move(input));
  inputs.push_back(late.deferred());
  {
    auto dropped = DeferredList(std::move(inputs));
  }
  early.callback(1);
  again.addCallback([](int) -> int { throw GenericError("after the list"); });
  {
    auto dropped = std::move(again);
  }
  early = Resolver<int>();
  CHECK(unhandled.flush().empty());
  late.callback(2);
  CHECK(unhandled.flush() == Strings{"after the list"});
}

TEST_CASE("a list in a list keeps its inputs' failures until the outer one goes") {
  Unhandled unhandled;
  std::vector<Deferred<int>> inputs;
  inputs.push_back(fail<int>(GenericError("inner")));
  std::vector<Deferred<std::vector<Result<int>>>> lists;
  lists.push_back(DeferredList(std::move(inputs)));
  {
    auto outer = DeferredList(std::move(lists));
    CHECK(unhandled.flush().empty());
  }
  CHECK(unhandled.flush() == Strings{"inner"});
}

TEST_CASE("200,000 lists in lists need no stack, however they end") {
  Unhandled unhandled;
  for (const std::string end : {"drop", "fire", "fire the dropped"}) {
    onSmallStack([&] {
      Resolver<int> r;
      Deferred<int> d = r.deferred();
      for (int i = 0; i < 200'000; ++i) {
        std::vector<Deferred<int>> one;
        one.push_back(std::move(d));
        d = DeferredList(std::move(one), {.consumeErrors = true}).addCallback([](auto results) {
          return int(results.size());
        });
      }
      if (end.starts_with("drop") || end.ends_with("dropped")) Deferred<int>(std::move(d));
      if (end.starts_with("fire")) r.callback(1);
    });
  }
}

TEST_CASE("fireOnOneCallback of Deferred<void> fires with the index") {
  Resolver<void> a, b;
  std::vector<Deferred<void>> inputs;
  inputs.push_back(a.deferred());
  inputs.push_back(b.deferred());
  std::size_t seen = 9;
  DeferredList(std::move(inputs), FireOnOneCallback{}).addCallback([&](auto first) { seen = std::get<0>(first); });
  b.callback();
  CHECK(seen == 1);
  a.callback();
}

TEST_CASE("a loser of a race whose canceller fires a value does not win") {
  Resolver<int> winner, quick;
  quick.onCancel([](const Resolver<int>& self) { self.callback(9); });
  std::vector<Deferred<int>> inputs;
  inputs.push_back(winner.deferred());
  inputs.push_back(quick.deferred());
  std::vector<int> seen;
  race(std::move(inputs)).addCallback([&](auto first) { seen.push_back(first.second); });
  winner.callback(1);
  CHECK(seen == std::vector{1});
}

TEST_CASE("lists, and races, of Deferreds that stand in braces or one by one") {
  Resolver<int> a, b;
  Resolver<std::string> c;
  std::string seen;
  SUBCASE("a list in braces") {
    DeferredList({a.deferred(), b.deferred()}, {.consumeErrors = true}).addCallback([&](auto all) {
      seen = text(all);
    });
  }
  SUBCASE("a list of several types") {
    DeferredList(a.deferred(), c.deferred(), b.deferred(), {.consumeErrors = true}).addCallback([&](auto all) {
      seen = text({std::get<0>(all), std::get<2>(all)});
      CHECK(std::get<1>(all).value() == "c");
    });
  }
  a.callback(1);
  c.callback("c");
  b.errback(GenericError("b"));
  CHECK(seen == " 1 !b");
}

TEST_CASE("a race of Deferreds that stand in braces or one by one") {
  Resolver<int> a, b;
  std::size_t first = 0;
  SUBCASE("in braces") {
    race({a.deferred(), b.deferred()}).addCallback([&](auto winner) { first = winner.first; });
  }
  SUBCASE("one by one") {
    race(a.deferred(), b.deferred()).addCallback([&](auto winner) { first = winner.first; });
  }
  b.callback(1);
  CHECK(first == 1);
}

TEST_CASE("gatherResults in braces, and its place in reports") {
  static int line;
  static std::string file;
  Resolver<int> a, b;
  int seen = 0;
  gatherResults({a.deferred(), b.deferred()}).addCallback([&](std::vector<int> all) { seen = all[0] + all[1]; });
  a.callback(1);
  b.callback(2);
  CHECK(seen == 3);

  auto before =
      setUnhandledFailureHandler([](std::string_view, const Failure& failure, const std::source_location& made) {
        if (!failure.check<FirstError>()) return;
        line = static_cast<int>(made.line());
        file = made.file_name();
      });
  Resolver<int> c;
  gatherResults(c.deferred(), succeed(std::string()));
  const int made = __LINE__ - 1;
  c.errback(GenericError("x"));
  setUnhandledFailureHandler(before);
  CHECK(file == __FILE__);
  CHECK(line == made);
}

TEST_CASE("the destructor of an input's value may fire the other inputs, and cancel the list") {
  Resolver<AtEachEnd> a, b;
  std::string seen;
  Canceller stop;
  auto list = gatherResults(a.deferred(), b.deferred());
  stop = list.canceller();
  list.addBoth([&](Result<std::tuple<AtEachEnd, AtEachEnd>> result) {
    seen += result.ok() ? "fired " : "failed ";
    return result;
  });
  // Moved from, it is still what it was, and so is destroyed several times.
  a.callback(AtEachEnd([&] {
    if (!b.called()) b.callback(AtEachEnd([] {}));
    stop.cancel();
  }));
  CHECK(seen == "fired ");
}

TEST_CASE("a list whose input would wait for the list fails, and names both") {
  Unhandled unhandled;
  Resolver<void> go;
  std::optional<Deferred<void>> list;
  std::string seen;
  std::vector<Deferred<void>> inputs;
  inputs.push_back(go.deferred().addCallback([&]() -> Deferred<void> { return std::move(*list); }));
  list = gatherResults(std::move(inputs), true);
  list->addErrback([&](const FirstError& e) { seen = e.subFailure.getErrorMessage(); });
  const Canceller stop = list->canceller();
  go.callback();
  CHECK(seen.starts_with("these would wait for each other for ever: the Deferreds made at "));
  stop.cancel();
}

TEST_CASE("cancel of 200,000 lists in lists, and of races, needs no stack") {
  for (bool races : {false, true}) {
    onSmallStack([&] {
      int cancelled = 0;
      Resolver<int> r;
      r.onCancel([&](const Resolver<int>&) { ++cancelled; });
      Deferred<int> d = r.deferred();
      for (int i = 0; i < 200'000; ++i) {
        if (races) {
          d = race({std::move(d)}).addCallback([](auto winner) { return winner.second; });
        } else {
          d = gatherResults({std::move(d)}, true).addCallback([](std::vector<int> all) { return all[0]; });
        }
      }
      d.cancel();
      CHECK(cancelled == 1);
      int failed = 0;
      d.addErrback([&](const Failure&) { return ++failed; });
      CHECK(failed == 1);
    });
  }
}

TEST_CASE("races that win because they are cancelled, within each other, need no stack") {
  onSmallStack([] {
    Deferred<int> d = Resolver<int>().deferred();
    for (int i = 0; i < 50'000; ++i) {
      // As a loser it is cancelled, wins by that, and cancels the next one.
      Resolver<int> r;
      r.onCancel([](const Resolver<int>& self) { self.callback(1); });
      d = race(r.deferred(), std::move(d)).addCallback([](auto winner) { return winner.second; });
    }
    d.cancel();
    CHECK(d.called());
  });
}

TEST_CASE("a list of Deferreds one of which was moved from leaves the others whole") {
  Unhandled unhandled;
  Resolver<int> a;
  Deferred<int> gone = a.deferred();
  Deferred<int> taken = std::move(gone);
  std::vector<Deferred<int>> inputs;
  inputs.push_back(std::move(gone));
  CHECK_THROWS_AS(DeferredList(std::move(inputs)), std::logic_error);
  a.callback(1);
}
