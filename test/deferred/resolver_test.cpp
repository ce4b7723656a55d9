#include <deferred/resolver.hpp>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;

TEST_CASE("a Resolver gives its Deferred once") {
  Resolver<int> r;
  auto d = r.deferred();
  CHECK_THROWS_AS(r.deferred(), std::logic_error);
  Resolver<int> copy = r;
  CHECK_THROWS_AS(copy.deferred(), std::logic_error);
}

TEST_CASE("a Resolver may fail before it has given its Deferred away") {
  Unhandled unhandled;
  bool seen = false;
  {
    Resolver<int> r;
    r.errback(std::runtime_error("early"));
    r.deferred().addErrback([&](const std::runtime_error&) { return seen = true, 0; });
  }
  CHECK(seen);
  CHECK(unhandled.flush().empty());
  {
    Resolver<int>().errback(std::runtime_error("nobody"));
  }
  CHECK(unhandled.flush() == std::vector<std::string>{"nobody"});
}

TEST_CASE("a Resolver makes the value from what it is given") {
  Resolver<std::string> r;
  std::string seen;
  r.deferred().addCallback([&](std::string s) { seen = s; });
  r.callback(3, 'x');
  CHECK(seen == "xxx");
  CHECK(r.called());
}

TEST_CASE("copies fire the same Deferred") {
  Resolver<int> r;
  auto d = r.deferred();
  Resolver<int> copy = r, other;
  other = copy;
  other.callback(1);
  CHECK(r.called());
  CHECK_THROWS_AS(r.callback(2), AlreadyCalledError);
}

TEST_CASE("resolve fires with a Result") {
  Resolver<int> a;
  Resolver<void> b, c;
  int seen = 0;
  a.deferred().addCallback([&](int n) { seen += n; });
  b.deferred().addCallback([&] { seen += 10; });
  c.deferred().addErrback([&](const std::runtime_error&) { seen += 100; });
  a.resolve(1);
  b.resolve({});
  c.resolve(std::runtime_error("x"));
  CHECK(seen == 111);
}

TEST_CASE("a later canceller takes an earlier one's place") {
  Resolver<int> r;
  std::string log;
  r.onCancel([&](const Resolver<int>&) { log += "a"; });
  r.onCancel([&](const Resolver<int>&) { log += "b"; });
  auto d = r.deferred().addErrback([](const CancelledError&) { return 0; });
  d.cancel();
  CHECK(log == "b");
}

TEST_CASE("a Resolver that was moved from says so") {
  Resolver<int> r;
  auto d = r.deferred();
  Resolver<int> moved = std::move(r);
  CHECK_FALSE(r.called());
  CHECK_THROWS_AS(r.callback(1), std::logic_error);
  moved.callback(1);
}
