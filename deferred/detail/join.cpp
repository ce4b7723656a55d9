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
    join.inputs_[index].chain = nullptr;
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

Join::Join(Chain& out, bool consumeErrors) noexcept : out_(&out), consumeErrors_(consumeErrors) {
  out.addFirer();
  out.setKeeper(this);
}

Join::~Join() {
  if (fired_) return;
  out_->setKeeper(nullptr);
  out_->dropFirer();
}

void Join::watch(std::vector<Owner> inputs, const std::source_location& where) {
  inputs_.resize(inputs.size());
  pending_ = inputs.size();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    inputs_[i].chain = inputs[i].get();
    inputs_[i].owner = std::move(inputs[i]);
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    Chain& chain = *inputs_[i].chain;
    chain.breakIfHopeless();
    chain.append(*chain.make<Link>(*this, i, where));
    chain.run();
  }
  if (inputs_.empty()) {
    // Nothing will ever fire out_, which keeps this join nevertheless: its cancel() has nobody to cancel.
    fired_ = true;
    out_->dropFirer();
  } else {
    watching_ = false;
    if (fired_) disownPending();
    unref();
  }
}

Jump Join::recordAndFire(std::size_t index, Chain& input) noexcept {
  inputs_[index].pending = false;
  ++recorded_;
  if (!inputs_[index].owner) {
    // Its failure is reported when the list goes. Nobody can cancel it through the list.
    if (input.failed()) inputs_[index].owner = Owner(input);
    inputs_[index].chain = nullptr;
  }
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
  ref();  // by out_, as its keeper
  if (!watching_) disownPending();
  if (pending_ > 1) {
    holdsOut_ = true;
    out_->addFirer();
  }
  out_->markFired();
  return {out_, true};  // this join's firer goes along
}

void Join::inputEnded(std::size_t index) noexcept {
  inputs_[index].pending = false;
  if (--pending_ == 0 && std::exchange(holdsOut_, false)) out_->dropFirer();
}

void Join::cancelInput(Input& input) noexcept {
  if (!input.chain) return;
  Owner chain(*input.chain);
  try {
    chain->cancel();
  } catch (...) {
    reportUnhandled("Exception raised from user supplied canceller", Failure::current(), chain->made());
  }
}

void Join::cancel() noexcept {
  ref();
  for (Input& input : inputs_) cancelInput(input);
  unref();
}

void Join::cancelOthers(std::size_t index) noexcept {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (i != index && inputs_[i].pending) cancelInput(inputs_[i]);
  }
}

void Join::ownersGone() noexcept {
  ref();
  disownPending();
  unref();
}

void Join::disownPending() noexcept {
  // They live as long as someone may fire them; their links unset the chain on its end.
  for (Input& input : inputs_) {
    if (input.pending) Owner(std::move(input.owner));
  }
}

}  // namespace torsion::detail
