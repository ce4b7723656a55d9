// Reactor: the event loop that a program runs in (twisted.internet.reactor).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <deferred/time.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/udp.hpp>

namespace torsion {

class FileDescriptor;
class ProcessProtocol;
class ProcessTransport;
class ReadDescriptor;
class Reactor;
class ThreadPool;
class TLSOptions;
class WriteDescriptor;
struct ProcessOptions;

/// The reactor of the calling thread: the one constructed last in it. The main thread has one without that, made on
/// first use and never destroyed. In a thread of a reactor's thread pool it is that reactor, and in a thread that has
/// none the main one; there only callFromThread() and what stands on it may be called.
Reactor& reactor();

namespace detail {
struct ReactorImpl;
ReactorImpl& implOf(Reactor& reactor) noexcept;
}  // namespace detail

/// Waits for events and makes the calls that handle them, one at a time, in the thread that constructed it.
///
/// One turn: the calls from other threads that are there, then the timed calls that are due (after all events that
/// came together), then shutdown if stop() was called, then one event of a socket, signal or other source. What a call
/// throws is logged, and the loop goes on.
///
/// All but callFromThread() throws WrongThread in another thread. Once the destructor has begun, what would start
/// something throws ReactorNotRunning.
class Reactor final : public NetworkReactor,
                      public ReactorCore,
                      public ReactorSSL,
                      public UNIX,
                      public UDP,
                      public SocketAdoption {
 public:
  Reactor();
  /// Does what shutdown does, without its triggers: ends the thread pool, closes ports and connections (protocols get
  /// connectionLost), drops timed calls. What was waiting for any of these fails with BrokenDeferred. DelayedCalls,
  /// transports and ports that outlive it are inert. It must not be running, and no other thread may use it.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /// Runs until stop(). May be called again after it has returned. Throws ReactorAlreadyRunning.
  /// In the main thread, if `installSignalHandlers`: SIGTERM stops it, SIGINT too if nobody handles or ignores it, and
  /// SIGPIPE is ignored; on return all are as they were. Another SIGINT or SIGTERM during a shutdown that
  /// takes longer than a second ends the program as that signal does.
  void run(bool installSignalHandlers = true);
  /// Begins shutdown at the end of this turn: triggers before shutdown, waiting for their Deferreds while the loop goes
  /// on; then connections are closed, triggers during, the thread pool ends; triggers after; run() returns.
  /// Throws ReactorNotRunning if it does not run or has been told to stop.
  void stop() override;
  /// True from "during startup" until "during shutdown".
  bool running() const override;
  /// Waits for one event or timed call, at most `delay`, and makes the calls that are due; for programs that have a
  /// loop of their own. Throws ReactorAlreadyRunning within run().
  void iterate(Duration delay = Duration::zero());

  void callWhenRunning(UniqueFunction<void()> f) override;
  void removeSystemEventTrigger(TriggerID id) override;

  Duration seconds() const override;
  /// The calls that are scheduled, in the order in which they will run.
  std::vector<DelayedCall> getDelayedCalls() const;

  /// Calls f() in this reactor's thread, on its next turn, in the order of these calls. From any thread; wakes the
  /// reactor. If the reactor is not running f waits until it does; if it is being destroyed f is dropped.
  void callFromThread(UniqueFunction<void()> f);
  /// Calls f() in a thread of the pool. See reactor/threads.hpp for more.
  void callInThread(UniqueFunction<void()> f);
  /// This reactor's pool: 0 to 10 threads, started as they are needed.
  ThreadPool& getThreadPool();
  /// Sets the greatest number of threads of the pool.
  void suggestThreadPoolSize(std::size_t threads);

  std::shared_ptr<ListeningPort> listenTCP(PortNumber port, std::shared_ptr<Factory> factory, int backlog = 50,
                                           const std::string& interface = "",
                                           std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Connector> connectTCP(const std::string& host, PortNumber port,
                                        std::shared_ptr<ClientFactory> factory,
                                        Duration timeout = std::chrono::seconds(30),
                                        const std::string& bindAddress = "",
                                        std::source_location where = std::source_location::current()) override;
  std::shared_ptr<ListeningPort> listenUNIX(const std::string& address, std::shared_ptr<Factory> factory,
                                            int backlog = 50, unsigned mode = 0666, bool wantPID = false,
                                            std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Connector> connectUNIX(const std::string& address, std::shared_ptr<ClientFactory> factory,
                                         Duration timeout = std::chrono::seconds(30), bool checkPID = false,
                                         std::source_location where = std::source_location::current()) override;
  std::shared_ptr<DatagramTransport> listenUDP(PortNumber port, std::shared_ptr<DatagramProtocol> protocol,
                                               const std::string& interface = "", std::size_t maxPacketSize = 8192,
                                               std::source_location where = std::source_location::current()) override;
  std::shared_ptr<DatagramTransport> listenMulticast(
      PortNumber port, std::shared_ptr<DatagramProtocol> protocol, const std::string& interface = "",
      std::size_t maxPacketSize = 8192, bool listenMultiple = false,
      std::source_location where = std::source_location::current()) override;
  std::shared_ptr<DatagramTransport> adoptDatagramPort(
      int fd, int family, std::shared_ptr<DatagramProtocol> protocol, std::size_t maxPacketSize = 8192,
      std::source_location where = std::source_location::current()) override;
  std::shared_ptr<ListeningPort> adoptStreamPort(int fd, int family, std::shared_ptr<Factory> factory,
                                                 std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Protocol> adoptStreamConnection(
      int fd, int family, std::shared_ptr<Factory> factory,
      std::source_location where = std::source_location::current()) override;
  std::shared_ptr<ListeningPort> listenSSL(PortNumber port, std::shared_ptr<Factory> factory, const TLSOptions& options,
                                           int backlog = 50, const std::string& interface = "",
                                           std::source_location where = std::source_location::current()) override;
  std::shared_ptr<Connector> connectSSL(const std::string& host, PortNumber port,
                                        std::shared_ptr<ClientFactory> factory, const TLSOptions& options,
                                        Duration timeout = std::chrono::seconds(30),
                                        const std::string& bindAddress = "",
                                        std::source_location where = std::source_location::current()) override;
  Deferred<Addresses> resolve(const std::string& name,
                              std::source_location where = std::source_location::current()) override;
  Deferred<void> resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                 std::source_location where = std::source_location::current()) override;
  /// Asks `resolver` from now on, also for the names that connectTCP() and endpoints are given; null: a DNSResolver, as
  /// at first. Keeps it.
  void installNameResolver(std::shared_ptr<NameResolver> resolver);

  /// From now on, and until it is removed, reader->doRead() is called each turn in which its descriptor can be read (of
  /// a file: each turn). Harmless when repeated; another reader of the descriptor is a std::logic_error. Throws
  /// std::system_error for a descriptor that is not open. See reactor/descriptor.hpp.
  void addReader(std::shared_ptr<ReadDescriptor> reader, std::source_location where = std::source_location::current());
  void addWriter(std::shared_ptr<WriteDescriptor> writer, std::source_location where = std::source_location::current());
  /// No more calls, not even one that is due. Nothing if it was not added.
  void removeReader(const ReadDescriptor& reader);
  void removeWriter(const WriteDescriptor& writer);
  /// Removes all that were added, without connectionLost, and gives them; a reader and writer once.
  std::vector<std::shared_ptr<FileDescriptor>> removeAll();
  std::vector<std::shared_ptr<ReadDescriptor>> getReaders() const;
  std::vector<std::shared_ptr<WriteDescriptor>> getWriters() const;

  /// Runs a program: `executable`, sought in PATH if there is no '/' in it, with `args`, of which the first is its name
  /// (none: `executable`). See reactor/process.hpp for the protocol and the options. Throws std::system_error if it
  /// cannot be run. When the reactor stops, children go on and their pipes close; a child that ends while the reactor
  /// lives and turns leaves no zombie.
  std::shared_ptr<ProcessTransport> spawnProcess(std::shared_ptr<ProcessProtocol> protocol,
                                                 const std::string& executable, const std::vector<std::string>& args,
                                                 const ProcessOptions& options,
                                                 std::source_location where = std::source_location::current());
  std::shared_ptr<ProcessTransport> spawnProcess(std::shared_ptr<ProcessProtocol> protocol,
                                                 const std::string& executable,
                                                 const std::vector<std::string>& args = {},
                                                 std::source_location where = std::source_location::current());

 private:
  friend Reactor& reactor();
  friend detail::ReactorImpl& detail::implOf(Reactor& reactor) noexcept;

  struct MainThread {};
  explicit Reactor(MainThread);
  DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) override;
  TriggerID addTrigger(Phase phase, SystemEvent event, Trigger trigger) override;

  detail::ReactorImpl* const impl_;
  Reactor* outer_ = nullptr;  // the one that reactor() gave in this thread before
};

}  // namespace torsion
