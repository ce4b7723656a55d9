#include <deferred/detail/join.hpp>

#include <memory>
#include <utility>

namespace torsion::detail {

// In an input's chain: tells the join, and leaves the input's result as it is.
class Join::Link final : public Node {
 public:
  Link(Join& join, std::size_t index, const std::source_location& where) noexcept
      : Node(where), join_(join), index_(index) {
    join_.ref();
  }
  Jump step(Chain& input) noexcept override {
    Join& join = join_;
    if (!others_) {
      if (!join.recorded(index_, input)) {
        input.dispose(this);
        join.inputEnded();
        return {};
      }
      if (join.kind_ == Kind::race && !input.failed()) others_ = std::make_unique<Cancellation>(join);
    }
    if (others_) {
      if (Jump jump = others_->next()) {
        input.prepend(*this);
        return jump;
      }
    }
    input.dispose(this);
    Jump jump = join.fire();
    join.inputEnded();
    return jump;
  }
  void drop(Chain& input) noexcept override {
    Join& join = join_;
    input.dispose(this);
    join.inputEnded();
  }

 private:
  ~Link() = default;
  friend Chain;
  Join& join_;
  std::size_t index_;
  std::unique_ptr<Cancellation> others_;  // of the losers of a race that this one has won
};

Join::Join(Chain& out, Kind kind, bool consumeErrors) noexcept
    : out_(&out), kind_(kind), consumeErrors_(consumeErrors) {
  out.addFirer();
  out.setKeeper(this);
}

void Join::unref() noexcept {
  if (--refs_ != 0) return;
  // What the results' destructors do must not find it any more.
  Chain* unfired = fired_ ? nullptr : out_;
  if (unfired) unfired->setKeeper(nullptr);
  delete this;
  if (unfired) unfired->dropFirer();
}

void Join::watch(std::vector<Owner> inputs, const std::source_location& where) {
  inputs_.reserve(inputs.size());
  pending_ = inputs.size();
  for (Owner& input : inputs) {
    Chain* const chain = input.get();
    inputs_.push_back({std::move(input), Hold(), chain});
  }
  ++busy_;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    Chain& chain = *inputs_[i].chain;
    chain.setWaitedFor();
    chain.breakIfHopeless();
    chain.append(*chain.make<Link>(*this, i, where));
    chain.run();
  }
  done();
  if (inputs_.empty()) {
    // out_ has fired or never will; it keeps this join nevertheless, with whose cancel() nobody is cancelled.
    fired_ = true;
    out_->dropFirer();
  } else {
    unref();
  }
}

bool Join::recorded(std::size_t index, Chain& input) noexcept {
  bool fires = false;
  try {
    if (fired_) {
      // What the others end with changes nothing.
    } else if (decides(input)) {
      fires = fired_ = true;
      decide(index, input);
    } else {
      record(index, input);
      if (++recorded_ == inputs_.size() && !fired_) {
        fires = fired_ = true;
        complete();
      }
    }
  } catch (...) {
    if (fires || !fired_) {
      fires = fired_ = true;
      out_->putFailure(Failure::current());
    }
  }
  if (consumeErrors_ && input.failed()) input.markTaken();
  return fires;
}

Jump Join::fire() noexcept {
  if (kind_ == Kind::race || !out_->owned()) disown();
  if (kind_ == Kind::race) {
    out_->setKeeper(nullptr);
  } else {
    ref();  // by out_, as its keeper
    if (pending_ > 1) {
      holdsOut_ = true;
      out_->addFirer();
    }
  }
  out_->markFired();
  return {out_, true};  // this join's firer goes along
}

void Join::inputEnded() noexcept {
  if (--pending_ == 0 && std::exchange(holdsOut_, false)) out_->dropFirer();
  unref();
}

Chain* Join::input(std::size_t index) const noexcept {
  return index < inputs_.size() ? inputs_[index].chain : nullptr;
}

bool Join::beginCancel() noexcept {
  // Those that a race has beaten are its own to cancel.
  if (fired_ && kind_ == Kind::list) return false;
  ref();
  ++busy_;
  return true;
}

void Join::endCancel() noexcept {
  done();
  unref();
}

void Join::ownersGone() noexcept {
  disowned_ = true;
  settle();
}

void Join::release() noexcept {
  released_ = true;
  settle();
}

void Join::settle() noexcept {
  static constinit thread_local Join* queue = nullptr;
  static constinit thread_local bool active = false;
  if (queued_) return;
  queued_ = true;
  ref();
  next_ = std::exchange(queue, this);
  if (active) return;
  active = true;
  while (queue) {
    Join& join = *std::exchange(queue, queue->next_);
    join.queued_ = false;
    if (join.disowned_) join.disown();
    if (std::exchange(join.released_, false)) join.unref();
    join.unref();
  }
  active = false;
}

void Join::disown() noexcept {
  disowned_ = true;
  if (busy_ != 0) return;
  // Unowned, they live as long as someone may fire them.
  for (Input& input : inputs_) {
    if (!input.owner) continue;
    input.hold = Hold(*input.chain);
    const Owner dropped = std::move(input.owner);
  }
}

void Join::done() noexcept {
  if (--busy_ == 0 && disowned_) disown();
}

}  // namespace torsion::detail
