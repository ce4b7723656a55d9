#include <deferred/detail/take.hpp>

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/function.hpp>

using namespace torsion::detail;

namespace {

// What a user's object may do: it calls back when it is destroyed.
struct Guest {
  explicit Guest(std::function<void()> last) : last(std::make_unique<std::function<void()>>(std::move(last))) {}
  Guest(Guest&&) noexcept = default;
  Guest& operator=(Guest&&) noexcept = default;
  ~Guest() {
    if (last && *last) (*last)();
  }
  std::unique_ptr<std::function<void()>> last;
};

}  // namespace

TEST_CASE("take empties what it takes from") {
  std::vector<int> numbers = {1, 2};
  CHECK(take(numbers) == std::vector<int>{1, 2});
  CHECK(numbers.empty());
  std::optional<int> one = 1;
  CHECK(take(one) == 1);
  CHECK_FALSE(one);
  auto pointer = std::make_shared<int>(1);
  CHECK(*take(pointer) == 1);
  CHECK_FALSE(pointer);
  torsion::UniqueFunction<int()> f = [] { return 1; };
  CHECK(take(f)() == 1);
  CHECK_FALSE(f);
}

TEST_CASE("takeFront and takeAt take one element out") {
  std::deque<std::unique_ptr<int>> queue;
  queue.push_back(std::make_unique<int>(1));
  queue.push_back(std::make_unique<int>(2));
  CHECK(*takeFront(queue) == 1);
  CHECK(queue.size() == 1);
  std::list<int> list = {1, 2, 3};
  CHECK(takeAt(list, std::next(list.begin())) == 2);
  CHECK(list == std::list<int>{1, 3});
  std::map<int, std::unique_ptr<int>> map;
  map[1] = std::make_unique<int>(10);
  map[2] = std::make_unique<int>(20);
  CHECK(*takeAt(map, map.find(2)).mapped() == 20);
  CHECK(takeFront(map).key() == 1);
  CHECK(map.empty());
}

TEST_CASE("what is dropped may fill its holder anew") {
  SUBCASE("a list") {
    std::list<Guest> guests;
    guests.emplace_back([&] { guests.emplace_back([] {}); });
    guests.emplace_back([&] { guests.emplace_back([] {}); });
    drop(guests);
    CHECK(guests.size() == 2);
  }
  SUBCASE("a map, by an element") {
    std::map<int, Guest> guests;
    guests.emplace(1, Guest([&] { guests.emplace(1, Guest([] {})); }));
    static_cast<void>(takeAt(guests, guests.begin()));
    CHECK(guests.size() == 1);
  }
  SUBCASE("an optional") {
    std::optional<Guest> guest;
    guest.emplace([&] { guest.emplace([] {}); });
    drop(guest);
    CHECK(guest);
  }
}
