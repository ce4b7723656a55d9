#include <deferred/share.hpp>

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/functions.hpp>
#include <test/support/small_stack.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;

TEST_CASE("share gives each waiter a copy, in order, before and after the result") {
  Resolver<std::string> r;
  auto shared = share(r.deferred());
  std::vector<std::string> log;
  shared.deferred().addCallback([&](std::string s) { log.push_back("a " + s); });
  auto copy = shared;
  copy.deferred().addCallback([&](std::string s) { log.push_back("b " + s); });
  r.callback("x");
  shared.deferred().addCallback([&](std::string s) { log.push_back("c " + s); });
  CHECK(log == std::vector<std::string>{"a x", "b x", "c x"});
}

TEST_CASE("cancelling one waiter cancels no other, nor the source") {
  Resolver<int> r;
  bool sourceCancelled = false;
  r.onCancel([&](const Resolver<int>&) { sourceCancelled = true; });
  auto shared = share(r.deferred());
  auto one = shared.deferred(), other = shared.deferred();
  bool cancelled = false;
  one.addErrback([&](const CancelledError&) { return cancelled = true, 0; });
  one.cancel();
  CHECK(cancelled);
  CHECK_FALSE(sourceCancelled);
  r.callback(4);
  int seen = 0;
  std::move(other).addCallback([&](int n) { seen = n; });
  CHECK(seen == 4);
}

TEST_CASE("cancelling the share cancels the source and fails all") {
  Resolver<int> r;
  auto shared = share(r.deferred());
  int cancelled = 0;
  for (int i = 0; i < 2; ++i) shared.deferred().addErrback([&](const CancelledError&) { return ++cancelled; });
  shared.cancel();
  CHECK(cancelled == 2);
}

TEST_CASE("a shared failure that nobody asked for is reported once") {
  Unhandled unhandled;
  {
    share(fail<int>(std::runtime_error("unseen")));
  }
  CHECK(unhandled.flush() == std::vector<std::string>{"unseen"});
  {
    auto shared = share(fail<int>(std::runtime_error("seen")));
    shared.deferred().addErrback([](const Failure&) { return 0; });
  }
  CHECK(unhandled.flush().empty());
}

TEST_CASE("a waiter whose copy cannot be made fails, and the others have theirs") {
  struct Value {
    int* copies;
    explicit Value(int& copies) : copies(&copies) {}
    Value(Value&&) noexcept = default;
    Value(const Value& other) : copies(other.copies) {
      if (++*copies == 1) throw std::runtime_error("copied");
    }
  };
  int copies = 0;
  Resolver<Value> r;
  auto shared = share(r.deferred());
  std::string seen;
  auto note = [&](Result<Value> result) { seen += result.ok() ? "value " : result.failure().getErrorMessage() + " "; };
  shared.deferred().addBoth(note);
  shared.deferred().addBoth(note);
  r.callback(copies);
  CHECK(seen == "copied value ");
}

TEST_CASE("a Shared that was moved from is the same still") {
  Resolver<int> r;
  Shared<int> one = share(r.deferred());
  Shared<int> other = std::move(one);
  int seen = 0;
  one.deferred().addCallback([&](int n) { seen = n; });
  r.callback(4);
  CHECK(seen == 4);
}

TEST_CASE("shares of shares need no stack") {
  onSmallStack([] {
    Resolver<int> r;
    Deferred<int> d = r.deferred();
    for (int i = 0; i < 100'000; ++i) d = share(std::move(d)).deferred();
    int seen = 0;
    d.addCallback([&](int n) { return seen = n; });
    r.callback(3);
    CHECK(seen == 3);
  });
}
