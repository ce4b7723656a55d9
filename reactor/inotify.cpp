#include <reactor/inotify.hpp>

#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

namespace fs = std::filesystem;
const Logger kLog("torsion.reactor");

std::string absolute(const std::string& path) {
  std::string name = fs::absolute(path).lexically_normal().string();
  if (name.size() > 1 && name.back() == '/') name.pop_back();
  return name;
}

bool isDirectory(const std::string& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() == fs::file_type::directory;
}

}  // namespace

std::vector<std::string> humanReadableMask(std::uint32_t mask) {
  static constexpr std::pair<std::uint32_t, const char*> kNames[] = {
      {IN_ACCESS, "access"},
      {IN_MODIFY, "modify"},
      {IN_ATTRIB, "attrib"},
      {IN_CLOSE_WRITE, "close_write"},
      {IN_CLOSE_NOWRITE, "close_nowrite"},
      {IN_OPEN, "open"},
      {IN_MOVED_FROM, "moved_from"},
      {IN_MOVED_TO, "moved_to"},
      {IN_CREATE, "create"},
      {IN_DELETE, "delete"},
      {IN_DELETE_SELF, "delete_self"},
      {IN_MOVE_SELF, "move_self"},
      {IN_UNMOUNT, "unmount"},
      {IN_Q_OVERFLOW, "queue_overflow"},
      {IN_IGNORED, "ignored"},
      {IN_ONLYDIR, "only_dir"},
      {IN_DONT_FOLLOW, "dont_follow"},
      {IN_MASK_ADD, "mask_add"},
      {IN_ISDIR, "is_dir"},
      {IN_ONESHOT, "one_shot"},
  };
  std::vector<std::string> names;
  for (const auto& [bit, name] : kNames) {
    if (mask & bit) names.push_back(name);
  }
  return names;
}

class INotify::Impl final : public detail::Disconnectable,
                            public detail::Watcher,
                            public std::enable_shared_from_this<Impl> {
 public:
  Impl(detail::ReactorImpl& reactor, const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    int error = fd_ ? 0 : errno;
    if (!error) error = reactor_.poller.add(fd_.get(), EPOLLIN, *this);
    if (error) throw std::system_error(error, std::generic_category(), "INotify");
  }
  void close() {
    leave();
    if (fd_) reactor_.poller.forget(fd_.get());
    fd_.reset();
  }

  void watch(const std::string& path, std::uint32_t mask, bool autoAdd, const std::vector<Callback>& callbacks) {
    if (!fd_) throw ReactorNotRunning("INotify: its reactor was stopped, which ended it; make another one");
    if (byPath_.contains(path)) return;
    const int id = ::inotify_add_watch(fd_.get(), path.c_str(), mask | IN_DELETE_SELF);
    if (id < 0) throw INotifyError(errno, std::generic_category(), "INotify: cannot watch " + path);
    // Of a path that was moved, or has another name, there is one already.
    if (const auto other = watches_.find(id); other != watches_.end()) byPath_.erase(other->second->path);
    watches_[id] = std::make_shared<const Watch>(Watch{path, mask | IN_DELETE_SELF, autoAdd, callbacks});
    byPath_[path] = id;
  }
  void watchBelow(const std::string& path, std::uint32_t mask, bool autoAdd, const std::vector<Callback>& callbacks) {
    std::error_code error;
    for (fs::directory_iterator child(path, error), end; !error && child != end; child.increment(error)) {
      const std::string name = child->path().string();
      if (!isDirectory(name)) continue;
      try {
        watch(name, mask, autoAdd, callbacks);
      } catch (const INotifyError& failed) {
        if (!isGone(failed)) throw;
        continue;
      }
      watchBelow(name, mask, autoAdd, callbacks);
    }
  }
  void ignore(const std::string& path) {
    const auto found = byPath_.find(path);
    if (found == byPath_.end()) throw std::out_of_range("INotify: " + path + " is not watched");
    if (fd_) ::inotify_rm_watch(fd_.get(), found->second);
    forget(found->second);
  }

  void ready(std::uint32_t) override {
    const auto self = shared_from_this();
    const std::span<char> buffer = reactor_.buffers.readBuffer();
    const ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
    for (ssize_t at = 0; at < size && fd_;) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = event.len ? buffer.data() + at + sizeof event : "";
      at += static_cast<ssize_t>(sizeof event + event.len);
      happened(event.wd, event.mask, std::string_view(name, ::strnlen(name, event.len)));
    }
  }
  void shutdown() override { close(); }
  std::string describe() const override { return "INotify of " + std::to_string(watches_.size()) + " paths"; }

 private:
  static bool isGone(const INotifyError& error) noexcept {
    return error.code().value() == ENOENT || error.code().value() == ENOTDIR;
  }

  void happened(int id, std::uint32_t mask, std::string_view name) {
    if (mask & IN_Q_OVERFLOW) {
      for (const auto& [each, watch] : std::map(watches_)) notify(*watch, watch->path, mask);
      return;
    }
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;  // ignored since
    const auto watch = found->second;
    std::string path = watch->path;
    if (!name.empty()) path.append(path.ends_with('/') ? "" : "/").append(name);
    notify(*watch, path, mask);
    if (mask & (IN_DELETE_SELF | IN_IGNORED)) forget(id);
    if (watch->autoAdd && (mask & IN_CREATE) && (mask & IN_ISDIR)) add(*watch, path);
  }
  void notify(const Watch& watch, const std::string& path, std::uint32_t mask) {
    for (const Callback& callback : watch.callbacks) {
      if (fd_) detail::ReactorImpl::guarded("a callback of INotify threw", [&] { callback(watch, path, mask); });
    }
  }
  // Watches a directory that is new, and later tells of what is in it: events come faster than watches are made.
  bool add(const Watch& parent, const std::string& path) {
    if (!fd_) return false;
    try {
      watch(path, parent.mask, true, parent.callbacks);
    } catch (const INotifyError& error) {
      if (!isGone(error)) kLog.failure("A new directory is not watched", Failure::current());
      return false;
    }
    boost::asio::post(reactor_.context, [self = weak_from_this(), path] {
      if (const auto impl = self.lock()) impl->addChildren(path);
    });
    return true;
  }
  void addChildren(const std::string& path) {
    const auto found = byPath_.find(path);
    if (found == byPath_.end()) return;
    const auto watch = watches_.at(found->second);
    std::error_code error;
    for (fs::directory_iterator child(path, error), end; !error && child != end; child.increment(error)) {
      const std::string name = child->path().string();
      if (isDirectory(name)) {
        if (add(*watch, name)) notify(*watch, name, IN_ISDIR | IN_CREATE);
      } else if (std::error_code ignored; child->is_regular_file(ignored)) {
        notify(*watch, name, IN_CREATE | IN_CLOSE_WRITE);
      }
      if (!fd_) return;
    }
  }
  void forget(int id) {
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;
    byPath_.erase(found->second->path);
    watches_.erase(found);
  }

  detail::ReactorImpl& reactor_;
  detail::UniqueFd fd_;
  std::map<int, std::shared_ptr<const Watch>> watches_;
  std::map<std::string, int> byPath_;
};

INotify::INotify(Reactor& reactor, std::source_location where) {
  detail::ReactorImpl& impl = detail::implOf(reactor);
  impl.checkUsable();
  impl_ = std::make_shared<Impl>(impl, where);
}
INotify::~INotify() {
  impl_->close();
}

void INotify::watch(const std::string& path, std::uint32_t mask, bool autoAdd, std::vector<Callback> callbacks,
                    bool recursive) {
  const std::string top = absolute(path);
  impl_->watch(top, mask, autoAdd, callbacks);
  if (recursive) impl_->watchBelow(top, mask, autoAdd, callbacks);
}
void INotify::ignore(const std::string& path) {
  impl_->ignore(absolute(path));
}

}  // namespace torsion
