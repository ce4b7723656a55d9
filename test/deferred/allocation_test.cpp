// How often a chain allocates.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>

using namespace torsion;

namespace {
thread_local long allocations = 0;
thread_local long deallocations = 0;
thread_local long chains = 0;  // the difference, of those of a Chain's size
}  // namespace

// The program's allocator, counting. ASan checks these too, since they stand on malloc.
void* operator new(std::size_t size) {
  ++allocations;
  if (size == sizeof(detail::Chain)) ++chains;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t align) {
  ++allocations;
  auto alignment = static_cast<std::size_t>(align);
  if (void* p = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  if (p) ++deallocations;
  std::free(p);
}
void operator delete(void* p, std::size_t size) noexcept {
  if (p) ++deallocations;
  if (size == sizeof(detail::Chain)) --chains;
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  if (p) ++deallocations;
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  if (p) ++deallocations;
  std::free(p);
}

namespace {

template <class F>
long allocationsIn(F f) {
  long before = allocations;
  f();
  return allocations - before;
}

// As long as it lives, a new chain finds no memory that an ended one has left.
std::vector<Deferred<int>> takeSpares() {
  return std::vector<Deferred<int>>(16);
}

}  // namespace

TEST_CASE("a chain with ten callbacks allocates once") {
  const auto taken = takeSpares();
  long a = 1, b = 2, sum = 0;
  CHECK(allocationsIn([&] {
          Resolver<int> r;
          auto d = r.deferred();
          for (int i = 0; i < 10; ++i) d.addCallback([pa = &a, pb = &b](int n) { return n + int(*pa + *pb); });
          r.callback(0);
          std::move(d).addCallback([&](int n) { sum = n; });
        }) == 1);
  CHECK(sum == 30);
}

TEST_CASE("ten callbacks with strings and three captured words allocate at most once more") {
  long a = 1, b = 2, c = 3;
  CHECK(allocationsIn([&] {
          Resolver<std::string> r;
          auto d = r.deferred();
          for (int i = 0; i < 10; ++i) {
            d.addCallback([pa = &a, pb = &b, pc = &c](std::string s) {
              ++*pa, ++*pb, ++*pc;
              return s;
            });
          }
          r.callback("short");
        }) <= 2);
}

TEST_CASE("a callback added to a fired chain allocates nothing") {
  auto d = succeed(1);
  CHECK(allocationsIn([&] {
          for (int i = 0; i < 100; ++i) {
            d.addCallback([](int n) { return n + 1; });
            d.addErrback([](const Failure&) { return 0; });
            d.addBoth([](Result<int> r) { return r; });
          }
        }) == 0);
}

TEST_CASE("returning a fired Deferred allocates that Deferred alone, awaiting one nothing") {
  const auto taken = takeSpares();
  Deferred<int> d;
  d.addCallback([](int n) { return succeed(n); });
  CHECK(allocationsIn([&] { d.callback(1); }) == 1);
  long inLoop = 0;
  auto run = [&]() -> Deferred<int> {
    int sum = 0;
    auto ready = succeed(1);
    inLoop = allocationsIn([] {});
    long before = allocations;
    for (int i = 0; i < 10; ++i) sum += co_await ready;
    inLoop = allocations - before;
    co_return sum;
  };
  auto coroutine = run();
  CHECK(inLoop == 0);
  // The coroutine's frame and its chain.
  auto empty = []() -> Deferred<void> { co_return; };
  CHECK(allocationsIn([&] { empty(); }) <= 2);
}

TEST_CASE("a failure allocates its exception and its trail") {
  struct Other : std::runtime_error {
    using runtime_error::runtime_error;
  };
  Resolver<int> r;
  auto d = r.deferred();
  for (int i = 0; i < 10; ++i) d.addErrback([](const Other&) { return 0; });
  Failure failure(CancelledError{});
  CHECK(allocationsIn([&] { r.errback(std::move(failure)); }) == 1);
  d.addErrback([](const CancelledError&) { return 0; });
}

TEST_CASE("the memory of links that have run serves those that come after") {
  Resolver<int> first;
  auto d = first.deferred();
  first.callback(0);
  int runs = 0;
  for (int i = 0; i < 100; ++i) {
    Resolver<int> next;
    d.addCallback([&, inner = next.deferred()](int) mutable { return std::move(inner); });
    CHECK(allocationsIn([&] {
            for (int j = 0; j < 5; ++j) d.addCallback([&](int n) { return ++runs, n; });
          }) == 0);
    next.callback(i);
  }
  CHECK(runs == 500);
}

TEST_CASE("a callback that always adds the next one takes no more memory") {
  Deferred<int> d;
  long most = 0;
  struct Again {
    Deferred<int>& d;
    long& most;
    long before = allocations - deallocations;
    int operator()(int n) {
      most = std::max(most, allocations - deallocations - before);
      if (n < 1000) d.addCallback(*this);
      return n + 1;
    }
  };
  d.addCallback(Again{d, most});
  d.callback(0);
  CHECK(most <= 2);
}

TEST_CASE("more links than a chain has room for are freed as they run") {
  auto token = std::make_shared<int>();
  Deferred<int> d;
  for (int i = 0; i < 100; ++i) d.addCallback([token](int n) { return n + 1; });
  int last = 0;
  d.addCallback([&](int n) {
    last = n;
    return n;
  });
  CHECK(token.use_count() == 101);
  d.callback(0);
  CHECK(last == 100);
  CHECK(token.use_count() == 1);

  Deferred<int> dropped;
  for (int i = 0; i < 100; ++i) dropped.addCallback([token](int n) { return n; });
  dropped = Deferred<int>();
  CHECK(token.use_count() == 1);
}

TEST_CASE("a callback with a larger alignment than a pointer's is where that wants it") {
  Deferred<int> d;
  for (int i = 0; i < 20; ++i) {
    d.addCallback([wide = 1.0L](int n) {
      CHECK(reinterpret_cast<std::uintptr_t>(&wide) % alignof(long double) == 0);
      return n + int(wide);
    });
    d.addCallback([](int n) { return n + 1; });
  }
  int last = 0;
  d.addCallback([&](int n) { return last = n; });
  d.callback(0);
  CHECK(last == 40);
}

TEST_CASE("the memory of chains that have ended is bounded, and gone when their thread has ended") {
  static long kept, left;
  struct Late {
    std::optional<Deferred<int>> last;
    ~Late() {
      last.reset();
      left = chains;
    }
  };
  std::thread([] {
    static thread_local Late late;  // ends after all that the chains' ends make
    late.last.emplace();
    {
      std::vector<Deferred<int>> many(1000);
    }
    kept = chains;
  }).join();
  CHECK(kept <= 1 + 16);
  CHECK(left == 0);
}

TEST_CASE("a Chain is at most 768 bytes") {
  CHECK(sizeof(detail::Chain) <= 768);
}
