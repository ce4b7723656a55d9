#include <deferred/detail/chain.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace torsion::detail {

namespace {

bool brokenDeferreds = true;

struct Frame {
  Chain* chain;
  bool call;  // left in the middle of a step, which goes on when what it called is done
};

// The chains below the one that runs; for Twisted that is Python's own stack, here memory alone bounds it. Has no
// destructor, since chains may run while a thread or the program ends.
class FrameStack {
 public:
  std::size_t size() const noexcept { return size_; }
  void push(Frame frame) {
    if (size_ == (many_ ? capacity_ : kFew)) grow();
    data()[size_++] = frame;
  }
  const Frame& top() noexcept { return data()[size_ - 1]; }
  void pop() noexcept {
    if (--size_ == 0 && many_) delete[] std::exchange(many_, nullptr);
  }

 private:
  static constexpr std::size_t kFew = 32;
  Frame* data() noexcept { return many_ ? many_ : few_; }
  void grow() {
    auto* more = new Frame[size_ * 2];
    std::memcpy(more, data(), size_ * sizeof(Frame));
    delete[] many_;
    many_ = more;
    capacity_ = size_ * 2;
  }
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  Frame* many_ = nullptr;
  Frame few_[kFew] = {};
};

constinit thread_local FrameStack frames;

// Chains that die because another one does wait here for their turn, so that any number of them is no recursion.
struct Dying {
  Chain* first;
  bool active;
};
constinit thread_local Dying dying = {};

#if defined(__SANITIZE_ADDRESS__)  // GCC's
constexpr bool kAddressSanitizer = true;
#elif !defined(__clang__)
constexpr bool kAddressSanitizer = false;
#elif __has_feature(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

// Memory of chains that have ended, for those to come: malloc would take half the time of a short one. None where
// AddressSanitizer is to see a chain that is used after its end. Outlives the thread's other objects, which may hold
// chains; its owner empties and closes it.
struct Spares {
  static constexpr unsigned kMost = 16;
  void* chains[kMost];
  unsigned count;
  unsigned limit;
};
constinit thread_local Spares spares = {};

struct SparesOwner {
  SparesOwner() noexcept { spares.limit = kAddressSanitizer ? 0 : Spares::kMost; }
  ~SparesOwner() {
    spares.limit = 0;
    while (spares.count != 0) ::operator delete(spares.chains[--spares.count], sizeof(Chain));
  }
};

// In the chain waited for: hands its result on to the one that waits.
class ContinueNode final : public Node {
 public:
  explicit ContinueNode(Chain& outer) noexcept : Node({}), outer_(outer) { outer_.addFirer(); }
  Jump step(Chain& inner) noexcept override {
    Chain& outer = outer_;
    inner.dispose(this);
    inner.moveResultTo(outer);
    outer.stopWaiting();
    outer.unpark();
    outer.endPause();
    return {&outer, false};  // this node's firer goes along
  }
  void drop(Chain& inner) noexcept override {
    Chain& outer = outer_;
    inner.dispose(this);
    outer.stopWaiting();
    outer.unpark();
    if (brokenDeferreds) {
      outer.putFailure(BrokenDeferred("the Deferred that a callback returned went away without being fired"));
      outer.unpause();
    }
    outer.dropFirer();
  }

 private:
  ~ContinueNode() = default;
  friend Chain;
  Chain& outer_;
};

// chainDeferred: fires another chain with this one's result.
class FireNode final : public Node {
 public:
  FireNode(Chain& target, const std::source_location& where) noexcept : Node(where), target_(target) {}
  Jump step(Chain& chain) noexcept override {
    Chain& target = target_;
    const std::source_location here = where;
    chain.dispose(this);
    try {
      if (target.mayFire()) {
        target.beginFiring();
        chain.moveResultTo(target);
        target.endFiring();
        return {&target, true};  // this node's firer goes along
      }
      chain.markTaken();
    } catch (...) {
      chain.catchFailure(here);
    }
    letGo(chain, target);
    return {};
  }
  void drop(Chain& chain) noexcept override {
    Chain& target = target_;
    chain.dispose(this);
    letGo(chain, target);
  }

 private:
  static void letGo(Chain& chain, Chain& target) noexcept {
    if (&target != &chain) target.dropFirer();
  }
  ~FireNode() = default;
  friend Chain;
  Chain& target_;
};

// In the chain of a coroutine that is being cancelled, before all other links: cancels what the coroutine waits for,
// and then has the chain wait for what the coroutine makes of that. Twisted's handleCancel in
// _cancellableInlineCallbacks.
class CancelNode final : public Node {
 public:
  explicit CancelNode(bool sure) noexcept : Node({}), sure_(sure) {}
  Jump step(Chain& chain) noexcept override {
    if (!successor_) {
      chain.markTaken();
      successor_ = Owner(*new Chain(chain.headType(), chain.made()));
      handOver(chain);
    }
    if (cancellation_) {
      try {
        if (Jump jump = cancellation_->next()) {
          chain.prepend(*this);
          return jump;
        }
      } catch (...) {
        chain.putFailure(Failure::current());
        return chain.dispose(this);
      }
    }
    Owner successor = std::move(successor_);
    chain.dispose(this);
    try {
      chain.takeResultOf(std::move(successor));
    } catch (...) {
      chain.putFailure(Failure::current());
    }
    return {};
  }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

 private:
  ~CancelNode() = default;
  friend Chain;
  // What the coroutine ends with is the successor's from now on.
  void handOver(Chain& chain) {
    Coroutine* coroutine = chain.coroutine();
    if (!coroutine) {
      // It has ended meanwhile, while the chain was paused: nothing will fire the successor, and no cancel either.
      successor_->setCanceller([](Chain&) { return true; });
      return;
    }
    Chain* awaited = chain.waitsFor();
    chain.setCoroutine(nullptr);
    successor_->setCoroutine(coroutine);
    successor_->addFirer();
    coroutine->out = successor_.get();
    if (awaited) {
      successor_->waitFor(*awaited);
      cancellation_.emplace(*awaited, sure_);
      chain.stopWaiting();
    }
    chain.dropFirer();
  }
  Owner successor_;
  std::optional<Cancellation> cancellation_;
  bool sure_;
};

// The calls of fireNested() under way in this thread, and the chains that wait for the innermost of them.
struct Nested {
  // As deep as Python can nest them, roughly.
  static constexpr unsigned kMost = 32;
  unsigned depth;
  Chain* first;
  Chain** last;
};
constinit thread_local Nested nested = {};

// Looks for `wanted` among what `from` waits for, directly or not, and gives the way there.
class WaySearch {
 public:
  WaySearch(Chain& from, Chain& wanted) noexcept : wanted_(wanted) { way_.push_back({&from, 0}); }
  bool found() {
    // A bound, since those who wait for one Deferred by reference may wait for each other in exponentially many ways.
    for (int steps = 1'000'000; steps != 0 && !way_.empty(); --steps) {
      if (way_.back().chain == &wanted_) return true;
      if (Chain* next = nextOf(way_.back())) {
        way_.push_back({next, 0});
      } else {
        way_.pop_back();
      }
    }
    return false;
  }
  std::string text() const {
    std::string text;
    for (const Place& place : way_) {
      const std::source_location& made = place.chain->made();
      text += (text.empty() ? "" : ", ") + std::string(made.file_name()) + ":" + std::to_string(made.line());
    }
    return text;
  }

 private:
  struct Place {
    Chain* chain;
    std::size_t index;  // of the next way on
  };
  static Chain* nextOf(Place& place) noexcept {
    Chain& chain = *place.chain;
    if (place.index == 0) {
      ++place.index;
      if (chain.waitsFor()) return chain.waitsFor();
    }
    if (!chain.keeper() || chain.called()) return nullptr;
    return chain.keeper()->input(place.index++ - 1);
  }
  Chain& wanted_;
  std::vector<Place> way_;
};

}  // namespace

void* Chain::operator new(std::size_t size) {
  return spares.count != 0 ? spares.chains[--spares.count] : ::operator new(size);
}

void Chain::operator delete(void* chain) noexcept {
  if (spares.count >= spares.limit) {
    static thread_local SparesOwner owner;  // opens them, the first time
    if (spares.count >= spares.limit) {
      ::operator delete(chain, sizeof(Chain));
      return;
    }
  }
  spares.chains[spares.count++] = chain;
}

void setBrokenDeferreds(bool on) noexcept {
  brokenDeferreds = on;
}

const void* Chain::currentThread() noexcept {
  static thread_local char tag;
  return &tag;
}

void Chain::wrongThread() noexcept {
  std::fputs("torsion: a Deferred or Resolver was used outside its thread; pass values, and use callFromThread\n",
             stderr);
  std::abort();
}

void Chain::moveResultTo(Chain& other) noexcept {
  if (state_ == State::failed) {
    other.putFailure(takeFailure());
    return;
  }
  other.clear();
  if (state_ == State::value) {
    if (ops_->relocate) {
      ops_->relocate(value_, other.slot_);
    } else {
      std::memcpy(other.slot_, value_, static_cast<std::size_t>(slot_ + kSlotSize - value_));
    }
    value_ = slot_;
    other.ops_ = ops_;
  }
  other.state_ = state_;
  state_ = State::taken;
  handedOn_ = true;
}

void Chain::refuseFire() {
  if (swallowNext_) {
    swallowNext_ = false;
    return;
  }
  throw AlreadyCalledError(std::string("this Deferred has been fired or cancelled already; it was made at ") +
                           made_.file_name() + ":" + std::to_string(made_.line()));
}

void Chain::fireWithCanceller() noexcept {
  addFirer();  // what the canceller holds may be the last one
  markFired();
  run();
  dropFirer();
}

void Chain::fireNested() noexcept {
  addFirer();
  if (nested.depth == Nested::kMost) {
    markFired();
    nextDead_ = nullptr;
    *(nested.first ? nested.last : &nested.first) = this;
    nested.last = &nextDead_;
    return;
  }
  ++nested.depth;
  fire();
  dropFirer();
  while (nested.first && nested.depth == Nested::kMost) {
    Chain* chain = std::exchange(nested.first, nested.first->nextDead_);
    chain->run();
    chain->dropFirer();
  }
  --nested.depth;
}

void Chain::catchFailure(const std::source_location& where) noexcept {
  putFailure(Failure::current());
  failure().addToTrail(where);
}

void Chain::breakIfHopeless() noexcept {
  if (!called_ && firers_ == 0 && brokenDeferreds) {
    putFailure(BrokenDeferred("nobody is left who could fire this Deferred"));
    fire();
  }
}

void Chain::runLinks() noexcept {
  // Twisted's Deferred._runCallbacks. One difference: a chain that one of its own callbacks pauses stops there.
  addFirer();
  if (Jump jump = runToJump()) {
    runJump(jump);
  } else {
    runEnded();
    dropFirer();
  }
}

Jump Chain::runToJump() noexcept {
  running_ = true;
  while (head_ && !paused_) {
    if (Jump jump = unlinkFirst()->step(*this)) return jump;
  }
  running_ = false;
  return {};
}

void Chain::runEnded() noexcept {
  // Links are in the list, running, or parked: now nothing lives in the arena.
  if (!head_ && !parked_) free_ = arena_;
  if (failed()) {
    handled_ = false;  // one that someone has seen and links have passed on is unhandled again
    reportIfUnhandled();
  }
}

void Chain::runJump(Jump jump) noexcept {
  const std::size_t base = frames.size();  // where this run's frames begin
  Chain* current = this;
  // Gives up the chains that have handed their results up to a chain that turns out to be paused, as Twisted does.
  auto abandon = [&] {
    while (frames.size() > base && !frames.top().call) {
      Chain* below = frames.top().chain;
      frames.pop();
      below->dropFirer();
    }
  };
  for (;;) {
    if (jump) {
      Chain& target = jump.chain();
      if (jump.call() && (!target.called_ || target.running_ || target.paused_)) {
        target.dropFirer();
        jump = current->runToJump();
        continue;
      }
      // A step that waits may get its result before it is over, by what a destructor does: its own run goes on then.
      const bool runs = target.running_;
      if (!jump.call()) current->running_ = false;
      frames.push({current, jump.call()});
      current = &target;
      if (!current->paused_ && !runs) {
        jump = current->runToJump();
        continue;
      }
      abandon();
    } else {
      current->runEnded();
    }
    for (;;) {
      current->dropFirer();
      if (frames.size() == base) return;
      Frame below = frames.top();
      frames.pop();
      current = below.chain;
      if (below.call) {
        current->running_ = false;
        break;
      }
      if (!current->paused_) break;
      abandon();
    }
    jump = current->runToJump();
  }
}

void Chain::reportIfUnhandled() noexcept {
  if (state_ == State::failed && owners_ == 0 && holds_ == 0 && !unclaimed_ && !handled_ && !head_ && !paused_ &&
      !(keeper_ && keeper_->owns())) {
    handled_ = true;
    reportUnhandled("Unhandled error in Deferred", failure(), made_);
  }
}

void Chain::cancel() {
  checkThread();
  Cancellation cancellation(*this);
  while (Jump jump = cancellation.next()) {
    jump.chain().run();
    jump.chain().dropFirer();
  }
}

void Chain::cancelForSure() noexcept {
  Cancellation cancellation(*this, true);
  while (Jump jump = cancellation.next()) {
    jump.chain().run();
    jump.chain().dropFirer();
  }
}

Cancellation::~Cancellation() {
  for (const Level& level : levels_) level.keeper->endCancel();
}

Jump Cancellation::next() {
  for (;;) {
    if (Chain* chain = std::exchange(next_, nullptr)) {
      try {
        if (Jump jump = cancel(*chain)) return jump;
      } catch (...) {
        if (levels_.empty()) throw;
        reportUnhandled("Exception raised from user supplied canceller", Failure::current(), chain->made());
      }
    } else if (levels_.empty()) {
      return {};
    } else if (Chain* input = levels_.back().keeper->input(levels_.back().index++)) {
      if (!input->dead()) next_ = input;
    } else {
      Keeper* done = levels_.back().keeper;
      levels_.pop_back();
      done->endCancel();
    }
  }
}

Jump Cancellation::cancel(Chain& asked) {
  Chain* chain = &asked;
  while (chain->called_) {
    // As in Twisted, a list that has fired passes no cancel on.
    // What a coroutine waits for is not the chain's own until its earlier cancel, held up by a pause, has run.
    if (!chain->waitsFor_ || chain->keeper_ || chain->coroutine_) return {};
    chain = chain->waitsFor_;
  }
  if (chain->coroutine_) return chain->cancelCoroutine(sure_);
  if (chain->keeper_) {
    enter(*chain->keeper_);
    return {};
  }
  if (chain->cancelPending_) return {};
  struct Firer {
    explicit Firer(Chain& chain) noexcept : chain(chain) { chain.addFirer(); }
    ~Firer() { chain.dropFirer(); }
    Chain& chain;
  } firer{*chain};
  if (chain->canceller_) {
    Chain::Canceller canceller = std::move(chain->canceller_);
    try {
      chain->cancelPending_ = canceller(*chain);
    } catch (...) {
      if (!sure_) {
        if (!chain->called_ && !chain->canceller_) chain->canceller_ = std::move(canceller);
        throw;
      }
      reportUnhandled("Exception raised from user supplied canceller", Failure::current(), chain->made_);
      chain->swallowNext_ = !chain->called_;  // the producer knows nothing of its end
    }
    if (chain->cancelPending_) return {};
  } else {
    chain->swallowNext_ = true;
  }
  if (chain->called_) return {};
  chain->putFailure(CancelledError());
  chain->markFired();
  return chain->call();
}

Jump Chain::cancelCoroutine(bool sure) {
  prepend(*make<CancelNode>(sure));
  putFailure(CancelledError());
  markFired();
  return call();
}

void Chain::findCycle(Chain& inner) {
  if (WaySearch search(inner, *this); search.found()) {
    throw std::logic_error("these would wait for each other for ever: the Deferreds made at " + search.text());
  }
}

void Chain::waitFor(Chain& inner) noexcept {
  inner.waitedFor_ = true;
  waitsFor_ = &inner;
  ownsWaitedFor_ = owners_ != 0;
  if (ownsWaitedFor_) inner.addOwner();
}

void Chain::stopWaiting() noexcept {
  Chain* inner = std::exchange(waitsFor_, nullptr);
  if (std::exchange(ownsWaitedFor_, false)) inner->dropOwner();
}

void Chain::takeResultOf(Owner inner) {
  if (inner.get() == this) throw std::logic_error("a callback returned the Deferred that it is a callback of");
  inner->breakIfHopeless();
  // One whose result went to another chain before has nothing left to wait for (as in Twisted).
  const bool nothingLeft = inner->handedOn_ && inner->state_ == State::taken;
  if (inner->idle() || (nothingLeft && inner->called_ && !inner->paused_ && !inner->running_)) {
    inner->moveResultTo(*this);
    return;
  }
  refuseCycle(*inner);
  inner->append(*inner->make<ContinueNode>(*this));
  waitFor(*inner);
  pause();
}

void Chain::chainTo(Chain& target, const std::source_location& where) {
  append(*make<FireNode>(target, where));
  if (&target == this) dropFirer();  // it would keep itself
  run();
}

// What die() does, for a chain that nobody knows any more and that has at most a value.
inline void Chain::dieBare() noexcept {
  if (state_ != State::value || !ops_->destroy) {
    delete this;
  } else if (dying.active) {
    die();
  } else {
    dying.active = true;
    ops_->destroy(value_);
    delete this;
    endDying();
  }
}

void Chain::lastOwnerGone() noexcept {
  if (firers_ == 0 && bare()) [[likely]] {
    dieBare();
    return;
  }
  // Nobody is left to cancel this chain, so it needs to own what it waits for no longer: that lives as long as someone
  // may fire it. A loop, since a million may wait in a row.
  Chain* chain = this;
  for (;;) {
    chain->addWatcher();
    if (chain->called_ && !chain->running_) chain->reportIfUnhandled();
    if (chain->keeper_) chain->keeper_->ownersGone();
    Chain* inner = std::exchange(chain->ownsWaitedFor_, false) ? chain->waitsFor_ : nullptr;
    if (chain->firers_ == 0) chain->die();
    chain->dropWatcher();
    if (!inner || --inner->owners_ != 0) return;
    chain = inner;
  }
}

void Chain::lastFirerGone() noexcept {
  // Where nobody waits and no callback was added, nobody needs to be told.
  if (!called_ && brokenDeferreds && (owners_ != 0 || head_)) {
    firers_ = 1;
    putFailure(BrokenDeferred());
    fireNested();
    if (--firers_ != 0) return;
  }
  if (owners_ == 0) die();
}

void Chain::lastHoldGone() noexcept {
  if (dead_) {
    endResult();
  } else if (called_ && !running_) {
    reportIfUnhandled();
  }
  dropWatcher();  // addHold's
}

inline void Chain::end() noexcept {
  if (holds_ == 0) endResult();
  unpark();
  while (head_) unlinkFirst()->drop(*this);
  canceller_.reset();
}

void Chain::endResult() noexcept {
  if (state_ == State::failed && !handled_) reportUnhandled("Unhandled error in Deferred", failure(), made_);
  markTaken();
  if (Keeper* keeper = std::exchange(keeper_, nullptr)) keeper->release();
}

void Chain::die() noexcept {
  if (dead_) return;
  dead_ = true;
  addWatcher();
  nextDead_ = dying.first;
  dying.first = this;
  if (!dying.active) {
    dying.active = true;
    endDying();
  }
}

void Chain::endDying() noexcept {
  while (Chain* chain = dying.first) {
    dying.first = chain->nextDead_;
    chain->end();
    chain->dropWatcher();
  }
  dying.active = false;
}

}  // namespace torsion::detail
