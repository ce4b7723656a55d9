#include <reactor/detail/poller.hpp>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace torsion::detail {

Poller::Poller(boost::asio::io_context& context) : set_(context.get_executor()) {
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  if (set < 0) throw std::system_error(errno, std::generic_category(), "a reactor cannot make its epoll set");
  set_.assign(set);
  wait();
}

int Poller::control(int operation, int fd, std::uint32_t events) noexcept {
  epoll_event event;
  event.events = events;
  event.data.u64 = std::uint64_t{slot(fd).generation} << 32 | static_cast<unsigned>(fd);
  return ::epoll_ctl(set_.native_handle(), operation, fd, &event) == 0 ? 0 : errno;
}

int Poller::add(int fd, std::uint32_t events, Watcher& watcher) {
  const auto index = static_cast<std::size_t>(fd);
  if (slots_.size() <= index) slots_.resize(index + 1);
  ++slot(fd).generation;
  if (const int error = control(EPOLL_CTL_ADD, fd, events)) {
    --slot(fd).generation;  // whoever has it keeps its events
    return error;
  }
  slot(fd).watcher = &watcher;
  return 0;
}

int Poller::change(int fd, std::uint32_t events, Watcher& watcher) {
  if (slot(fd).watcher != &watcher) return slot(fd).watcher ? EEXIST : add(fd, events, watcher);
  const int error = control(EPOLL_CTL_MOD, fd, events);
  return error == ENOENT ? add(fd, events, watcher) : error;
}

void Poller::hand(int fd, Watcher& watcher) noexcept {
  slot(fd).watcher = &watcher;
}

void Poller::forget(int fd) noexcept {
  slot(fd).watcher = nullptr;
}

void Poller::remove(int fd, const Watcher& watcher) noexcept {
  if (slot(fd).watcher != &watcher) return;
  forget(fd);
  control(EPOLL_CTL_DEL, fd, 0);
}

void Poller::wait() {
  set_.async_wait(set_.wait_read, [this](const boost::system::error_code& error) {
    if (!error) fetch();
  });
}

void Poller::fetch() {
  next_ = 0;
  count_ = std::max(0, ::epoll_wait(set_.native_handle(), events_, kBatch, 0));
  wait();
  dispatchOne();
}

void Poller::dispatchOne() {
  while (next_ != count_) {
    const epoll_event& event = events_[next_++];
    const Slot& slot = slots_[static_cast<std::uint32_t>(event.data.u64)];
    if (slot.watcher && slot.generation == event.data.u64 >> 32) return slot.watcher->ready(event.events);
  }
}

}  // namespace torsion::detail
