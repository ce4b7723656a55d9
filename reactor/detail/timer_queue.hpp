// TimerQueue: the scheduled calls of a Reactor or a Clock, in the order in which they are to run.
//
// A hierarchical timing wheel for what is far away, a heap for what is near. The wheel counts ticks of about a
// millisecond; a call whose tick has come moves to the heap, which orders by the exact time and, for equal times, by
// when the call was scheduled or last moved. Level L of the wheel holds the calls whose tick differs from the current
// one first in its L-th group of six bits, so each level is later than the one below it, and the first call is found
// with a few bit scans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <thread>
#include <vector>

#include <deferred/function.hpp>
#include <deferred/time.hpp>

namespace torsion::detail {

class TimerQueue {
 public:
  /// Ends the queue's use: drops all calls and makes the handles that are left inert. The memory goes with the last
  /// one.
  struct Closer {
    void operator()(TimerQueue* queue) const noexcept { queue->close(); }
  };
  using Pointer = std::unique_ptr<TimerQueue, Closer>;

  /// Calls refer to `time` for what is "now". If `owner` is a thread, calls moved or cancelled in another throw
  /// WrongThread.
  static Pointer create(const Time& time, std::thread::id owner = {}) { return Pointer(new TimerQueue(time, owner)); }
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  /// Throws std::invalid_argument for a negative delay, and ReactorNotRunning once the queue is being closed.
  DelayedCall schedule(Duration now, Duration delay, UniqueFunction<void()> f, std::source_location where);

  /// Runs the first call that is due at `now`, unless its sequence number is `before` or later; false if there is none.
  /// What the call throws comes out of here, after the call has been taken off the queue.
  bool runNext(Duration now, std::uint64_t before = ~std::uint64_t{0});
  /// The number that the next call to be scheduled or moved will get.
  std::uint64_t nextSequence() const noexcept { return sequence_; }

  /// No call is due before this, though perhaps none is due then either; Duration::max() if there are no calls.
  Duration nextDue() const noexcept { return size_ == 0 ? Duration::max() : Duration(earliest_); }
  std::size_t size() const noexcept { return size_; }
  /// All calls, in the order in which they will run.
  std::vector<DelayedCall> pending();

 private:
  class Call;
  struct Links {
    Links* prev;
    Links* next;
  };
  struct HeapItem {
    std::int64_t key;
    std::uint64_t sequence;
    Call* call;
    bool operator<(const HeapItem& other) const noexcept {
      return key != other.key ? key < other.key : sequence < other.sequence;
    }
  };
  static constexpr int kLevels = 8;
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;

  TimerQueue(const Time& time, std::thread::id owner);
  ~TimerQueue();
  void close() noexcept;

  Call& allocate();
  void release(Call& call) noexcept;
  void link(Call& call);
  void unlink(Call& call) noexcept;
  void move(Call& call, std::int64_t due);
  bool openNextSlot(std::int64_t lastTick);
  std::int64_t findEarliest() const noexcept;

  void heapPush(Call& call);
  void heapRemove(std::size_t index) noexcept;
  void siftUp(std::size_t index, HeapItem item) noexcept;
  void siftDown(std::size_t index, HeapItem item) noexcept;

  const Time& time_;
  const std::thread::id owner_;
  std::int64_t currentTick_ = 0;
  std::int64_t earliest_ = 0;  // of nextDue()
  std::uint64_t sequence_ = 0;
  std::size_t size_ = 0;
  std::size_t live_ = 0;  // calls not on the free list: scheduled, or held by a handle
  bool closed_ = false;
  Links* free_ = nullptr;
  std::vector<HeapItem> heap_;
  std::vector<std::unique_ptr<Call[]>> slabs_;
  std::uint64_t occupied_[kLevels] = {};
  Links slots_[kLevels * kSlots];
};

}  // namespace torsion::detail
