#include <reactor/reactor.hpp>

#include <csignal>
#include <exception>
#include <optional>
#include <stdexcept>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>

#include <deferred/detail/require.hpp>
#include <deferred/detail/take.hpp>
#include <reactor/cooperator.hpp>
#include <reactor/detail/descriptor_set.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/logger.hpp>
#include <reactor/threads.hpp>

namespace torsion {

namespace detail {

namespace {

const std::thread::id mainThread = std::this_thread::get_id();  // static initialization runs in it
thread_local Reactor* threadsReactor = nullptr;
// Longer is for ever: the clock's time and this can be added.
constexpr Duration kLongestWait = std::chrono::hours(24 * 365);
// A signal that comes so soon after another is the same one: timeout(1) sends it to a program and to its group.
constexpr Duration kPatience = std::chrono::seconds(1);

const Logger& log() {
  static const Logger* const logger = new Logger("torsion.reactor");  // also used while the program ends
  return *logger;
}

// While the main thread's reactor runs: SIGTERM and SIGINT stop it, the second one ends the program, SIGPIPE is
// ignored.
class SignalHandlers {
 public:
  explicit SignalHandlers(ReactorImpl& reactor) : reactor_(reactor), signals_(*reactor.signals) {
    for (Saved& saved : saved_) sigaction(saved.number, nullptr, &saved.action);
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, nullptr);
    // A debugger's or the program's own handler for ^C stays, and so does a shell's wish to ignore it.
    if (saved_[0].action.sa_handler == SIG_DFL) signals_.add(SIGINT);
    signals_.add(SIGTERM);
    wait();
  }
  ~SignalHandlers() {
    signals_.clear();
    for (const Saved& saved : saved_) sigaction(saved.number, &saved.action, nullptr);
  }

 private:
  void wait() {
    signals_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& error, int signal) {
      if (error || alive.expired()) return;  // a signal may come as this object goes
      const std::string_view name = signal == SIGINT ? "SIGINT" : "SIGTERM";
      const Duration now = reactor_.now();
      if (first_ && now - *first_ >= kPatience) {
        log().critical("Received {signal} during a shutdown that hangs: the program ends.", {{"signal", name}});
        ::signal(signal, SIG_DFL);
        ::raise(signal);
      }
      if (!first_) first_ = now;
      log().info("Received {signal}, shutting down.", {{"signal", name}});
      if (!reactor_.stopped) reactor_.stop();
      wait();
    });
  }

  struct Saved {
    int number;
    struct sigaction action;
  };
  ReactorImpl& reactor_;
  boost::asio::signal_set& signals_;
  const std::shared_ptr<void> alive_ = std::make_shared<int>();
  std::optional<Duration> first_;  // when the first one came
  Saved saved_[3] = {{SIGINT, {}}, {SIGTERM, {}}, {SIGPIPE, {}}};
};

}  // namespace

ReactorImpl::ReactorImpl(Reactor& reactor, std::thread::id thread)
    : timedCalls(TimerQueue::create(reactor, thread)), reactor(reactor), thread(thread) {
  if (thread == mainThread) signals.emplace(context);
}

ReactorImpl::~ReactorImpl() = default;

void ReactorImpl::close() {
  closing = true;
  while (open.next != &open) disconnectAll();
  endThreadPool();
  cooperator.reset();
  names.reset();
  descriptors.reset();
  timedCalls.reset();
  for (ThreePhaseEvent& event : events) drop(event);
  dropThreadCalls();
  drain();
}

void ReactorImpl::throwWrongThread() {
  throw WrongThread("a reactor was used in a thread that is not its own; call it by way of callFromThread");
}

void ReactorImpl::throwClosing() {
  throw ReactorNotRunning("the reactor is being destroyed");
}

void ReactorImpl::logCurrentException(std::string_view what) noexcept {
  log().failure("Unhandled error: {what}", Failure::current(), {{"what", what}});
}

void ReactorImpl::run(bool installSignalHandlers) {
  if (looping) throw ReactorAlreadyRunning("run: the reactor is running already");
  {
    std::optional<SignalHandlers> handlers;
    if (installSignalHandlers && signals) handlers.emplace(*this);
    looping = true;
    started = true;
    stopped = false;
    events[static_cast<int>(SystemEvent::startup)].fire([this] { running = true; }, [] {});
    for (;;) {
      turn();
      if (!started) break;
      waitForEvent(Duration::max());
    }
    events[static_cast<int>(SystemEvent::startup)].abandon();
    drain();
  }
  looping = false;
  nowIsStale = true;
}

void ReactorImpl::stop() {
  if (stopped) throw ReactorNotRunning("stop: the reactor is not running, or has been told to stop");
  stopped = true;
  shutdownIsDue = true;
}

void ReactorImpl::iterate(Duration delay) {
  if (looping) throw ReactorAlreadyRunning("iterate: the reactor is running already");
  looping = true;
  waitForEvent(delay);
  turn();
  looping = false;
  nowIsStale = true;
}

void ReactorImpl::turn() {
  nowIsStale = true;
  if (haveThreadCalls.load(std::memory_order_acquire)) runThreadCalls();
  // After all events that came together: timed calls that are long, or never end (a Cooperator's), hold up none.
  if (!poller.pending() && timedCalls->nextDue() <= currentTime) runTimedCalls();
  if (std::exchange(shutdownIsDue, false)) shutdown();
}

void ReactorImpl::runThreadCalls() {
  std::vector<UniqueFunction<void()>> calls;
  {
    std::lock_guard lock(threadCallsMutex);
    calls.swap(threadCalls);
    haveThreadCalls.store(false, std::memory_order_relaxed);
  }
  for (UniqueFunction<void()>& call : calls) {
    guarded("a call from a thread threw", call);
    call.reset();
  }
}

// What comes from now on is dropped as it comes.
void ReactorImpl::dropThreadCalls() {
  std::vector<UniqueFunction<void()>> calls;
  {
    std::lock_guard lock(threadCallsMutex);
    dropsThreadCalls = true;
    calls.swap(threadCalls);
  }
  for (UniqueFunction<void()>& call : calls) call.reset();
}

void ReactorImpl::runTimedCalls() {
  readClock();
  const std::uint64_t before = timedCalls->nextSequence();  // what these calls schedule waits for the next turn
  for (bool more = true; more;) {
    guarded("a timed call threw", [&] {
      while (timedCalls->runNext(currentTime, before)) {
      }
      more = false;
    });
  }
}

void ReactorImpl::shutdown() {
  events[static_cast<int>(SystemEvent::shutdown)].fire(
      [this] {
        started = false;
        running = false;
        disconnectAll();
      },
      [this] { endThreadPool(); });
}

void ReactorImpl::waitForEvent(Duration atMost) {
  if (poller.pending()) {
    guarded("a handler threw", [this] { poller.dispatchOne(); });
    return;
  }
  const Duration due = timedCalls->nextDue();
  const bool atOnce = haveThreadCalls.load(std::memory_order_acquire) || shutdownIsDue || due <= currentTime ||
                      atMost <= Duration::zero();
  if (context.stopped()) context.restart();
  if (atOnce) {
    guarded("a handler threw", [this] { context.poll_one(); });
    return;
  }
  if (due < timerSetTo) {
    timerSetTo = due;
    timer.expires_at(std::chrono::steady_clock::time_point(due));
    timer.async_wait([this](const boost::system::error_code& error) {
      if (error) return;  // set to another time
      timerSetTo = Duration::max();
      readClock();
    });
  }
  guarded("a handler threw", [this, atMost] {
    if (atMost > kLongestWait) {
      context.run_one();
    } else {
      context.run_one_for(atMost);
    }
  });
}

void ReactorImpl::drain() {
  bool reached = false;
  // Twice, for what the completion of a cancelled operation posts in its turn.
  for (int round = 0; round < 2; ++round) {
    reached = false;
    boost::asio::post(context, [&reached] { reached = true; });
    while (!reached) {
      if (context.stopped()) context.restart();
      guarded("a handler threw", [this] { context.poll_one(); });
    }
  }
}

std::vector<const Disconnectable*> ReactorImpl::disconnectables() const {
  std::vector<const Disconnectable*> all;
  for (const DisconnectableLinks* links = open.next; links != &open; links = links->next) {
    all.push_back(static_cast<const Disconnectable*>(links));
  }
  return all;
}

void ReactorImpl::disconnectAll() {
  DisconnectableLinks taken;
  if (open.next == &open) return;
  taken.next = open.next;
  taken.prev = open.prev;
  taken.next->prev = &taken;
  taken.prev->next = &taken;
  open.next = open.prev = &open;
  while (taken.next != &taken) {
    auto* first = static_cast<Disconnectable*>(taken.next);
    first->leave();
    guarded("shutdown of a connection threw", [first] { first->shutdown(); });
  }
}

void ReactorImpl::callFromThread(UniqueFunction<void()> f) {
  require(f, "callFromThread: there is no function to call");
  const bool fromElsewhere = std::this_thread::get_id() != thread;
  std::lock_guard lock(threadCallsMutex);
  if (dropsThreadCalls) return;
  const bool first = threadCalls.empty();
  threadCalls.push_back(std::move(f));
  haveThreadCalls.store(true, std::memory_order_release);
  // The reactor looks at the flag before it waits; if another thread's call is there, it has been woken already.
  if (fromElsewhere && first) {
    threadCallsAdded.notify_one();
    boost::asio::post(context, [] {});
  }
}

ThreadPool& ReactorImpl::getThreadPool() {
  if (!threadPool) threadPool = std::make_unique<ThreadPool>(0, threadPoolSize, reactor);
  return *threadPool;
}

void ReactorImpl::suggestThreadPoolSize(std::size_t threads) {
  getThreadPool().adjustPoolSize(0, threads);
  threadPoolSize = threads;
}

void ReactorImpl::endThreadPool() {
  if (!threadPool) return;
  threadPool->shutdown(false);
  while (threadPool->threads() != 0) {
    {
      std::unique_lock lock(threadCallsMutex);
      threadCallsAdded.wait(lock, [this] { return !threadCalls.empty(); });
    }
    // Jobs may be in blockingCallFromThread: their calls are made, and what these then wait for will not come any more.
    runThreadCalls();
    disconnectAll();
  }
  runThreadCalls();  // the results of threads that ended before the loop looked
  threadPool.reset();
}

void enterThreadOf(Reactor& reactor) noexcept {
  threadsReactor = &reactor;
}

ReactorImpl& implOf(Reactor& reactor) noexcept {
  return *reactor.impl_;
}

}  // namespace detail

Reactor& reactor() {
  if (detail::threadsReactor) return *detail::threadsReactor;
  // Not destroyed at exit: other threads and static objects may still use it.
  static Reactor* const mainReactor = new Reactor(Reactor::MainThread());
  return *mainReactor;
}

Reactor::Reactor() : impl_(new detail::ReactorImpl(*this, std::this_thread::get_id())) {
  outer_ = std::exchange(detail::threadsReactor, this);
}

Reactor::Reactor(MainThread) : impl_(new detail::ReactorImpl(*this, detail::mainThread)) {}

Reactor::~Reactor() {
  impl_->close();
  delete impl_;
  Reactor** link = &detail::threadsReactor;
  while (*link != nullptr && *link != this) link = &(*link)->outer_;
  if (*link == this) *link = outer_;
}

void Reactor::run(bool installSignalHandlers) {
  impl_->checkUsable();
  impl_->run(installSignalHandlers);
}

void Reactor::stop() {
  impl_->checkThread();
  impl_->stop();
}

bool Reactor::running() const {
  impl_->checkThread();
  return impl_->running;
}

void Reactor::iterate(Duration delay) {
  impl_->checkUsable();
  impl_->iterate(delay);
}

void Reactor::callWhenRunning(UniqueFunction<void()> f) {
  impl_->checkUsable();
  detail::require(f, "callWhenRunning: there is no function to call");
  if (impl_->started) {
    f();
  } else {
    addSystemEventTrigger(Phase::after, SystemEvent::startup, std::move(f));
  }
}

TriggerID Reactor::addTrigger(Phase phase, SystemEvent event, Trigger trigger) {
  impl_->checkUsable();
  const TriggerID id{++impl_->lastTrigger};
  impl_->events[static_cast<int>(event)].add(phase, id, std::move(trigger));
  return id;
}

void Reactor::removeSystemEventTrigger(TriggerID id) {
  impl_->checkThread();
  for (detail::ThreePhaseEvent& event : impl_->events) {
    if (event.remove(id)) return;
  }
  throw std::invalid_argument("removeSystemEventTrigger: there is no such trigger; it was removed, or has been called");
}

Duration Reactor::seconds() const {
  impl_->checkThread();
  return impl_->now();
}

DelayedCall Reactor::schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) {
  impl_->checkUsable();
  return impl_->timedCalls->schedule(impl_->now(), delay, std::move(f), where);
}

std::vector<DelayedCall> Reactor::getDelayedCalls() const {
  impl_->checkUsable();
  return impl_->timedCalls->pending();
}

void Reactor::callFromThread(UniqueFunction<void()> f) {
  impl_->callFromThread(std::move(f));
}

void Reactor::callInThread(UniqueFunction<void()> f) {
  getThreadPool().callInThread(std::move(f));
}

ThreadPool& Reactor::getThreadPool() {
  impl_->checkUsable();
  return impl_->getThreadPool();
}

void Reactor::suggestThreadPoolSize(std::size_t threads) {
  impl_->checkUsable();
  impl_->suggestThreadPoolSize(threads);
}

void Reactor::addReader(std::shared_ptr<ReadDescriptor> reader, std::source_location where) {
  impl_->checkUsable();
  if (!impl_->descriptors) impl_->descriptors = std::make_unique<detail::DescriptorSet>(*impl_);
  impl_->descriptors->addReader(std::move(reader), where);
}

void Reactor::addWriter(std::shared_ptr<WriteDescriptor> writer, std::source_location where) {
  impl_->checkUsable();
  if (!impl_->descriptors) impl_->descriptors = std::make_unique<detail::DescriptorSet>(*impl_);
  impl_->descriptors->addWriter(std::move(writer), where);
}

void Reactor::removeReader(const ReadDescriptor& reader) {
  impl_->checkThread();
  if (impl_->descriptors) impl_->descriptors->removeReader(reader);
}

void Reactor::removeWriter(const WriteDescriptor& writer) {
  impl_->checkThread();
  if (impl_->descriptors) impl_->descriptors->removeWriter(writer);
}

std::vector<std::shared_ptr<FileDescriptor>> Reactor::removeAll() {
  impl_->checkThread();
  if (!impl_->descriptors) return {};
  return impl_->descriptors->removeAll();
}

std::vector<std::shared_ptr<ReadDescriptor>> Reactor::getReaders() const {
  impl_->checkThread();
  if (!impl_->descriptors) return {};
  return impl_->descriptors->readers();
}

std::vector<std::shared_ptr<WriteDescriptor>> Reactor::getWriters() const {
  impl_->checkThread();
  if (!impl_->descriptors) return {};
  return impl_->descriptors->writers();
}

}  // namespace torsion
