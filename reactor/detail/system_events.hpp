// The triggers of one system event, and the order in which they run.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <reactor/reactor.hpp>

namespace torsion::detail {

class ThreePhaseEvent {
 public:
  using Trigger = UniqueFunction<std::optional<Deferred<void>>()>;

  void add(Phase phase, TriggerID id, Trigger trigger) {
    triggers_[static_cast<int>(phase)].emplace_back(id, std::move(trigger));
  }
  std::size_t count(Phase phase) const { return triggers_[static_cast<int>(phase)].size(); }
  /// False if there is no such trigger.
  bool remove(TriggerID id);
  /// Runs the triggers before; when the Deferreds of all of them have fired: first(), the triggers during, last(), and
  /// the triggers after. What a trigger throws is logged.
  void fire(UniqueFunction<void()> first, UniqueFunction<void()> last);
  /// Waits no longer for what triggers before returned.
  void abandon() { waiting_.reset(); }

 private:
  struct Waiting {
    std::vector<Deferred<void>> deferreds;
    std::size_t left = 0;
  };
  std::optional<Deferred<void>> runFirst(Phase phase);
  void goOn();

  std::deque<std::pair<TriggerID, Trigger>> triggers_[3];
  std::shared_ptr<Waiting> waiting_;
  UniqueFunction<void()> first_;
  UniqueFunction<void()> last_;
};

}  // namespace torsion::detail
