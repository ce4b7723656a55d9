#include <deferred/detail/join.hpp>

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
    std::size_t index = index_;
    input.dispose(this);
    Jump jump = join.recordAndFire(index, input);
    join.inputEnded(index);
    join.unref();
    return jump;
  }
  void drop(Chain& input) noexcept override {
    Join& join = join_;
    std::size_t index = index_;
    input.dispose(this);
    join.inputEnded(index);
    join.unref();
  }

 private:
  ~Link() = default;
  friend Chain;
  Join& join_;
  std::size_t index_;
};

Join::Join(Chain& out, Kind kind, bool consumeErrors) noexcept
    : out_(&out), kind_(kind), consumeErrors_(consumeErrors) {
  out.addFirer();
  out.setKeeper(this);
}

Join::~Join() {
  if (fired_) return;
  out_->setKeeper(nullptr);
  out_->dropFirer();
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

Jump Join::recordAndFire(std::size_t index, Chain& input) noexcept {
  inputs_[index].pending = false;
  ++recorded_;
  bool fires = false;
  if (!fired_) {
    try {
      fires = record(index, input);
    } catch (...) {
      out_->putFailure(Failure::current());
      fires = true;
    }
  }
  if (consumeErrors_ && input.failed()) input.markTaken();
  if (!fires) return {};
  fired_ = true;
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

void Join::inputEnded(std::size_t index) noexcept {
  inputs_[index].pending = false;
  if (--pending_ == 0 && std::exchange(holdsOut_, false)) out_->dropFirer();
}

void Join::cancelInput(Input& input) noexcept {
  if (input.chain->dead()) return;
  try {
    input.chain->cancel();
  } catch (...) {
    reportUnhandled("Exception raised from user supplied canceller", Failure::current(), input.chain->made());
  }
}

void Join::cancel() noexcept {
  ref();
  ++busy_;
  for (Input& input : inputs_) cancelInput(input);
  done();
  unref();
}

void Join::cancelOthers(std::size_t index) noexcept {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (i != index && inputs_[i].pending) cancelInput(inputs_[i]);
  }
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
