#include <deferred/detail/coroutine.hpp>

#include <stdexcept>

namespace torsion::detail {

bool AwaitNode::suspend(std::coroutine_handle<> handle, Owner& awaited) {
  Chain& out = *coroutine_.out;
  if (awaited.get() == &out) throw std::logic_error("a coroutine awaits its own Deferred");
  out.refuseCycle(*awaited);
  handle_ = handle;
  out.waitFor(*awaited);
  suspending_ = true;
  awaited->append(*this);
  awaited->run();
  // From here on the coroutine's own chain owns what it waits for, as long as anybody can cancel it. If nobody can, it
  // may end with this, and drop the coroutine.
  awaited = Owner();
  suspending_ = false;
  if (coroutine_.phase == Coroutine::Phase::first && !stepped_) coroutine_.phase = Coroutine::Phase::waiting;
  return !stepped_;
}

Jump AwaitNode::step(Chain& awaited) noexcept {
  using Phase = Coroutine::Phase;
  takeResult(awaited);
  coroutine_.out->stopWaiting();
  if (suspending_) {
    stepped_ = true;
    return {};
  }
  // Once resumed the coroutine may leave this awaiter, and this node with it.
  Coroutine& coroutine = coroutine_;
  coroutine.phase = Phase::resumed;
  handle_.resume();
  if (coroutine.phase == Phase::resumed) {
    coroutine.phase = Phase::waiting;
    return {};
  }
  if (coroutine.phase == Phase::dropped) {
    coroutine.destroy();
    return {};
  }
  Chain& out = *std::exchange(coroutine.out, nullptr);
  if (out.coroutine() == &coroutine) out.setCoroutine(nullptr);
  if (out.called()) {
    // Cancelled while paused: the cancel has taken this coroutine's place. Twisted tells the awaited Deferred.
    coroutine.destroy();
    awaited.putFailure(AlreadyCalledError("a coroutine ended after its Deferred had been cancelled"));
    out.dropFirer();
    return {};
  }
  coroutine.finish(out);
  return {&out, true};  // the coroutine's firer goes along
}

void AwaitNode::drop(Chain&) noexcept {
  coroutine_.out->stopWaiting();
  if (coroutine_.phase == Coroutine::Phase::resumed) {
    coroutine_.phase = Coroutine::Phase::dropped;
  } else {
    coroutine_.destroy();
  }
}

void Coroutine::caught(const Failure& failure, const std::source_location& where) {
  lastFailure.emplace(failure);
  lastFailure->addToTrail(where);
}

Failure Coroutine::endFailure(const std::source_location& made) noexcept {
  Failure failure = currentFailure(lastFailure ? &*lastFailure : nullptr);
  if (!lastFailure || failure.value() != lastFailure->value()) failure.addToTrail(made);
  return failure;
}

}  // namespace torsion::detail
