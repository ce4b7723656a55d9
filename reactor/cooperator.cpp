#include <reactor/cooperator.hpp>

#include <chrono>
#include <list>
#include <optional>
#include <vector>

#include <deferred/canceller.hpp>
#include <deferred/errors.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

const Logger kLog("torsion.task");

std::function<bool()> tenMilliseconds() {
  // Not by the Time, which stands still within a turn.
  return [end = std::chrono::steady_clock::now() + std::chrono::milliseconds(10)] {
    return std::chrono::steady_clock::now() >= end;
  };
}

}  // namespace

struct CooperativeTask::State : std::enable_shared_from_this<State> {
  using List = std::list<std::shared_ptr<State>>;

  State(Cooperator::Step step, std::weak_ptr<Cooperator::State> cooperator)
      : step(std::move(step)), cooperator(std::move(cooperator)) {}

  void queue();
  void unqueue();
  void oneWorkUnit();
  Result<void> awaited(const Result<bool>& more);
  void cancel();
  void complete(Failure whyFinished, Result<void> outcome);
  void checkFinish() const {
    if (finished) finished->raise();
  }

  Cooperator::Step step;
  bool stepping = false;
  const std::weak_ptr<Cooperator::State> cooperator;
  std::optional<List::iterator> place;  // among the tasks that can go on
  int pauses = 0;
  bool awaiting = false;  // the Deferred that the last step gave
  Canceller awaitedOne;
  bool cancelled = false;
  std::optional<Failure> finished;  // thrown by pause() and stop() from then on
  std::optional<Result<void>> result;
  std::vector<Resolver<void>> waiters;
};

struct Cooperator::State : std::enable_shared_from_this<State> {
  using Tasks = CooperativeTask::State::List;

  State(Time& time, CooperatorOptions options) : time(time), options(std::move(options)) {
    if (!this->options.terminationPredicateFactory) this->options.terminationPredicateFactory = tenMilliseconds;
  }

  // The timed call. If its Time goes, and drops it, the tasks cannot go on.
  class Tick {
   public:
    explicit Tick(State& state) noexcept : state_(&state) {}
    Tick(Tick&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    ~Tick() {
      if (state_ == nullptr || !std::exchange(state_->scheduled, false)) return;
      state_->stop();
    }
    void operator()() { std::exchange(state_, nullptr)->tick(); }

   private:
    State* state_;
  };

  void add(std::shared_ptr<CooperativeTask::State> task) {
    CooperativeTask::State& added = *task;
    added.place = tasks.insert(tasks.end(), std::move(task));
    if (stopped) return fail(added);
    schedule();
  }
  void remove(Tasks::iterator place) {
    if (next == place) ++next;
    tasks.erase(place);
    if (tasks.empty()) unschedule();
  }
  static void fail(CooperativeTask::State& task) {
    task.complete(SchedulerStopped(), Result<void>(Failure(SchedulerStopped())));
  }

  void schedule() {
    if (!options.started || scheduled || ticking || tasks.empty()) return;
    try {
      call = time.callLater(Duration::zero(), Tick(*this));
      scheduled = true;
    } catch (const ReactorNotRunning&) {
      stop();
    }
  }
  void unschedule() {
    if (std::exchange(scheduled, false)) call.cancel();
  }

  void tick() {
    const auto self = shared_from_this();  // a step may destroy the Cooperator
    scheduled = false;
    struct Turn {
      explicit Turn(State& state) : state(state) { state.ticking = true; }
      ~Turn() {
        state.ticking = false;
        state.schedule();
      }
      State& state;
    } const turn(*this);
    const auto terminate = options.terminationPredicateFactory();
    while (!tasks.empty()) {
      if (next == tasks.end()) next = tasks.begin();
      (*next++)->oneWorkUnit();
      if (terminate()) break;
    }
  }

  void stop() {
    const auto self = shared_from_this();
    stopped = true;
    unschedule();
    while (!tasks.empty()) fail(*tasks.front());
  }

  Time& time;
  CooperatorOptions options;
  Tasks tasks;
  Tasks::iterator next = tasks.end();
  DelayedCall call;
  bool scheduled = false;
  bool ticking = false;
  bool stopped = false;
};

// ---- CooperativeTask

void CooperativeTask::State::queue() {
  if (finished || pauses != 0 || awaiting) return;
  if (const auto alive = cooperator.lock()) {
    alive->add(shared_from_this());
  } else {
    Cooperator::State::fail(*this);
  }
}

void CooperativeTask::State::unqueue() {
  if (!place) return;
  const auto at = *std::exchange(place, std::nullopt);
  if (const auto alive = cooperator.lock()) alive->remove(at);
}

void CooperativeTask::State::oneWorkUnit() {
  const auto self = shared_from_this();
  std::optional<Deferred<bool>> pending;
  bool more = false;
  std::optional<Failure> failure;
  stepping = true;
  try {
    auto stepped = step();
    if (auto* now = std::get_if<bool>(&stepped)) {
      more = *now;
    } else {
      pending = std::get<Deferred<bool>>(std::move(stepped));
    }
  } catch (...) {
    failure = Failure::current();
  }
  stepping = false;
  if (finished) {  // by the step itself
    step.reset();
  } else if (failure) {
    complete(TaskFailed(), Result<void>(*failure));
  } else if (pending) {
    awaiting = true;
    awaitedOne = pending->canceller();
    unqueue();
    std::move(*pending).addBoth([self](Result<bool> result) { return self->awaited(result); });
  } else if (!more) {
    complete(TaskDone(), Result<void>());
  }
}

Result<void> CooperativeTask::State::awaited(const Result<bool>& more) {
  awaiting = false;
  if (finished) {
    if (!more.ok()) return more.failure();  // nobody else is there to report it
  } else if (!more.ok()) {
    complete(TaskFailed(), Result<void>(more.failure()));
  } else if (cancelled) {
    complete(TaskStopped(), Result<void>(Failure(CancelledError())));
  } else if (more.value()) {
    queue();
  } else {
    complete(TaskDone(), Result<void>());
  }
  return {};
}

void CooperativeTask::State::cancel() {
  cancelled = true;
  if (awaiting) {
    awaitedOne.cancel();
  } else {
    complete(TaskStopped(), Result<void>(Failure(CancelledError())));
  }
}

void CooperativeTask::State::complete(Failure whyFinished, Result<void> outcome) {
  const auto self = shared_from_this();
  finished = std::move(whyFinished);
  result = outcome;
  unqueue();
  if (!stepping) step.reset();
  // Last, as they may do anything, also to the Cooperator.
  const auto waiting = std::exchange(waiters, {});
  if (waiting.empty() && finished->check<TaskFailed>()) {
    kLog.failure("A cooperative task that nobody waits for failed", outcome.failure());
  }
  for (const auto& waiter : waiting) waiter.resolve(outcome);
}

Deferred<void> CooperativeTask::whenDone(std::source_location where) const {
  Resolver<void> resolver(where);
  if (state_->result) {
    resolver.resolve(*state_->result);
  } else {
    state_->waiters.push_back(resolver);
  }
  return resolver.deferred();
}

void CooperativeTask::pause() const {
  state_->checkFinish();
  if (++state_->pauses == 1) state_->unqueue();
}

void CooperativeTask::resume() const {
  if (state_->pauses == 0) throw NotPaused();
  if (--state_->pauses == 0) state_->queue();
}

void CooperativeTask::stop() const {
  state_->checkFinish();
  state_->complete(TaskStopped(), Result<void>(Failure(TaskStopped())));
}

// ---- Cooperator

Cooperator::Cooperator(Time& time, CooperatorOptions options)
    : state_(std::make_shared<State>(time, std::move(options))) {}

Cooperator::~Cooperator() {
  state_->stop();
}

CooperativeTask Cooperator::add(Step step) {
  const auto task = std::make_shared<CooperativeTask::State>(std::move(step), state_);
  task->queue();
  return CooperativeTask(task);
}

Deferred<void> Cooperator::addCancellable(Step step, const std::source_location& where) {
  const auto task = std::make_shared<CooperativeTask::State>(std::move(step), state_);
  Resolver<void> resolver(where);
  resolver.onCancel([weak = std::weak_ptr(task)](const Resolver<void>&) {
    if (const auto alive = weak.lock()) alive->cancel();
    return CancelPending();
  });
  task->waiters.push_back(resolver);
  task->queue();
  return resolver.deferred();
}

void Cooperator::start() {
  state_->stopped = false;
  state_->options.started = true;
  state_->schedule();
}

void Cooperator::stop() {
  state_->stop();
}

bool Cooperator::running() const noexcept {
  return state_->options.started && !state_->stopped;
}

Cooperator& detail::cooperatorOf(Reactor& reactor) {
  ReactorImpl& impl = implOf(reactor);
  impl.checkUsable();
  if (!impl.cooperator) impl.cooperator = std::make_unique<Cooperator>(reactor);
  return *impl.cooperator;
}

}  // namespace torsion
