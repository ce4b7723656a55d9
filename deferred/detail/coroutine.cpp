#include <deferred/detail/coroutine.hpp>

namespace torsion::detail {

bool AwaitNode::suspend(std::coroutine_handle<> handle, Chain& awaited) {
  handle_ = handle;
  coroutine_.out->waitFor(awaited);
  suspending_ = true;
  awaited.append(*this);
  awaited.run();
  suspending_ = false;
  return !stepped_;
}

Jump AwaitNode::step(Chain& awaited) noexcept {
  takeResult(awaited);
  coroutine_.out->stopWaiting();
  if (suspending_) {
    stepped_ = true;
    return {};
  }
  // Once resumed the coroutine may leave this awaiter, and this node with it.
  Coroutine& coroutine = coroutine_;
  coroutine.resumedByLoop = true;
  handle_.resume();
  if (!coroutine.done) return {};
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
  out.markFired();
  return {&out, true};  // the coroutine's firer goes along
}

void AwaitNode::drop(Chain&) noexcept {
  coroutine_.out->stopWaiting();
  coroutine_.destroy();
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
