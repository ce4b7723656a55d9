#include <reactor/detail/system_events.hpp>

#include <deferred/detail/take.hpp>
#include <reactor/detail/reactor_impl.hpp>

namespace torsion::detail {

bool ThreePhaseEvent::remove(TriggerID id) {
  for (auto& triggers : triggers_) {
    for (auto trigger = triggers.begin(); trigger != triggers.end(); ++trigger) {
      if (trigger->first != id) continue;
      static_cast<void>(takeAt(triggers, trigger));
      return true;
    }
  }
  return false;
}

void ThreePhaseEvent::fire(UniqueFunction<void()> first, UniqueFunction<void()> last) {
  first_ = std::move(first);
  last_ = std::move(last);
  auto waiting = std::make_shared<Waiting>();
  waiting->left = 1;  // this function
  waiting_ = waiting;
  auto oneIsDone = [this, weak = std::weak_ptr(waiting)] {
    auto waiting = weak.lock();
    if (waiting && --waiting->left == 0) goOn();
  };
  while (!triggers_[static_cast<int>(Phase::before)].empty()) {
    if (auto deferred = runFirst(Phase::before)) {
      ++waiting->left;
      // A Failure is passed on, to be reported as unhandled.
      waiting->deferreds.push_back(std::move(*deferred).addBoth([oneIsDone](Result<void> result) {
        oneIsDone();
        return result;
      }));
    }
  }
  oneIsDone();
}

std::optional<Deferred<void>> ThreePhaseEvent::runFirst(Phase phase) {
  auto& triggers = triggers_[static_cast<int>(phase)];
  Trigger trigger = takeFront(triggers).second;
  std::optional<Deferred<void>> returned;
  ReactorImpl::guarded("a trigger of a system event threw", [&] { returned = trigger(); });
  return returned;
}

void ThreePhaseEvent::goOn() {
  waiting_.reset();
  first_();
  while (!triggers_[static_cast<int>(Phase::during)].empty()) runFirst(Phase::during);
  last_();
  while (!triggers_[static_cast<int>(Phase::after)].empty()) runFirst(Phase::after);
}

}  // namespace torsion::detail
