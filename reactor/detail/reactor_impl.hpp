// What is behind Reactor: the io_context, the turn, and the list of what must be closed. Included by .cpp files only.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <deferred/function.hpp>
#include <deferred/time.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/stream_buffers.hpp>
#include <reactor/detail/system_events.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
class Cooperator;
}

namespace torsion::detail {

class DescriptorSet;
struct ReactorImpl;

struct DisconnectableLinks {
  DisconnectableLinks* prev = this;
  DisconnectableLinks* next = this;
};

/// Something that the reactor must end when it stops or is destroyed: a port, a connection, an attempt to connect, a
/// look-up. It is on its reactor's list from its construction until leave().
class Disconnectable : private DisconnectableLinks {
 public:
  Disconnectable(const Disconnectable&) = delete;
  Disconnectable& operator=(const Disconnectable&) = delete;

  /// Ends it now: closes the socket, gives the protocol its connectionLost(ConnectionLost), fires what is pending.
  /// Called once, off the list already; may destroy the object. What it throws is logged.
  virtual void shutdown() = 0;
  /// For reports of what a test left behind: "TCP port 127.0.0.1:8000".
  virtual std::string describe() const = 0;
  /// The user's call that made it.
  const std::source_location& where() const noexcept { return where_; }

 protected:
  Disconnectable(ReactorImpl& reactor, const std::source_location& where);
  ~Disconnectable() { leave(); }
  /// On the list again: something of it is still to be ended.
  void enter(ReactorImpl& reactor) noexcept;
  /// Harmless when repeated.
  void leave() noexcept {
    prev->next = next;
    next->prev = prev;
    prev = next = this;
  }

 private:
  friend struct ReactorImpl;
  std::source_location where_;
};

struct ReactorImpl {
  ReactorImpl(Reactor& reactor, std::thread::id thread);
  ~ReactorImpl();
  /// What ~Reactor says, all but giving the memory back.
  void close();

  /// For every public function but callFromThread: throws WrongThread in another thread than the reactor's own.
  void checkThread() const {
    if (std::this_thread::get_id() != thread) throwWrongThread();
  }
  /// For what starts something: throws ReactorNotRunning, too, once ~Reactor has begun.
  void checkUsable() const {
    checkThread();
    if (closing) throwClosing();
  }
  [[noreturn]] static void throwWrongThread();
  [[noreturn]] static void throwClosing();

  /// Runs f; logs what it throws.
  template <class F>
  static void guarded(std::string_view what, F&& f) noexcept {
    try {
      f();
    } catch (...) {
      logCurrentException(what);
    }
  }
  /// Logs the exception being handled.
  static void logCurrentException(std::string_view what) noexcept;

  /// The clock, read at most once a turn.
  Duration now() {
    if (nowIsStale) readClock();
    return currentTime;
  }
  void readClock() noexcept {
    currentTime = std::chrono::steady_clock::now().time_since_epoch();
    nowIsStale = !looping;
  }

  void run(bool installSignalHandlers);
  void stop();
  void iterate(Duration delay);

  /// What is on the list, oldest first.
  std::vector<const Disconnectable*> disconnectables() const;
  /// Takes all that is on the list off it, and ends it.
  void disconnectAll();

  /// Whom the reactor asks for names.
  std::shared_ptr<NameResolver> nameResolver();

  void callFromThread(UniqueFunction<void()> f);
  ThreadPool& getThreadPool();
  void suggestThreadPoolSize(std::size_t threads);
  /// Ends the thread pool when its jobs are done; meanwhile their calls to this thread are made.
  void endThreadPool();

  StreamBuffers buffers;
  std::shared_ptr<NameResolver> names;         // once one has been looked up, or it was installed
  std::unique_ptr<DescriptorSet> descriptors;  // once one has been added
  std::unique_ptr<Cooperator> cooperator;      // once it was given a task
  /// For handles that may outlive the reactor.
  std::shared_ptr<ReactorImpl> alive{this, [](ReactorImpl*) {}};

  DisconnectableLinks open;
  TimerQueue::Pointer timedCalls;
  ThreePhaseEvent events[2];  // by SystemEvent
  std::uint64_t lastTrigger = 0;

  Reactor& reactor;
  const std::thread::id thread;
  bool started = false;  // from run() until connections are closed in shutdown
  bool running = false;  // as Reactor::running()
  bool stopped = true;   // stop() may not be called
  bool shutdownIsDue = false;
  bool looping = false;  // in run() or iterate()
  bool closing = false;  // ~Reactor has begun

 private:
  void turn();
  void runThreadCalls();
  void dropThreadCalls();
  void runTimedCalls();
  void shutdown();
  /// Waits for one event and handles it, unless there are calls to make at once.
  void waitForEvent(Duration atMost);
  /// Runs the handlers that are queued now, among them those of operations that were just cancelled.
  void drain();

  bool nowIsStale = true;
  Duration currentTime{};
  Duration timerSetTo = Duration::max();

  std::mutex threadCallsMutex;
  std::condition_variable threadCallsAdded;
  std::vector<UniqueFunction<void()>> threadCalls;
  std::atomic<bool> haveThreadCalls = false;
  bool dropsThreadCalls = false;

  std::unique_ptr<ThreadPool> threadPool;
  std::size_t threadPoolSize = 10;

 public:
  // Goes first: handlers destroyed with it may call the reactor.
  // Sockets and the like are used in this thread alone and need no locks; what other threads post is locked still.
  boost::asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO};
  Poller poller{context};

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{context.get_executor()};
  boost::asio::steady_timer timer{context};

 public:
  /// For run(), in the main thread: made early, as it takes descriptors.
  std::optional<boost::asio::signal_set> signals;
};

/// Makes `reactor` the one that reactor() gives in the calling thread, which is one of its thread pool's.
void enterThreadOf(Reactor& reactor) noexcept;

inline Disconnectable::Disconnectable(ReactorImpl& reactor, const std::source_location& where) : where_(where) {
  enter(reactor);
}
inline void Disconnectable::enter(ReactorImpl& reactor) noexcept {
  next = &reactor.open;
  prev = reactor.open.prev;
  prev->next = this;
  next->prev = this;
}

}  // namespace torsion::detail
