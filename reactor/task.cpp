#include <reactor/task.hpp>

#include <exception>

#include <deferred/detail/take.hpp>
#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {

struct LoopingCall::State : std::enable_shared_from_this<State> {
  State(Body body, Time& time, bool counts) : body(std::move(body)), time(time), counts(counts) {}

  // What start() has returned. If that was cancelled, it is not reported before the loop ends, as in Twisted.
  struct Started {
    Resolver<void> resolver;
    detail::Hold hold;
  };

  // The timed call. If its Time goes, and drops it, the loop cannot go on.
  class Tick {
   public:
    explicit Tick(State& state) noexcept : state_(&state) {}
    Tick(Tick&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    ~Tick() {
      if (state_ == nullptr || !state_->scheduled) return;
      state_->scheduled = state_->running = false;
      detail::drop(state_->started);
    }
    void operator()() { std::exchange(state_, nullptr)->call(); }

   private:
    State* state_;
  };

  // For the time of the grid that comes next.
  void schedule() {
    Duration wait{0};
    if (interval > Duration::zero()) wait = interval - (time.seconds() - startTime) % interval;
    next = time.callLater(wait, Tick(*this), where);
    scheduled = true;
  }
  void unschedule() {
    scheduled = false;
    next.cancel();
  }

  void call() {
    const auto self = shared_from_this();  // the body may destroy the LoopingCall
    scheduled = false;
    try {
      const std::int64_t count = counts ? countIntervals() : 1;
      std::optional<Deferred<void>> pending;
      if (count > 0) pending = body(count);
      if (!pending) {
        called();
        return;
      }
      std::move(*pending).addCallback([self] { self->called(); }).addErrback([self](const Failure& failure) {
        self->failed(failure);
      });
    } catch (...) {
      failed(Failure::current());
    }
  }

  // How many points of the grid were passed since the last call.
  std::int64_t countIntervals() {
    if (interval == Duration::zero()) return 1;
    const Duration now = time.seconds();
    const Duration last = lastTime.value_or(calledAtStart ? startTime - interval : startTime);
    const std::int64_t count = (now - startTime) / interval - (last - startTime) / interval;
    if (count > 0) lastTime = now;
    return count;
  }

  void called() {
    if (running) {
      schedule();
    } else if (auto done = std::exchange(started, std::nullopt)) {
      done->resolver.callback();
    }
  }

  void failed(const Failure& failure) {
    running = false;
    if (auto done = std::exchange(started, std::nullopt)) done->resolver.errback(failure);
  }

  Body body;
  Time& time;
  const bool counts;
  bool running = false;
  Duration interval{0};
  Duration startTime{0};
  bool calledAtStart = false;
  std::optional<Duration> lastTime;  // of the last call, if `counts`
  DelayedCall next;
  bool scheduled = false;  // else the body runs, or its Deferred is awaited, or the loop is not running
  std::optional<Started> started;
  std::source_location where;
};

LoopingCall::LoopingCall(Body body, Time& time, bool counts)
    : state_(std::make_shared<State>(std::move(body), time, counts)) {}

LoopingCall::State& LoopingCall::state() const {
  if (!state_) throw std::logic_error("this LoopingCall was moved from");
  return *state_;
}

LoopingCall::~LoopingCall() {
  if (!state_) return;
  state_->running = false;
  if (state_->scheduled) state_->unschedule();
  detail::drop(state_->started);
}

Deferred<void> LoopingCall::start(Duration interval, bool now, std::source_location where) {
  State& state = this->state();
  if (state.running) throw std::logic_error("LoopingCall::start: it is running already");
  if (state.started) throw std::logic_error("LoopingCall::start: it was stopped, but its last call has not ended");
  if (interval < Duration::zero()) throw std::invalid_argument("LoopingCall::start: a negative interval");
  Resolver<void> resolver(where);
  Deferred<void> deferred = resolver.deferred();
  state.running = true;
  state.started = {resolver, resolver.hold()};
  state.where = where;
  state.interval = interval;
  state.startTime = state.time.seconds();
  state.calledAtStart = now;
  state.lastTime.reset();
  if (now) {
    state.call();
  } else {
    state.schedule();
  }
  return deferred;
}

void LoopingCall::stop() {
  State& state = this->state();
  if (!state.running) throw std::logic_error("LoopingCall::stop: it is not running");
  state.running = false;
  if (!state.scheduled) return;  // called() fires
  state.unschedule();
  auto done = std::exchange(state.started, std::nullopt);
  done->resolver.callback();
}

void LoopingCall::reset() {
  State& state = this->state();
  if (!state.running) throw std::logic_error("LoopingCall::reset: it is not running");
  if (!state.scheduled) return;
  state.unschedule();
  state.startTime = state.time.seconds();
  state.schedule();
}

bool LoopingCall::running() const noexcept {
  return state_ && state_->running;
}

Duration LoopingCall::interval() const {
  return state().interval;
}

Deferred<void> deferLater(Time& time, Duration delay, std::source_location where) {
  Resolver<void> resolver(where);
  DelayedCall call = time.callLater(delay, [resolver] { resolver.callback(); }, where);
  resolver.onCancel([call](const Resolver<void>&) mutable { call.cancel(); });
  return resolver.deferred();
}

int detail::react(UniqueFunction<Deferred<int>(Reactor&)> mainFunction, Reactor& reactor) {
  struct State {
    int status = 0;
    bool stopping = false;
  };
  const auto state = std::make_shared<State>();
  reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [state] { state->stopping = true; });
  Deferred<void> finished = maybeDeferred(mainFunction, reactor).addBoth([state, &reactor](Result<int> result) {
    if (result.ok()) {
      state->status = result.value();
    } else if (const auto* exit = result.failure().get<SystemExit>()) {
      state->status = exit->status;
    } else {
      Logger("torsion.task").failure("main function encountered error", result.failure());
      state->status = 1;
    }
    if (state->stopping) return;
    reactor.callWhenRunning([&reactor] {
      try {
        reactor.stop();
      } catch (const ReactorNotRunning&) {  // it has just been stopped by something else
      }
    });
  });
  reactor.run();
  return state->status;
}

}  // namespace torsion
