#include <deferred/function.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>

using torsion::Deferred;
using torsion::Resolver;
using torsion::UniqueFunction;

static int twice(int n) {
  return 2 * n;
}

TEST_CASE("a UniqueFunction holds what moves only, small or large") {
  UniqueFunction<int(int)> small = [p = std::make_unique<int>(3)](int n) { return *p + n; };
  CHECK(small(1) == 4);
  struct Large {
    char bytes[100] = {7};
  };
  UniqueFunction<int(int)> large = [l = Large(), p = std::make_unique<int>(1)](int n) { return l.bytes[0] + *p + n; };
  CHECK(large(1) == 9);
  UniqueFunction<int(int)> moved = std::move(large);
  CHECK_FALSE(large);
  CHECK(moved(2) == 10);
  small = std::move(moved);
  CHECK(small(2) == 10);
}

TEST_CASE("a UniqueFunction takes a function by its name") {
  UniqueFunction<int(int)> f = twice;
  CHECK(f(21) == 42);
}

TEST_CASE("a UniqueFunction passes references and move-only arguments") {
  UniqueFunction<void(std::string&, std::unique_ptr<int>)> append = [](std::string& s, std::unique_ptr<int> p) {
    s += std::to_string(*p);
  };
  std::string s;
  append(s, std::make_unique<int>(5));
  CHECK(s == "5");
}

TEST_CASE("a UniqueFunction destroys what it holds, once") {
  auto token = std::make_shared<int>(0);
  UniqueFunction<void()> f = [token] {};
  CHECK(token.use_count() == 2);
  UniqueFunction<void()> g = std::move(f);
  CHECK(token.use_count() == 2);
  g.reset();
  CHECK(token.use_count() == 1);
  CHECK_FALSE(g);
  g = [token] {};
  g = nullptr;
  CHECK(token.use_count() == 1);
}

TEST_CASE("a UniqueFunction made of nothing is empty") {
  CHECK_FALSE(UniqueFunction<int(int)>(nullptr));
  int (*none)(int) = nullptr;
  CHECK_FALSE(UniqueFunction<int(int)>(none));
  CHECK_FALSE(UniqueFunction<int(int)>(std::function<int(int)>()));
  CHECK_FALSE(UniqueFunction<int(int)>(UniqueFunction<int(int)>()));
  CHECK_FALSE(UniqueFunction<void(int)>(UniqueFunction<int(int)>()));
  CHECK(UniqueFunction<int(int)>(std::function<int(int)>(twice))(2) == 4);
}

namespace {

// Runs `last` when it is destroyed with that.
struct AtEnd {
  explicit AtEnd(std::function<void()> last) : last(std::move(last)) {}
  AtEnd(AtEnd&& other) noexcept : last(std::exchange(other.last, nullptr)) {}
  ~AtEnd() {
    if (last) last();
  }
  std::function<void()> last;
};

}  // namespace

TEST_CASE("a UniqueFunction may be assigned to while what it held is destroyed") {
  UniqueFunction<int()> f;
  const auto kept = std::make_shared<int>(5);
  const auto assign = [&] { f = [kept] { return *kept; }; };
  SUBCASE("by reset") {
    f = [end = AtEnd(assign)] { return 1; };
    f.reset();
  }
  SUBCASE("by the reset of one on the heap") {
    f = [end = AtEnd(assign), bytes = std::string(20, 'x'), more = std::string(20, 'x')] { return 1; };
    f.reset();
  }
  SUBCASE("by another assignment, which comes first") {
    f = [end = AtEnd(assign)] { return 1; };
    f = [] { return 2; };
  }
  REQUIRE(f);
  CHECK(f() == 5);
  f.reset();
  CHECK(kept.use_count() == 1);
}

TEST_CASE("a UniqueFunction keeps a lambda coroutine until its Deferred has fired") {
  Resolver<void> go;
  const auto text = std::make_shared<std::string>("the captures");
  std::string seen;
  std::optional<UniqueFunction<void(std::string)>> f;
  f.emplace(
      [&seen, text, wait = std::make_shared<Deferred<void>>(go.deferred())](std::string argument) -> Deferred<void> {
        try {
          co_await std::move(*wait);
        } catch (const torsion::BrokenDeferred&) {
          co_return;
        }
        seen = *text + argument;
      });
  (*f)(" and the argument");
  f.reset();
  CHECK(text.use_count() == 2);
  SUBCASE("which fires") {
    go.callback();
    CHECK(seen == "the captures and the argument");
  }
  SUBCASE("which nobody can fire any more") {
    go = Resolver<void>();
    CHECK(seen.empty());
  }
  CHECK(text.use_count() == 1);
}

TEST_CASE("a UniqueFunction gives on the Deferred of a callable that it keeps") {
  Resolver<int> answer;
  UniqueFunction<Deferred<int>()> f = [d = std::make_shared<Deferred<int>>(answer.deferred())] {
    return std::move(*d);
  };
  int got = 0;
  f().addCallback([&](int n) { got = n; });
  answer.callback(3);
  CHECK(got == 3);
}
