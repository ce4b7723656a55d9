#include <deferred/detail/chain.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <deferred/deferred.hpp>

using namespace torsion;

namespace {

// Counts how many there are, and knows where it is.
struct Tracked {
  static inline int alive = 0, moves = 0;
  int value;
  const Tracked* self = this;

  explicit Tracked(int value) : value(value) { ++alive; }
  Tracked(Tracked&& other) noexcept : value(std::exchange(other.value, -1)) {
    ++alive;
    ++moves;
  }
  ~Tracked() {
    CHECK(self == this);
    --alive;
  }
};

struct Large {
  std::array<Tracked, 9> parts = {Tracked(0), Tracked(1), Tracked(2), Tracked(3), Tracked(4),
                                  Tracked(5), Tracked(6), Tracked(7), Tracked(8)};
};

}  // namespace

TEST_CASE("a value is moved twice by a callback that takes and returns it by value") {
  {
    Deferred<Tracked> d;
    for (int i = 0; i < 5; ++i) {
      d.addCallback([](Tracked t) {
        ++t.value;
        return t;
      });
    }
    Tracked::moves = 0;
    d.callback(1);
    CHECK(Tracked::moves == 10);
    int seen = 0;
    std::move(d).addCallback([&](Tracked t) { seen = t.value; });
    CHECK(seen == 6);
    CHECK(Tracked::alive == 0);
  }
  CHECK(Tracked::alive == 0);
}

TEST_CASE("types of all sizes follow each other, taken and returned by value and by reference") {
  int seen = 0;
  Resolver<Tracked> r;
  r.deferred()
      .addCallback([](Tracked&& t) -> Tracked&& { return std::move(t); })
      .addCallback([](const Tracked& t) { return Tracked(t.value * 10 + t.value); })
      .addCallback([](Tracked t) {
        Large large;
        large.parts[8].value = t.value;
        return large;
      })
      .addCallback([](const Large& large) { return Tracked(large.parts[8].value + 1); })
      .addCallback([](Tracked t) { return std::make_unique<int>(t.value); })
      .addCallback([](std::unique_ptr<int> p) { return std::string(static_cast<std::size_t>(*p), 'x'); })
      .addCallback([](const std::string& s) { return s.size(); })
      .addCallback([&](std::size_t n) { seen = static_cast<int>(n); });
  r.callback(4);
  CHECK(seen == 45);
  CHECK(Tracked::alive == 0);
}

TEST_CASE("a callback that throws, fails, waits or returns nothing leaves no value behind") {
  std::vector<std::string> seen;
  Resolver<Tracked> r;
  Resolver<Tracked> inner;
  r.deferred()
      .addCallback([](Tracked t) { return Tracked(t.value + 1); })
      .addCallback([](Tracked t) -> Tracked { throw std::runtime_error("at " + std::to_string(t.value)); })
      .addErrback([&](const std::runtime_error& e) {
        seen.push_back(e.what());
        return Tracked(7);
      })
      .addCallback([](Tracked t) { return Tracked(t.value + 1); })
      .addCallback([&](const Tracked&) { return inner.deferred(); })
      .addCallback([](Tracked t) { return Tracked(t.value + 1); })
      .addCallback([](Tracked t) -> Result<Tracked> { return Result<Tracked>(Tracked(t.value + 1)); })
      .addBoth([&](Result<Tracked> t) { seen.push_back(std::to_string(t.value().value)); });
  r.callback(1);
  CHECK(seen == std::vector<std::string>{"at 2"});
  inner.callback(20);
  CHECK(seen == std::vector<std::string>{"at 2", "22"});
  CHECK(Tracked::alive == 0);
}
