#include <reactor/threads.hpp>

#include <algorithm>
#include <deque>
#include <list>
#include <stdexcept>
#include <thread>

#include <deferred/detail/require.hpp>
#include <reactor/detail/reactor_impl.hpp>

namespace torsion {

struct ThreadPool::State {
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::pair<std::uint64_t, UniqueFunction<void()>>> jobs;  // by their numbers, which grow
  std::uint64_t lastJob = 0;
  std::list<std::thread> threads;
  std::list<std::thread> ended;
  std::size_t idle = 0;
  std::size_t maxThreads = 0;
  bool shutDown = false;
};

ThreadPool::ThreadPool(std::size_t minThreads, std::size_t maxThreads, Reactor& reactor)
    : reactor_(reactor), state_(std::make_shared<State>()) {
  adjustPoolSize(minThreads, maxThreads);
}

ThreadPool::~ThreadPool() {
  shutdown();
}

void ThreadPool::checkOpen() const {
  std::lock_guard lock(state_->mutex);
  if (state_->shutDown) throw ReactorNotRunning("the thread pool has been shut down");
}

void ThreadPool::callInThread(UniqueFunction<void()> f) {
  detail::require(f, "callInThread: there is no function to call");
  enqueue(std::move(f));
}

std::uint64_t ThreadPool::enqueue(UniqueFunction<void()> f) {
  State& state = *state_;
  std::lock_guard lock(state.mutex);
  if (state.shutDown) throw ReactorNotRunning("the thread pool has been shut down");
  state.jobs.emplace_back(++state.lastJob, std::move(f));
  if (state.jobs.size() > state.idle && state.threads.size() < state.maxThreads) {
    startThread();
  } else {
    state.changed.notify_one();
  }
  return state.lastJob;
}

void ThreadPool::dequeue(const std::weak_ptr<State>& pool, std::uint64_t number) {
  const auto state = pool.lock();
  if (!state) return;
  UniqueFunction<void()> job;  // destroyed without the lock
  std::lock_guard lock(state->mutex);
  const auto found = std::lower_bound(state->jobs.begin(), state->jobs.end(), number,
                                      [](const auto& queued, std::uint64_t wanted) { return queued.first < wanted; });
  if (found == state->jobs.end() || found->first != number) return;
  job = std::move(found->second);
  state->jobs.erase(found);
}

void ThreadPool::adjustPoolSize(std::size_t minThreads, std::size_t maxThreads) {
  if (maxThreads == 0) throw std::invalid_argument("ThreadPool: maxThreads is 0");
  if (minThreads > maxThreads) throw std::invalid_argument("ThreadPool: minThreads is above maxThreads");
  State& state = *state_;
  std::lock_guard lock(state.mutex);
  state.maxThreads = maxThreads;
  if (state.shutDown) return;
  const std::size_t wanted = std::clamp(state.threads.size() - state.idle + state.jobs.size(), minThreads, maxThreads);
  while (state.threads.size() < wanted) startThread();
  state.changed.notify_all();
}

void ThreadPool::shutdown(bool wait) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.shutDown = true;
  state.changed.notify_all();
  if (!wait) return;
  state.changed.wait(lock, [&] { return state.threads.empty(); });
  for (std::thread& thread : state.ended) thread.join();
  state.ended.clear();
}

std::size_t ThreadPool::threads() const {
  std::lock_guard lock(state_->mutex);
  return state_->threads.size();
}

std::size_t ThreadPool::idle() const {
  std::lock_guard lock(state_->mutex);
  return state_->idle;
}

std::size_t ThreadPool::queued() const {
  std::lock_guard lock(state_->mutex);
  return state_->jobs.size();
}

// With the mutex held, as the thread's own end needs it to find itself in the list.
void ThreadPool::startThread() {
  state_->threads.emplace_back([this] { work(); });
}

void ThreadPool::work() {
  detail::enterThreadOf(reactor_);
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  while (state.threads.size() <= state.maxThreads) {
    if (!state.jobs.empty()) {
      UniqueFunction<void()> job = std::move(state.jobs.front().second);
      state.jobs.pop_front();
      lock.unlock();
      detail::ReactorImpl::guarded("a call in a thread threw", job);
      job.reset();
      lock.lock();
    } else if (state.shutDown) {
      break;
    } else {
      ++state.idle;
      state.changed.wait(lock);
      --state.idle;
    }
  }
  // A reactor that ends its pool waits for calls from threads.
  if (state.shutDown) reactor_.callFromThread([] {});
  const auto self = std::find_if(state.threads.begin(), state.threads.end(), [](const std::thread& thread) {
    return thread.get_id() == std::this_thread::get_id();
  });
  state.ended.splice(state.ended.end(), state.threads, self);
  if (state.threads.empty() || !state.jobs.empty()) state.changed.notify_all();
}

namespace detail {

std::shared_ptr<void> atShutdown(Reactor& reactor, UniqueFunction<void()> f) {
  class AtShutdown final : public Disconnectable {
   public:
    AtShutdown(ReactorImpl& reactor, UniqueFunction<void()> f) : Disconnectable(reactor, {}), f_(std::move(f)) {}
    void shutdown() override { f_(); }
    std::string describe() const override { return "a thread in blockingCallFromThread"; }

   private:
    UniqueFunction<void()> f_;
  };
  return std::make_shared<AtShutdown>(implOf(reactor), std::move(f));
}

void checkOtherThread(Reactor& reactor) {
  if (implOf(reactor).thread == std::this_thread::get_id()) {
    throw WrongThread("blockingCallFromThread was called in the reactor's own thread, which would wait for itself");
  }
}

}  // namespace detail

}  // namespace torsion
