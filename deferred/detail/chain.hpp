// Chain: what a Deferred<T> and its Resolvers share. One object holds the result, the callbacks to come (in an arena of
// its own) and who waits for whom; the typed handles around it guarantee that each callback finds the type it expects.
// Internal: users meet it only through Deferred and Resolver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include <deferred/errors.hpp>
#include <deferred/failure.hpp>
#include <deferred/function.hpp>
#include <deferred/result.hpp>

namespace torsion::detail {

class Chain;
class Owner;

// What a step asks the run loop to do next, if anything: run `chain` (it arrives held), then come back.
// `call`: as if the step had called a function that runs that chain; else the step has handed its result over to it.
class Jump {
 public:
  Jump() noexcept = default;
  Jump(Chain* chain, bool call) noexcept : bits_(reinterpret_cast<std::uintptr_t>(chain) | (call ? 1 : 0)) {}
  explicit operator bool() const noexcept { return bits_ != 0; }
  Chain& chain() const noexcept { return *reinterpret_cast<Chain*>(bits_ & ~std::uintptr_t{1}); }
  bool call() const noexcept { return (bits_ & 1) != 0; }

 private:
  std::uintptr_t bits_ = 0;  // both in one, since every step returns it
};

// A link of a chain. step() runs it and drop() discards it; each disposes of the node itself.
struct Node {
  Node* next;  // set by who adds it
  std::source_location where;

  explicit Node(const std::source_location& where) noexcept : where(where) {}
  virtual Jump step(Chain& chain) noexcept = 0;
  virtual void drop(Chain& chain) noexcept = 0;

 protected:
  ~Node() = default;
};

// What a chain keeps beside its result: a list keeps its inputs so.
struct Keeper {
  // What the chain waits for, one after the other; null after the last.
  virtual Chain* input(std::size_t index) const noexcept = 0;
  // cancel() of the chain, which has not fired, begins: the inputs stay as they are until endCancel(). False: there is
  // nothing to cancel.
  virtual bool beginCancel() noexcept = 0;
  virtual void endCancel() noexcept = 0;
  // The chain's last owner is gone, so that nobody can cancel it or see its result.
  virtual void ownersGone() noexcept = 0;
  // The chain counts as owned, as for a list some of whose inputs are pending (in Twisted these refer to it).
  virtual bool owns() const noexcept = 0;
  // The chain ends.
  virtual void release() noexcept = 0;

 protected:
  ~Keeper() = default;
};

// The template-free part of a coroutine's promise.
struct Coroutine {
  enum class Phase : std::uint8_t {
    first,    // runs for the first time, in its caller
    waiting,  // is suspended
    resumed,  // runs, or is being suspended, above the step that resumed it, which also takes its end
    done,     // its body has ended, after it was resumed
    dropped,  // what it waits for went away while it was being suspended: that step destroys it
  };
  Chain* out = nullptr;  // fired when the coroutine ends; a firer reference
  Phase phase = Phase::first;
  std::optional<Failure> lastFailure;  // thrown into the coroutine last: keeps its trail if that goes on

  void caught(const Failure& failure, const std::source_location& where);
  // The exception that ends the coroutine.
  Failure endFailure(const std::source_location& made) noexcept;
  // The coroutine is done: fires `out` with its result, but for the links, and destroys the frame.
  virtual void finish(Chain& out) noexcept = 0;
  // Destroys the suspended frame.
  virtual void destroy() noexcept = 0;

 protected:
  ~Coroutine() = default;
};

// taken: another chain has the value, or it was nothing, the value of a Deferred<void>.
enum class State : std::uint8_t { empty, value, failed, taken };

// How a chain destroys and moves a value whose type it does not know. Null members: nothing to do, a plain copy.
struct ValueOps {
  void (*destroy)(void* slot) noexcept;
  void (*relocate)(void* from, void* to) noexcept;
};

// Two counts decide a chain's life. Owners may cancel it or see its result: the Deferred, whoever waits for it.
// Firers may still make it go on: Resolvers, the chain or coroutine it waits for, a run under way. When both are gone
// it ends. Not atomic: a chain stays in its thread.
class Chain {
 public:
  static constexpr std::size_t kSlotSize = 64;
  static constexpr std::size_t kArenaSize = 512;
  static constexpr std::size_t kArenaAlign = 8;

  Chain(const std::type_info& head, const std::source_location& made) noexcept : headType_(&head), made_(made) {
#ifndef NDEBUG
    thread_ = currentThread();
#endif
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  static void* operator new(std::size_t size);
  static void operator delete(void* chain) noexcept;

  void addOwner() noexcept { ++owners_; }
  void dropOwner() noexcept {
    if (--owners_ == 0) lastOwnerGone();
  }
  bool owned() const noexcept { return owners_ != 0; }
  void addFirer() noexcept { ++firers_; }
  void dropFirer() noexcept {
    if (--firers_ == 0 && (owners_ == 0 || !called_)) lastFirerGone();
  }
  // Holds keep the result, so that a failure is not reported yet, and not the chain's life; see Hold.
  void addHold() noexcept {
    if (holds_++ == 0) addWatcher();
  }
  void dropHold() noexcept {
    if (--holds_ == 0) lastHoldGone();
  }
  // Watchers keep the memory alone.
  void addWatcher() noexcept { ++watchers_; }
  void dropWatcher() noexcept {
    if (--watchers_ == 0 && dead_) delete this;
  }
  bool dead() const noexcept { return dead_; }
  // A Resolver's chain, until the Resolver gives its Deferred away, which it does once.
  void setUnclaimed() noexcept { unclaimed_ = true; }
  bool claim() noexcept { return std::exchange(unclaimed_, false); }
  // A Deferred that was made without a Resolver, and fires itself.
  void setFiresItself() noexcept { firesItself_ = true; }
  bool firesItself() const noexcept { return firesItself_; }

  // ---- the result
  State state() const noexcept { return state_; }
  bool failed() const noexcept { return state_ == State::failed; }
  template <class V>
  V& value() noexcept {
    if constexpr (isPlain<V>()) {
      return *std::launder(reinterpret_cast<V*>(slot_));
    } else if constexpr (fitsSlot<V>()) {
      return *std::launder(reinterpret_cast<V*>(value_));
    } else {
      return **std::launder(reinterpret_cast<V**>(slot_));
    }
  }
  template <class V, class... A>
  void putValue(A&&... args) {
    clear();
    if constexpr (fitsSlot<V>()) {
      ::new (static_cast<void*>(slot_)) V(std::forward<A>(args)...);
    } else {
      ::new (static_cast<void*>(slot_)) V*(new V(std::forward<A>(args)...));
    }
    ops_ = &kValueOps<V>;
    state_ = State::value;
  }
  // Moves the result, value or failure, to another chain.
  void moveResultTo(Chain& other) noexcept;
  Failure& failure() noexcept { return *std::launder(reinterpret_cast<Failure*>(slot_)); }
  void putFailure(Failure failure) noexcept {
    clear();
    ::new (static_cast<void*>(slot_)) Failure(std::move(failure));
    state_ = State::failed;
    handled_ = false;
  }
  // Takes the value out. Where another chain has taken it already, gives a default one if the type has that.
  template <class V>
  V takeValue() {
    if (state_ == State::value) [[likely]] {
      struct MarkTaken {
        Chain& chain;
        ~MarkTaken() { chain.markTaken(); }
      } markTaken{*this};
      return std::move(value<V>());
    }
    if constexpr (std::is_default_constructible_v<V>) {
      return V();
    } else {
      throw std::logic_error("the value of this Deferred was taken already");
    }
  }
  // The value as the argument of a callback. It stays where it is until the callback's result replaces it. Where
  // another chain has taken it, as takeValue().
  template <class V>
  V& argument() {
    if (state_ != State::value) [[unlikely]] {
      if constexpr (std::is_default_constructible_v<V>) {
        putValue<V>();
      } else {
        throw std::logic_error("the value of this Deferred was taken already");
      }
    }
    return value<V>();
  }
  // Replaces the value, a V, by the W that make() returns, which may use the old one. Small ones are built in the other
  // half of the slot, without another move; plain ones take the old one's place.
  template <class V, class W, class Make>
  void replaceValue(Make make) {
    if constexpr (isPlain<V>() && isPlain<W>()) {
      W result(make());
      ::new (static_cast<void*>(slot_)) W(std::move(result));
      if constexpr (!std::is_same_v<V, W>) ops_ = &kValueOps<W>;
    } else if constexpr (fitsHalf<V>() && fitsHalf<W>() && !isPlain<W>()) {
      V& old = value<V>();
      std::byte* const other = slot_ + (slot_ + kSlotSize / 2 - value_);
      ::new (static_cast<void*>(other)) W(make());
      old.~V();
      value_ = other;
      if constexpr (!std::is_same_v<V, W>) ops_ = &kValueOps<W>;
    } else {
      W result(make());
      putValue<W>(std::move(result));
    }
  }
  Failure takeFailure() noexcept {
    Failure failure = std::move(this->failure());
    markTaken();
    return failure;
  }
  void markTaken() noexcept {
    clear();
    state_ = State::taken;
  }
  // The failure stays, but someone has seen it: it is not reported as unhandled.
  void markHandled() noexcept { handled_ = true; }
  // Fails with the exception being handled, which a callback added at `where` has thrown.
  void catchFailure(const std::source_location& where) noexcept;

  // ---- links
  // In the arena while there is room, which starts anew when a run has left nothing in it; then on the heap.
  template <class N, class... A>
  N* make(A&&... args) {
    constexpr std::size_t size = (sizeof(N) + kArenaAlign - 1) & ~(kArenaAlign - 1);
    if constexpr (alignof(N) <= kArenaAlign) {
      std::byte* const at = free_;
      if (size <= static_cast<std::size_t>(arena_ + kArenaSize - at)) [[likely]] {
        free_ = at + size;
        return ::new (static_cast<void*>(at)) N(std::forward<A>(args)...);
      }
    }
    N* node = new N(std::forward<A>(args)...);
    ++outside_;
    return node;
  }
  // Gives {}, for a step to end with.
  template <class N>
  Jump dispose(N* node) noexcept {
    if (outside_ != 0) [[unlikely]] {
      return disposeOutside(node);
    }
    node->~N();
    return {};
  }
  // Of a node that was made outside any chain's memory.
  template <class N>
  static void destroy(N& node) noexcept {
    node.~N();
  }
  void append(Node& node) noexcept {
    checkThread();
    node.next = nullptr;
    if (head_) {
      last_->next = &node;
    } else {
      head_ = &node;
    }
    last_ = &node;
  }
  void prepend(Node& node) noexcept {
    node.next = head_;
    if (!head_) last_ = &node;
    head_ = &node;
  }

  // ---- firing and running
  bool called() const noexcept { return called_; }
  bool running() const noexcept { return running_; }
  bool paused() const noexcept { return paused_ != 0; }
  // Has a result, and nothing is under way: what is added now can run at once, on the stack.
  bool idle() const noexcept { return called_ && !paused_ && !head_ && !running_; }
  void setRunning(bool running) noexcept { running_ = running; }

  // True if the producer may fire now; false if this firing is the one to swallow after a cancel; else throws.
  bool mayFire() {
    checkThread();
    if (!called_) [[likely]] {
      return true;
    }
    refuseFire();
    return false;
  }
  // Marks the chain, which has its result, as fired. Needs a firer, where there may be a canceller.
  void markFired() noexcept {
    called_ = true;
    if (canceller_) [[unlikely]] {
      beginFiring();
      endFiring();
    }
  }
  // The same around what brings the result: what users' destructors add meanwhile waits as if links ran already.
  void beginFiring() noexcept { called_ = running_ = true; }
  void endFiring() noexcept {
    canceller_.reset();
    running_ = false;
  }
  void fire() noexcept {
    called_ = true;
    if (canceller_) [[unlikely]] {
      fireWithCanceller();
    } else {
      run();
    }
  }
  // For what users call in callbacks that run because they have called it: beyond a certain depth the links run when
  // the innermost of these calls ends, and so any number of them is no recursion.
  void fireNested() noexcept;
  // For a step: has the run loop run this chain, which has just fired or got links, before the step's chain goes on.
  Jump call() noexcept {
    addFirer();
    return {this, true};
  }
  // Fails with BrokenDeferred if nobody is left who could ever fire it.
  void breakIfHopeless() noexcept;

  // Runs what can run, if it has fired. Iterative: chains that become runnable meanwhile run on a stack in the heap.
  void run() noexcept {
    if (called_ && !running_ && !paused_) runLinks();
  }
  // Twisted's cancel(). Throws what a canceller throws, which leaves the chain as it was; see Cancellation.
  void cancel();
  // What a canceller throws is reported, and the chain fails all the same.
  void cancelForSure() noexcept;
  void pause() noexcept { ++paused_; }
  void endPause() noexcept { --paused_; }
  void unpause() noexcept {
    if (--paused_ == 0) run();
  }
  // The same for users, who must not end a pause that is not theirs: it keeps the types of the links right.
  void pauseByUser() noexcept {
    ++pausedByUser_;
    pause();
  }
  bool unpauseByUser() noexcept {
    if (pausedByUser_ == 0) return false;
    --pausedByUser_;
    unpause();
    return true;
  }

  // ---- waiting for another chain
  Chain* waitsFor() const noexcept { return waitsFor_; }
  // Throws std::logic_error if `inner` waits for this chain, directly or not: both would wait for ever.
  void refuseCycle(Chain& inner) {
    if (waitedFor_) [[unlikely]] {
      findCycle(inner);
    }
  }
  void setWaitedFor() noexcept { waitedFor_ = true; }
  // Owns `inner` only while somebody could use that: while this chain itself is owned.
  void waitFor(Chain& inner) noexcept;
  void stopWaiting() noexcept;
  // Adds a link that fires `target`, a firer reference to it, with this chain's result, and leaves nothing here.
  void chainTo(Chain& target, const std::source_location& where);
  // For a step that got `inner` from its callable: takes its result if it has one, else waits until it has. Throws
  // std::logic_error if that would be for ever.
  void takeResultOf(Owner inner);
  // Keeps a step whose callable has returned a Deferred until that has fired: the callable may be a lambda coroutine.
  void park(Node& node) noexcept { parked_ = &node; }
  void unpark() noexcept {
    if (Node* node = std::exchange(parked_, nullptr)) node->drop(*this);
  }

  // ---- set up
  using Canceller = UniqueFunction<bool(Chain&)>;  // true: the cancel is pending
  void setCanceller(Canceller canceller) noexcept {
    if (!called_) canceller_ = std::move(canceller);
  }
  void setKeeper(Keeper* keeper) noexcept { keeper_ = keeper; }
  void setCoroutine(Coroutine* coroutine) noexcept { coroutine_ = coroutine; }
  Coroutine* coroutine() const noexcept { return coroutine_; }
  Keeper* keeper() const noexcept { return keeper_; }
  const std::type_info& headType() const noexcept { return *headType_; }
  const std::source_location& made() const noexcept { return made_; }

  void checkThread() const noexcept {
#ifndef NDEBUG
    if (thread_ && thread_ != currentThread()) wrongThread();
#endif
  }

 private:
  ~Chain() = default;

  // Others are boxed.
  template <class V>
  static constexpr bool fitsSlot() {
    return sizeof(V) <= kSlotSize && alignof(V) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<V>;
  }
  template <class V>
  static constexpr bool fitsHalf() {
    return fitsSlot<V>() && sizeof(V) <= kSlotSize / 2;
  }
  // Copied as its bytes are, and always at the slot's beginning.
  template <class V>
  static constexpr bool isPlain() {
    return fitsSlot<V>() && std::is_trivially_copyable_v<V>;
  }
  template <class V>
  static void destroyValue(void* slot) noexcept {
    if constexpr (fitsSlot<V>()) {
      std::launder(static_cast<V*>(slot))->~V();
    } else {
      delete *std::launder(static_cast<V**>(slot));
    }
  }
  template <class V>
  static void relocateValue(void* from, void* to) noexcept {
    V* old = std::launder(static_cast<V*>(from));
    ::new (to) V(std::move(*old));
    old->~V();
  }
  template <class V>
  static constexpr ValueOps makeValueOps() {
    if constexpr (!fitsSlot<V>()) {
      return {&destroyValue<V>, nullptr};
    } else {
      return {std::is_trivially_destructible_v<V> ? nullptr : &destroyValue<V>,
              std::is_trivially_copyable_v<V> ? nullptr : &relocateValue<V>};
    }
  }
  template <class V>
  static constexpr ValueOps kValueOps = makeValueOps<V>();
  void clear() noexcept {
    if (state_ == State::value) {
      if (ops_->destroy) ops_->destroy(value_);
      value_ = slot_;
    } else if (state_ == State::failed) {
      failure().~Failure();
    }
    state_ = State::empty;
  }
  template <class N>
  [[gnu::noinline]] Jump disposeOutside(N* node) noexcept {
    const void* at = node;
    if (std::less_equal<>()(arena_, at) && std::less<>()(at, arena_ + kArenaSize)) {
      node->~N();
    } else {
      --outside_;
      delete node;
    }
    return {};
  }
  Node* unlinkFirst() noexcept {
    Node* node = head_;
    head_ = node->next;
    return node;
  }
  void runLinks() noexcept;
  // Runs links until one asks for a Jump, which leaves the chain running, or none may run now.
  Jump runToJump() noexcept;
  void runJump(Jump jump) noexcept;
  void runEnded() noexcept;
  friend class Cancellation;
  void refuseFire();
  void fireWithCanceller() noexcept;
  void findCycle(Chain& inner);
  Jump cancelCoroutine(bool sure);
  void reportIfUnhandled() noexcept;
  // Has a value or nothing: there is nobody to tell when it ends.
  bool bare() const noexcept {
    return state_ != State::failed && !head_ && !parked_ && !waitsFor_ && !keeper_ && !canceller_ && watchers_ == 0;
  }
  void lastOwnerGone() noexcept;
  void lastFirerGone() noexcept;
  void lastHoldGone() noexcept;
  void die() noexcept;
  void dieBare() noexcept;
  static void endDying() noexcept;
  void end() noexcept;
  void endResult() noexcept;
  static const void* currentThread() noexcept;
  [[noreturn]] static void wrongThread() noexcept;

  std::uint32_t owners_ = 0;
  std::uint32_t firers_ = 0;
  std::uint32_t watchers_ = 0;
  std::uint32_t holds_ = 0;
  std::int32_t paused_ = 0;
  std::uint32_t pausedByUser_ = 0;
  State state_ = State::empty;
  bool called_ = false;
  bool running_ = false;
  bool swallowNext_ = false;  // cancelled without a canceller: the producer's one late result is dropped
  bool cancelPending_ = false;
  bool handled_ = false;
  bool dead_ = false;
  bool unclaimed_ = false;
  bool ownsWaitedFor_ = false;
  bool waitedFor_ = false;  // a chain waits for this one, or has done so
  bool firesItself_ = false;
  bool handedOn_ = false;      // its result, to another chain
  std::uint32_t outside_ = 0;  // links on the heap
  Node* head_ = nullptr;
  Node* last_;  // while there is a first one
  std::byte* free_ = arena_;
  Node* parked_ = nullptr;
  Chain* waitsFor_ = nullptr;
  Keeper* keeper_ = nullptr;
  Coroutine* coroutine_ = nullptr;
  Chain* nextDead_;
  std::byte* value_ = slot_;  // where in the slot the value begins; see replaceValue
  const ValueOps* ops_;       // the value's
  Canceller canceller_;
  const std::type_info* headType_;
  std::source_location made_;
  const void* thread_ = nullptr;
  alignas(std::max_align_t) std::byte slot_[kSlotSize];
  alignas(std::max_align_t) std::byte arena_[kArenaSize];
};
static_assert(sizeof(Chain) <= 768);

// A cancel() under way. It goes through chains, lists and coroutines, nested however deep, without recursion and in the
// order that recursion would have.
class Cancellation {
 public:
  // sure: what a canceller throws is reported, and its chain fails all the same.
  explicit Cancellation(Chain& chain, bool sure = false) noexcept : next_(&chain), sure_(sure) {}
  // Of all that `keeper` keeps.
  explicit Cancellation(Keeper& keeper) { enter(keeper); }
  Cancellation(Cancellation&&) = delete;
  ~Cancellation();

  // Goes on, until it gives a chain that is to be run before the rest, or nothing when it is done. Throws what the
  // canceller of the chain itself throws; what those of a list's inputs throw is reported.
  Jump next();

 private:
  struct Level {
    Keeper* keeper;
    std::size_t index;
  };
  Jump cancel(Chain& chain);
  void enter(Keeper& keeper) {
    if (keeper.beginCancel()) levels_.push_back({&keeper, 0});
  }
  Chain* next_ = nullptr;
  std::vector<Level> levels_;
  bool sure_ = false;
};

// A counted owner of a chain: what a Deferred holds.
class Owner {
 public:
  Owner() noexcept = default;
  explicit Owner(Chain& chain) noexcept : chain_(&chain) { chain.addOwner(); }
  Owner(Owner&& other) noexcept : chain_(std::exchange(other.chain_, nullptr)) {}
  Owner& operator=(Owner&& other) noexcept {
    Owner old(std::move(*this));
    chain_ = std::exchange(other.chain_, nullptr);
    return *this;
  }
  ~Owner() {
    if (chain_) {
      chain_->checkThread();
      chain_->dropOwner();
    }
  }
  explicit operator bool() const noexcept { return chain_ != nullptr; }
  Chain* get() const noexcept { return chain_; }
  Chain* operator->() const noexcept { return chain_; }
  Chain& operator*() const noexcept { return *chain_; }

 private:
  Chain* chain_ = nullptr;
};

// Around what looks at the result of a chain that is idle: links that are added meanwhile run when it is over.
class Busy {
 public:
  explicit Busy(Chain& chain) noexcept : chain_(chain) {
    chain_.addFirer();
    chain_.setRunning(true);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() {
    chain_.setRunning(false);
    chain_.run();
    chain_.dropFirer();
  }

 private:
  Chain& chain_;
};

// Keeps a chain's result for one that refers to the chain in Twisted and has no use for it any more: a list that has
// fired holds its inputs, so that their failures are not reported before the list goes.
class Hold {
 public:
  Hold() noexcept = default;
  explicit Hold(Chain& chain) noexcept : chain_(&chain) { chain.addHold(); }
  Hold(Hold&& other) noexcept : chain_(std::exchange(other.chain_, nullptr)) {}
  Hold& operator=(Hold other) noexcept {
    std::swap(chain_, other.chain_);
    return *this;
  }
  ~Hold() {
    if (chain_) chain_->dropHold();
  }

 private:
  Chain* chain_ = nullptr;
};

// Twisted says nothing where this library fails a Deferred with BrokenDeferred. Tests that compare the two turn it off.
void setBrokenDeferreds(bool on) noexcept;

}  // namespace torsion::detail
