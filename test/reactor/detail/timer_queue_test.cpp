#include <reactor/detail/timer_queue.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/testing/clock.hpp>

using namespace std::chrono_literals;
using torsion::DelayedCall;
using torsion::Duration;
using torsion::detail::TimerQueue;

namespace {

struct StandingTime final : torsion::Time {
  Duration now{0};
  Duration seconds() const override { return now; }
  DelayedCall schedule(Duration, torsion::UniqueFunction<void()>, std::source_location) override { return {}; }
};

}  // namespace

TEST_SUITE("TimerQueue") {
  TEST_CASE("agrees with a sorted map, whatever is scheduled, moved and cancelled") {
    for (unsigned seed = 0; seed < 60; ++seed) {
      CAPTURE(seed);
      std::mt19937_64 random(seed);
      StandingTime time;
      time.now = Duration(random() % 3 == 0 ? random() >> 10 : random() % 5'000'000'000);
      auto queue = TimerQueue::create(time);
      std::map<std::pair<Duration, std::uint64_t>, int> model;
      std::map<int, std::pair<Duration, std::uint64_t>> keys;
      std::map<int, DelayedCall> handles;
      std::vector<int> ran;
      int next = 0;
      std::uint64_t sequence = 0;
      // Spans from one nanosecond to half a year, so that all levels are met and ticks are shared.
      auto span = [&] { return Duration(random() % (std::uint64_t{1} << (random() % 54))); };
      auto place = [&](int id, Duration due) {
        if (auto old = keys.find(id); old != keys.end()) model.erase(old->second);
        keys[id] = {due, sequence++};
        model[keys[id]] = id;
      };
      for (int step = 0; step < 600; ++step) {
        switch (random() % 8) {
          case 0:
          case 1:
          case 2: {
            const Duration delay = random() % 4 == 0 ? Duration(0) : span();
            const int id = next++;
            handles[id] = queue->schedule(time.now, delay, [&ran, id] { ran.push_back(id); }, {});
            place(id, time.now + delay);
            break;
          }
          case 3:
          case 4:
            if (!handles.empty()) {
              auto& [id, handle] = *std::next(handles.begin(), static_cast<long>(random() % handles.size()));
              if (random() % 2 == 0) {
                const Duration delay = span();
                handle.reset(delay);
                place(id, time.now + delay);
              } else {
                const Duration extra = random() % 3 == 0 ? -span() : span();
                const Duration due = handle.getTime() + extra;
                handle.delay(extra);
                place(id, due);
              }
              CHECK(handle.getTime() == keys[id].first);
            }
            break;
          case 5:
            if (!handles.empty()) {
              auto found = std::next(handles.begin(), static_cast<long>(random() % handles.size()));
              found->second.cancel();
              model.erase(keys[found->first]);
              keys.erase(found->first);
              handles.erase(found);
            }
            break;
          default: {
            if (!model.empty()) CHECK(queue->nextDue() <= model.begin()->first.first);
            time.now += random() % 4 == 0 && !model.empty()
                            ? std::max(model.begin()->first.first - time.now, Duration(0))
                            : span();
            ran.clear();
            while (queue->runNext(time.now)) {
            }
            std::vector<int> expected;
            while (!model.empty() && model.begin()->first.first <= time.now) {
              const int id = model.begin()->second;
              expected.push_back(id);
              CHECK_FALSE(handles[id].active());
              handles.erase(id);
              keys.erase(id);
              model.erase(model.begin());
            }
            CHECK(ran == expected);
          }
        }
        REQUIRE(queue->size() == model.size());
        if (model.empty()) CHECK(queue->nextDue() == Duration::max());
      }
      std::vector<Duration> left, expected;
      for (const DelayedCall& call : queue->pending()) left.push_back(call.getTime());
      for (const auto& [key, id] : model) expected.push_back(key.first);
      CHECK(left == expected);
    }
  }

  TEST_CASE("the next due time is exact where few calls are near it") {
    StandingTime time;
    auto queue = TimerQueue::create(time);
    CHECK(queue->nextDue() == Duration::max());
    queue->schedule(time.now, 90s, [] {}, {});
    CHECK(queue->nextDue() == 90s);
    queue->schedule(time.now, 90s - 1ns, [] {}, {});
    CHECK(queue->nextDue() == 90s - 1ns);
    queue->schedule(time.now, 7ns, [] {}, {});
    CHECK(queue->nextDue() == 7ns);
  }

  TEST_CASE("stops before the calls scheduled since a given one") {
    StandingTime time;
    auto queue = TimerQueue::create(time);
    int first = 0, second = 0;
    queue->schedule(time.now, 0s,
                    [&] {
                      ++first;
                      queue->schedule(time.now, 0s, [&] { ++second; }, {});
                    },
                    {});
    const std::uint64_t before = queue->nextSequence();
    CHECK(queue->runNext(time.now, before));
    CHECK_FALSE(queue->runNext(time.now, before));
    CHECK(first == 1);
    CHECK(second == 0);
    CHECK(queue->nextDue() == 0s);
    CHECK(queue->runNext(time.now));
    CHECK(second == 1);
  }

  TEST_CASE("a cancelled callable may cancel other calls and schedule new ones as it is destroyed") {
    torsion::Clock clock;
    DelayedCall other = clock.callLater(1s, [] {});
    auto busy = std::shared_ptr<void>(nullptr, [&](void*) {
      other.cancel();
      clock.callLater(2s, [] {});
    });
    DelayedCall call = clock.callLater(1s, [busy = std::move(busy)] {});
    call.cancel();
    CHECK_FALSE(other.active());
    CHECK(clock.getDelayedCalls().size() == 1);
  }

  TEST_CASE("calls cancelled by each other's destruction while the queue closes") {
    StandingTime time;
    std::vector<DelayedCall> calls;
    auto queue = TimerQueue::create(time);
    struct CancelsAll {
      std::vector<DelayedCall>* calls;
      explicit CancelsAll(std::vector<DelayedCall>* c) : calls(c) {}
      CancelsAll(CancelsAll&& o) noexcept : calls(std::exchange(o.calls, nullptr)) {}
      ~CancelsAll() {
        if (calls == nullptr) return;
        for (DelayedCall& call : *calls) {
          if (call.active()) call.cancel();
        }
      }
    };
    for (int i = 0; i < 10; ++i) {
      calls.push_back(queue->schedule(time.now, i % 2 ? Duration(0) : Duration(i * 1s),
                                      [all = CancelsAll(&calls)] { (void)all; }, {}));
    }
    queue.reset();
    for (const DelayedCall& call : calls) CHECK_FALSE(call.active());
  }
}
