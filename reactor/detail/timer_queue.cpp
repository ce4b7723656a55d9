#include <reactor/detail/timer_queue.hpp>

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <utility>

#include <deferred/errors.hpp>
#include <reactor/error.hpp>

namespace torsion::detail {

namespace {

constexpr int kTickShift = 20;  // a tick is 2^20 ns
constexpr std::size_t kSlabSize = 128;
constexpr std::size_t kHeapArity = 4;
// Where a call is, if it is not in the heap (then this is its index).
constexpr std::int32_t kInWheel = -1, kIsCalled = -2, kIsCancelled = -3, kIsInert = -4;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

std::int64_t tickOf(std::int64_t time) noexcept {
  return time >> kTickShift;
}

std::int64_t saturatingAdd(std::int64_t a, std::int64_t b) noexcept {
  std::int64_t sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b > 0 ? kNever : std::numeric_limits<std::int64_t>::min();
}

}  // namespace

// Two cache lines: all that moving a call touches, then what making and running it does.
class alignas(64) TimerQueue::Call final : public DelayedCall::Entry, public TimerQueue::Links {
 public:
  void cancel() override {
    if (!usable()) return;
    queue->unlink(*this);
    position = kIsCancelled;
    function.reset();  // may do anything, also drop the last handle: the queue's reference goes after it
    unref();
  }
  void reset(Duration fromNow) override {
    if (fromNow < Duration::zero()) throw std::invalid_argument("DelayedCall::reset: a negative time");
    if (usable()) queue->move(*this, saturatingAdd(queue->time_.seconds().count(), fromNow.count()));
  }
  void delay(Duration extra) override {
    if (usable()) queue->move(*this, saturatingAdd(due, extra.count()));
  }
  bool active() const noexcept override { return position >= kInWheel; }
  Duration getTime() const noexcept override { return Duration(due); }
  std::source_location where() const noexcept override { return location; }
  void ref() noexcept override { ++references; }
  void unref() noexcept override {
    if (--references == 0) queue->release(*this);
  }

  std::int64_t due;
  std::int64_t key;  // the time by which it lies where it lies; `due` is later if it was postponed since
  std::uint64_t sequence;
  TimerQueue* queue;
  std::uint32_t references = 0;
  std::int32_t position = kIsInert;
  UniqueFunction<void()> function;
  std::source_location location;

 private:
  bool usable() const {
    if (position < kInWheel) {
      if (position == kIsCalled) throw AlreadyCalled();
      if (position == kIsCancelled) throw AlreadyCancelled();
      return false;
    }
    if (queue->owner_ != std::thread::id() && queue->owner_ != std::this_thread::get_id()) {
      throw WrongThread("a DelayedCall was used in another thread than its reactor's; use callFromThread");
    }
    return true;
  }
};

TimerQueue::TimerQueue(const Time& time, std::thread::id owner) : time_(time), owner_(owner) {
  for (Links& slot : slots_) slot.prev = slot.next = &slot;
}

TimerQueue::~TimerQueue() = default;

void TimerQueue::close() noexcept {
  closed_ = true;
  ++live_;  // keeps this object until the end of this function
  // Destroying a callable may cancel other calls, so look for the next one afresh each time.
  while (size_ != 0) {
    Call* call = nullptr;
    if (!heap_.empty()) {
      call = heap_.back().call;
    } else {
      int level = 0;
      while (occupied_[level] == 0) ++level;
      call = static_cast<Call*>(slots_[level * kSlots + std::countr_zero(occupied_[level])].next);
    }
    unlink(*call);
    call->position = kIsInert;
    call->function.reset();
    call->unref();
  }
  if (--live_ == 0) delete this;
}

DelayedCall TimerQueue::schedule(Duration now, Duration delay, UniqueFunction<void()> f, std::source_location where) {
  if (delay < Duration::zero()) throw std::invalid_argument("callLater: a negative delay");
  if (closed_) throw ReactorNotRunning("callLater: the reactor or clock is being destroyed");
  // A queue that stood empty has not followed the time; far behind it, calls would start on a high level.
  if (size_ == 0) currentTick_ = std::max(currentTick_, tickOf(now.count()));
  Call& call = allocate();
  call.due = saturatingAdd(now.count(), delay.count());
  call.sequence = sequence_++;
  call.function = std::move(f);
  call.location = where;
  call.references = 1;
  link(call);
  ++size_;
  return DelayedCall(call);
}

bool TimerQueue::runNext(Duration now, std::uint64_t before) {
  for (;;) {
    while (!heap_.empty()) {
      const HeapItem first = heap_.front();
      if (first.key > now.count()) {
        earliest_ = first.key;
        return false;
      }
      Call& call = *first.call;
      if (call.due != first.key || call.sequence != first.sequence) {  // it was postponed
        heapRemove(0);
        link(call);
        continue;
      }
      if (call.sequence >= before) return false;
      heapRemove(0);
      --size_;
      call.position = kIsCalled;
      struct Finish {
        Call& call;
        ~Finish() {
          call.function.reset();
          call.unref();
        }
      } finish{call};
      call.function();
      return true;
    }
    if (!openNextSlot(tickOf(now.count()))) {
      earliest_ = findEarliest();
      return false;
    }
  }
}

// As nextDue(). Does not look at more than a few calls.
std::int64_t TimerQueue::findEarliest() const noexcept {
  if (!heap_.empty()) return heap_.front().key;
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const int slot = std::countr_zero(occupied_[level]);
    const int shift = level * kSlotBits;
    const std::int64_t start = ((currentTick_ >> shift >> kSlotBits << kSlotBits) + slot) << shift;
    // If few calls are in the slot, their times spare the reactor a wake-up only to open it. A postponed one may be due
    // after calls of later slots, hence the end of the slot.
    std::int64_t first = saturatingAdd(start << kTickShift, std::int64_t{1} << shift << kTickShift);
    const Links& head = slots_[level * kSlots + slot];
    int seen = 0;
    for (const Links* links = head.next; links != &head; links = links->next) {
      if (++seen > 8) return start << kTickShift;
      first = std::min(first, static_cast<const Call*>(links)->due);
    }
    return first;
  }
  return kNever;
}

std::vector<DelayedCall> TimerQueue::pending() {
  std::vector<Call*> calls;
  calls.reserve(size_);
  for (const HeapItem& item : heap_) calls.push_back(item.call);
  for (const Links& head : slots_) {
    for (Links* links = head.next; links != &head; links = links->next) calls.push_back(static_cast<Call*>(links));
  }
  std::sort(calls.begin(), calls.end(), [](const Call* a, const Call* b) {
    return a->due != b->due ? a->due < b->due : a->sequence < b->sequence;
  });
  std::vector<DelayedCall> handles;
  handles.reserve(calls.size());
  for (Call* call : calls) handles.emplace_back(*call);
  return handles;
}

TimerQueue::Call& TimerQueue::allocate() {
  if (free_ == nullptr) {
    Call* slab = slabs_.emplace_back(new Call[kSlabSize]).get();
    for (std::size_t i = kSlabSize; i-- > 0;) {
      slab[i].queue = this;
      slab[i].next = std::exchange(free_, &slab[i]);
    }
  }
  Call* call = static_cast<Call*>(std::exchange(free_, free_->next));
  ++live_;
  return *call;
}

void TimerQueue::release(Call& call) noexcept {
  call.next = std::exchange(free_, &call);
  if (--live_ == 0 && closed_) delete this;
}

void TimerQueue::link(Call& call) {
  call.key = call.due;
  if (call.due < earliest_ || size_ == 0) earliest_ = call.due;
  const std::int64_t tick = tickOf(call.due);
  if (tick <= currentTick_) {
    heapPush(call);
    return;
  }
  const int level = (63 - std::countl_zero(static_cast<std::uint64_t>(tick ^ currentTick_))) / kSlotBits;
  const int slot = static_cast<int>(tick >> (level * kSlotBits)) & (kSlots - 1);
  Links& head = slots_[level * kSlots + slot];
  occupied_[level] |= std::uint64_t{1} << slot;
  call.position = kInWheel;
  call.prev = head.prev;
  call.next = &head;
  head.prev->next = &call;
  head.prev = &call;
}

// Takes a call out of the queue.
void TimerQueue::unlink(Call& call) noexcept {
  --size_;
  if (call.position >= 0) {
    heapRemove(static_cast<std::size_t>(call.position));
    return;
  }
  Links* const prev = call.prev;
  Links* const next = call.next;
  // Many are cancelled in the order in which they were made, as of connections that come and go: the next one's turn,
  // and with it that of the one after, is near.
  __builtin_prefetch(next->next, 1);
  prev->next = next;
  next->prev = prev;
  if (prev == next) {  // both are the head of a slot that is empty now
    const auto index = static_cast<std::size_t>(next - slots_);
    occupied_[index / kSlots] &= ~(std::uint64_t{1} << (index % kSlots));
  }
}

void TimerQueue::move(Call& call, std::int64_t due) {
  call.sequence = sequence_++;
  if (due >= call.key) {  // it stays where it is, and is looked at again when its old time comes
    call.due = due;
    return;
  }
  unlink(call);
  ++size_;
  call.due = due;
  link(call);
}

// Moves the time of the wheel to the first occupied slot and spreads its calls over the levels below and the heap.
// False, with the time at `lastTick`, if there is none up to then.
bool TimerQueue::openNextSlot(std::int64_t lastTick) {
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const int slot = std::countr_zero(occupied_[level]);
    const int shift = level * kSlotBits;
    const std::int64_t start = ((currentTick_ >> shift >> kSlotBits << kSlotBits) + slot) << shift;
    if (start > lastTick) break;
    currentTick_ = start;
    occupied_[level] &= ~(std::uint64_t{1} << slot);
    Links& head = slots_[level * kSlots + slot];
    Links* links = head.next;
    head.prev->next = nullptr;
    head.prev = head.next = &head;
    while (links != nullptr) {
      Links* const next = links->next;
      link(*static_cast<Call*>(links));
      links = next;
    }
    return true;
  }
  currentTick_ = std::max(currentTick_, lastTick);
  return false;
}

void TimerQueue::heapPush(Call& call) {
  heap_.emplace_back();
  siftUp(heap_.size() - 1, {call.key, call.sequence, &call});
}

void TimerQueue::heapRemove(std::size_t index) noexcept {
  const HeapItem last = heap_.back();
  heap_.pop_back();
  if (index == heap_.size()) return;
  if (index > 0 && last < heap_[(index - 1) / kHeapArity]) {
    siftUp(index, last);
  } else {
    siftDown(index, last);
  }
}

void TimerQueue::siftUp(std::size_t index, HeapItem item) noexcept {
  while (index > 0) {
    const std::size_t parent = (index - 1) / kHeapArity;
    if (!(item < heap_[parent])) break;
    heap_[index] = heap_[parent];
    heap_[index].call->position = static_cast<std::int32_t>(index);
    index = parent;
  }
  heap_[index] = item;
  item.call->position = static_cast<std::int32_t>(index);
}

void TimerQueue::siftDown(std::size_t index, HeapItem item) noexcept {
  for (;;) {
    const std::size_t first = index * kHeapArity + 1;
    if (first >= heap_.size()) break;
    const std::size_t last = std::min(first + kHeapArity, heap_.size());
    const std::size_t least =
        static_cast<std::size_t>(std::min_element(heap_.begin() + static_cast<std::ptrdiff_t>(first),
                                                  heap_.begin() + static_cast<std::ptrdiff_t>(last)) -
                                 heap_.begin());
    if (!(heap_[least] < item)) break;
    heap_[index] = heap_[least];
    heap_[index].call->position = static_cast<std::int32_t>(index);
    index = least;
  }
  heap_[index] = item;
  item.call->position = static_cast<std::int32_t>(index);
}

}  // namespace torsion::detail
