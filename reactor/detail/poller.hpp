// Which descriptors are ready: an epoll set of the reactor's own, which Asio watches as one descriptor. Waiting by way
// of Asio costs a system call each time and another when the descriptor is closed; here one tells of all that are
// ready.
#pragma once

#include <sys/epoll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace torsion::detail {

class Watcher {
 public:
  /// `events` as epoll_wait(2) gave them. May end the watching, and destroy the watcher.
  virtual void ready(std::uint32_t events) = 0;

 protected:
  ~Watcher() = default;
};

class Poller {
 public:
  explicit Poller(boost::asio::io_context& context);

  /// Calls watcher.ready() when one of `events` (EPOLLIN, ...) comes to be or, without EPOLLET, as long as it is.
  /// Returns 0, or errno.
  int add(int fd, std::uint32_t events, Watcher& watcher);
  /// Other events from now on, also if `fd` was closed meanwhile and is another descriptor now; EEXIST if that is
  /// another watcher's. Returns 0, or errno.
  int change(int fd, std::uint32_t events, Watcher& watcher);
  /// Another watcher from now on.
  void hand(int fd, Watcher& watcher) noexcept;
  /// No more calls: `fd` is about to be closed, which takes it out of the set.
  void forget(int fd) noexcept;
  /// No more calls, and `fd` stays open. Nothing if `fd` was closed meanwhile and is another watcher's now.
  void remove(int fd, const Watcher& watcher) noexcept;

  /// Are there events to dispatch? If not, the io_context gets some.
  bool pending() const noexcept { return next_ != count_; }
  /// Makes one of the calls that are due.
  void dispatchOne();

 private:
  // The generation tells events of an earlier descriptor with the same number, which arrive as long as another process
  // has it, and those that are still to be dispatched when it is closed.
  struct Slot {
    Watcher* watcher = nullptr;
    std::uint32_t generation = 0;
  };
  static constexpr int kBatch = 256;

  Slot& slot(int fd) noexcept { return slots_[static_cast<std::size_t>(fd)]; }
  int control(int operation, int fd, std::uint32_t events) noexcept;
  void wait();
  void fetch();

  boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type> set_;
  std::vector<Slot> slots_;  // by descriptor
  epoll_event events_[kBatch];
  int next_ = 0, count_ = 0;
};

}  // namespace torsion::detail
