#include <deferred/function.hpp>

#include <memory>
#include <string>

#include <doctest/doctest.h>

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
