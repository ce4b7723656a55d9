// Threads for what blocks, and the way back into the reactor's thread (twisted.internet.threads,
// twisted.python.threadpool).
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>
#include <variant>

#include <deferred/deferred.hpp>
#include <deferred/detail/require.hpp>
#include <deferred/function.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// Runs jobs in threads, at most `maxThreads` at a time, the others in the order they came. Jobs should carry values:
/// what belongs to the reactor (Deferreds, transports) must not be touched in them, but by way of callFromThread. In a
/// job reactor() is the pool's reactor.
class ThreadPool {
 public:
  /// Starts `minThreads`, and more when jobs come and none is idle. Deferreds fire in the thread of `reactor`, which
  /// must outlive the pool. Throws std::invalid_argument unless minThreads <= maxThreads and maxThreads > 0.
  explicit ThreadPool(std::size_t minThreads = 5, std::size_t maxThreads = 20, Reactor& reactor = torsion::reactor());
  /// shutdown(true).
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Runs f in a thread; on a later turn of the reactor the Deferred fires with what f returned, or fails with what it
  /// threw. cancel() takes the job out of the queue if it waits there, and drops the result of one that runs. In the
  /// reactor's thread only. Throws ReactorNotRunning after shutdown(), std::invalid_argument for an empty f.
  template <class F>
  auto submit(F f, std::source_location where = std::source_location::current()) {
    using Returned = std::decay_t<std::invoke_result_t<F&>>;
    detail::requireCallable(f, "submit: there is no function to call");
    checkOpen();
    auto job = std::make_unique<Job<F, Returned>>(std::move(f), where);
    Resolver<Returned>& resolver = job->resolver;  // it goes in this thread, so not before this returns
    Deferred<Returned> deferred = resolver.deferred();
    const std::uint64_t number = enqueue([this, job = std::move(job)]() mutable {
      job->run();
      reactor_.callFromThread([job = std::move(job)] { job->deliver(); });
    });
    resolver.onCancel([pool = std::weak_ptr(state_), number](const Resolver<Returned>&) { dequeue(pool, number); });
    return deferred;
  }
  /// Runs f in a thread; what it throws is logged. From any thread. Throws ReactorNotRunning after shutdown().
  void callInThread(UniqueFunction<void()> f);

  /// Changes the limits; threads above maxThreads end as soon as they are idle.
  void adjustPoolSize(std::size_t minThreads, std::size_t maxThreads);
  /// Takes no more jobs; those that wait are still run, then the threads end. If `wait`, returns when they have. (Do
  /// not wait in the reactor's thread for a job that itself waits in blockingCallFromThread.)
  void shutdown(bool wait = true);

  std::size_t threads() const;  ///< started and not ended
  std::size_t idle() const;     ///< of these, waiting for a job
  std::size_t queued() const;   ///< jobs waiting for a thread

 private:
  // Made and destroyed in the reactor's thread, as its Resolver must be; in between, run() is called in the pool's.
  template <class F, class T>
  struct Job {
    Job(F f, const std::source_location& where) : function(std::move(f)), resolver(where) {}
    void run() noexcept {
      try {
        if constexpr (std::is_void_v<T>) {
          (*function)();
          value.emplace();
        } else {
          value.emplace((*function)());
        }
      } catch (...) {
        error = std::current_exception();
      }
      function.reset();
    }
    void deliver() {
      if (resolver.called()) return;  // cancelled
      if (error) {
        resolver.errback(Failure(std::move(error)));
      } else if constexpr (std::is_void_v<T>) {
        resolver.callback();
      } else {
        resolver.callback(std::move(*value));
      }
    }
    std::optional<F> function;
    std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value;
    std::exception_ptr error;
    Resolver<T> resolver;
  };
  struct State;
  void checkOpen() const;
  // The job's number.
  std::uint64_t enqueue(UniqueFunction<void()> f);
  // Takes the job out if it is still in the queue.
  static void dequeue(const std::weak_ptr<State>& pool, std::uint64_t number);
  void startThread();
  void work();

  Reactor& reactor_;
  std::shared_ptr<State> state_;
};

/// Runs f in the reactor's thread pool. See ThreadPool::submit.
template <class F>
auto deferToThread(F f, Reactor& reactor = torsion::reactor(),
                   std::source_location where = std::source_location::current()) {
  return reactor.getThreadPool().submit(std::move(f), where);
}

namespace detail {

// Where a thread waits for what the reactor's thread will answer.
template <class T>
struct BlockedThread {
  std::mutex mutex;
  std::condition_variable answered;
  std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value;
  std::exception_ptr error;
};

// The right, and the duty, to answer. Not answering is one, too. An exception is given away whole: the reactor's thread
// keeps no reference to it.
template <class T>
class Answer {
 public:
  explicit Answer(std::shared_ptr<BlockedThread<T>> thread) noexcept : thread_(std::move(thread)) {}
  Answer(Answer&& other) noexcept = default;
  ~Answer() {
    if (!thread_) return;
    auto error = std::make_exception_ptr(ReactorNotRunning("blockingCallFromThread: the reactor has stopped"));
    fail(std::move(error));
  }

  template <class... A>
  void succeed(A&&... value) {
    give([&](BlockedThread<T>& thread) { thread.value.emplace(std::forward<A>(value)...); });
  }
  void fail(std::exception_ptr&& error) {
    give([&](BlockedThread<T>& thread) { thread.error = std::move(error); });
  }

 private:
  template <class F>
  void give(F set) {
    if (auto thread = std::exchange(thread_, nullptr)) {
      std::lock_guard lock(thread->mutex);
      set(*thread);
      thread->answered.notify_one();
    }
  }
  std::shared_ptr<BlockedThread<T>> thread_;
};

template <class T>
struct PendingAnswer {
  Answer<T> answer;
  std::exception_ptr error;
};

template <class T>
struct UnwrapDeferred {
  using type = T;
  static constexpr bool isDeferred = false;
};
template <class T>
struct UnwrapDeferred<Deferred<T>> {
  using type = T;
  static constexpr bool isDeferred = true;
};

// Calls f when the reactor's connections are closed, unless what it returns has been destroyed by then.
std::shared_ptr<void> atShutdown(Reactor& reactor, UniqueFunction<void()> f);
void checkOtherThread(Reactor& reactor);

}  // namespace detail

/// Calls f() in the reactor's thread, waits, and returns what it returned or throws what it threw. If f returns a
/// Deferred waits for that, and throws ReactorNotRunning if the reactor stops first. For other threads than the
/// reactor's own: there it throws WrongThread. Waits for ever if the reactor never runs.
template <class F>
auto blockingCallFromThread(Reactor& reactor, F f) {
  using Returned = std::decay_t<std::invoke_result_t<F&>>;
  using T = typename detail::UnwrapDeferred<Returned>::type;
  detail::checkOtherThread(reactor);
  auto thread = std::make_shared<detail::BlockedThread<T>>();
  reactor.callFromThread([&reactor, f = std::move(f), answer = detail::Answer<T>(thread)]() mutable {
    static_cast<void>(reactor);
    std::exception_ptr error;
    try {
      if constexpr (detail::UnwrapDeferred<Returned>::isDeferred) {
        Returned deferred = f();
        std::shared_ptr<detail::PendingAnswer<T>> pending(new detail::PendingAnswer<T>{std::move(answer), nullptr});
        auto guard =
            detail::atShutdown(reactor, [pending] { detail::Answer<T> unanswered(std::move(pending->answer)); });
        // In two steps: during the first the chain, too, holds the exception.
        std::move(deferred)
            .addBoth([pending](Result<T> result) {
              if (!result.ok()) {
                pending->error = result.failure().value();
              } else if constexpr (std::is_void_v<T>) {
                pending->answer.succeed();
              } else {
                pending->answer.succeed(std::move(result).value());
              }
            })
            .addCallback([pending, guard = std::move(guard)] {
              if (pending->error) pending->answer.fail(std::move(pending->error));
            });
      } else if constexpr (std::is_void_v<T>) {
        f();
        answer.succeed();
      } else {
        answer.succeed(f());
      }
    } catch (...) {
      error = std::current_exception();
    }
    if (error) answer.fail(std::move(error));
  });
  std::unique_lock lock(thread->mutex);
  thread->answered.wait(lock, [&] { return thread->value || thread->error; });
  if (thread->error) std::rethrow_exception(std::exchange(thread->error, nullptr));
  if constexpr (!std::is_void_v<T>) return T(std::move(*thread->value));
}

}  // namespace torsion
