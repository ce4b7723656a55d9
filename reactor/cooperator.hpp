// Cooperator: long work in small steps, many pieces of it taking turns with each other and with all else that the
// reactor does (twisted.internet.task: Cooperator, CooperativeTask, cooperate, coiterate).
#pragma once

#include <functional>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <deferred/time.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

struct SchedulerError : std::runtime_error {
  using runtime_error::runtime_error;
};
/// The Cooperator was stopped; its tasks fail with this.
struct SchedulerStopped : SchedulerError {
  SchedulerStopped() : SchedulerError("the Cooperator has been stopped; start() it before it is given work") {}
};
/// pause() or stop() of a task that has ended: one of the three below.
struct TaskFinished : SchedulerError {
  using SchedulerError::SchedulerError;
};
struct TaskDone : TaskFinished {
  TaskDone() : TaskFinished("the task is done") {}
};
/// Also what whenDone() fails with after stop().
struct TaskStopped : TaskFinished {
  TaskStopped() : TaskFinished("the task has been stopped") {}
};
struct TaskFailed : TaskFinished {
  TaskFailed() : TaskFinished("a step of the task failed; whenDone() has the failure") {}
};
struct NotPaused : SchedulerError {
  NotPaused() : SchedulerError("resume: the task is not paused; resume it once for each pause()") {}
};

/// Work that a Cooperator does step by step. A copyable handle: the task goes on without it, and one that outlives the
/// Cooperator is that of a task that has ended.
class CooperativeTask {
 public:
  /// Fires when the last step is done; fails with what a step threw or its Deferred failed with, TaskStopped or
  /// SchedulerStopped; BrokenDeferred if nobody can make the task go on any more. Each call gives another Deferred;
  /// cancel() of one only ends its wait.
  Deferred<void> whenDone(std::source_location where = std::source_location::current()) const;
  /// No steps until resume() has been called as often. Throws TaskFinished (or SchedulerStopped) if it has ended.
  void pause() const;
  /// Throws NotPaused. Does nothing if the task was stopped meanwhile.
  void resume() const;
  /// No more steps: the callable is destroyed. A Deferred that the last step gave is neither cancelled nor awaited.
  /// Throws TaskFinished (or SchedulerStopped) if it has ended.
  void stop() const;

 private:
  friend class Cooperator;
  struct State;
  explicit CooperativeTask(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

struct CooperatorOptions {
  /// Called at the beginning of each turn; what it returns is called after each step, until it says that this turn has
  /// been long enough (true). Without: 10 ms.
  std::function<std::function<bool()>()> terminationPredicateFactory = {};
  /// False: steps wait for start().
  bool started = true;
};

/// Makes steps of its tasks in turn, one of each, for 10 ms in a turn of the reactor. A step is a callable that does a
/// little and returns whether there is more to do: a bool, or a Deferred<bool>, for which its task waits while the
/// others go on. So a long computation blocks nobody, and tasks that share one source of work are as many lanes:
///
///   auto page = pages.begin();
///   auto fetchNext = [&]() -> Deferred<bool> {
///     if (page == pages.end()) return succeed(false);
///     return fetch(*page++).addCallback([] { return true; });
///   };
///   std::vector<Deferred<void>> lanes;  // at most three fetches at a time
///   for (int i = 0; i < 3; ++i) lanes.push_back(coiterate(fetchNext));
///   gatherResults(std::move(lanes)).addCallback(...);
///
/// Cooperators do not cooperate with each other: cooperate() and coiterate() below share that of the reactor. One that
/// is destroyed is stopped.
class Cooperator {
 public:
  explicit Cooperator(Time& time = reactor(), CooperatorOptions options = {});
  Cooperator(const Cooperator&) = delete;
  Cooperator& operator=(const Cooperator&) = delete;
  ~Cooperator();

  /// Adds a task; its first step comes on a later turn, and the callable is destroyed when it ends. A failure that
  /// nobody waits for with whenDone() is logged.
  template <class F>
  CooperativeTask cooperate(F step) {
    return add(makeStep(std::move(step)));
  }
  /// The same, and gives its whenDone(). But cancel() of this one ends the task: at once, with CancelledError, or by
  /// cancelling the Deferred that the last step gave, when that has fired.
  template <class F>
  Deferred<void> coiterate(F step, std::source_location where = std::source_location::current()) {
    return addCancellable(makeStep(std::move(step)), where);
  }

  void start();
  /// All tasks fail with SchedulerStopped, those that are paused or wait for a Deferred when they would go on; so do
  /// new ones, until start().
  void stop();
  bool running() const noexcept;

 private:
  friend struct CooperativeTask::State;
  struct State;
  using Step = UniqueFunction<std::variant<bool, Deferred<bool>>()>;

  template <class F>
  static Step makeStep(F step) {
    using Returned = std::invoke_result_t<F&>;
    constexpr bool fits = std::is_same_v<Returned, bool> || std::is_same_v<Returned, Deferred<bool>>;
    static_assert(fits, "Cooperator: a step returns whether there is more to do, as bool or Deferred<bool>");
    if constexpr (fits) {
      return Step(std::move(step));
    } else {
      return {};
    }
  }
  CooperativeTask add(Step step);
  Deferred<void> addCancellable(Step step, const std::source_location& where);

  std::shared_ptr<State> state_;
};

namespace detail {
Cooperator& cooperatorOf(Reactor& reactor);
}

/// As Cooperator::cooperate(), of the reactor's own Cooperator, which is stopped when the reactor is destroyed.
template <class F>
CooperativeTask cooperate(F step, Reactor& reactor = torsion::reactor()) {
  return detail::cooperatorOf(reactor).cooperate(std::move(step));
}
template <class F>
Deferred<void> coiterate(F step, Reactor& reactor = torsion::reactor(),
                         std::source_location where = std::source_location::current()) {
  return detail::cooperatorOf(reactor).coiterate(std::move(step), where);
}

}  // namespace torsion
