#include <deferred/resolver.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>
#include <test/support/at_end.hpp>
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

TEST_CASE("what a canceller holds may be the last Resolver") {
  struct Request : std::enable_shared_from_this<Request> {
    Resolver<int> answer;
    Deferred<int> start() {
      answer.onCancel([self = shared_from_this()](const Resolver<int>&) {});
      return answer.deferred();
    }
  };
  int seen = 0;
  auto request = std::make_shared<Request>();
  Request* known = request.get();
  SUBCASE("its Deferred was dropped") {
    std::exchange(request, nullptr)->start().addCallback([&](int n) { seen = n; });
    known->answer.callback(5);
  }
  SUBCASE("another Deferred fires it") {
    Resolver<int> source;
    auto d = std::exchange(request, nullptr)->start();
    std::move(d).addCallback([&](int n) { seen = n; });
    source.deferred().chainDeferred(known->answer);
    source.callback(5);
  }
  CHECK(seen == 5);
}

TEST_CASE("who awaits a Deferred while its canceller goes gets what its callbacks made") {
  Resolver<long> r;
  Deferred<std::string> d = r.deferred().addCallback([](long n) { return std::to_string(n); });
  std::string seen;
  SUBCASE("a coroutine") {
    auto watch = [](Deferred<std::string>& watched, std::string& to) -> Deferred<void> { to = co_await watched; };
    r.onCancel([end = AtEnd([&] { watch(d, seen); })](const Resolver<long>&) {});
    r.callback(0x41414141);
  }
  SUBCASE("a callback that returns it") {
    Resolver<void> other;
    auto got = other.deferred().addCallback([&] { return std::move(d); }).addCallback([&](std::string s) { seen = s; });
    r.onCancel([end = AtEnd([&] { other.callback(); })](const Resolver<long>&) {});
    r.callback(0x41414141);
  }
  CHECK(seen == "1094795585");
}

TEST_CASE("a null canceller is refused") {
  Resolver<int> r;
  CHECK_THROWS_AS(r.onCancel(std::function<void(const Resolver<int>&)>()), std::invalid_argument);
  CHECK_THROWS_AS(r.onCancel(static_cast<void (*)(const Resolver<int>&)>(nullptr)), std::invalid_argument);
  r.deferred().addErrback([](const Failure&) { return 0; });
}

TEST_CASE("a canceller that is a lambda coroutine stays until it has ended") {
  Resolver<int> r;
  Resolver<void> later;
  std::string seen;
  Deferred<int> d = r.deferred();
  r.onCancel([&, text = std::string(100, 'x')](const Resolver<int>& self) -> Deferred<void> {
    co_await later.deferred();
    seen = text + (self.called() ? " called" : " pending");
  });
  d.cancel();
  d.addErrback([](const CancelledError&) { return 0; });
  later.callback();
  CHECK(seen == std::string(100, 'x') + " called");
}
