#include <reactor/lockfile.hpp>

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>

namespace torsion {
namespace {

// The process that the link names: 0 if there is no link, -1 if it names none.
pid_t holderOf(const std::string& name) {
  char target[32];
  const ssize_t size = ::readlink(name.c_str(), target, sizeof target);
  if (size < 0) {
    if (errno == ENOENT) return 0;
    throw std::system_error(errno, std::system_category(), "cannot read the lock " + name);
  }
  pid_t pid = -1;
  const auto end = target + size;
  return std::from_chars(target, end, pid).ptr == end && pid > 0 ? pid : -1;
}

bool isRunning(pid_t pid) {
  return ::kill(pid, 0) == 0 || errno != ESRCH;
}

}  // namespace

FilesystemLock::~FilesystemLock() {
  if (locked_ && holderOf(name_) == ::getpid()) ::unlink(name_.c_str());
}

bool FilesystemLock::lock() {
  bool clean = true;
  while (::symlink(std::to_string(::getpid()).c_str(), name_.c_str()) != 0) {
    if (errno != EEXIST) throw std::system_error(errno, std::system_category(), "cannot take the lock " + name_);
    const pid_t holder = holderOf(name_);
    if (holder == 0) continue;  // released just now
    if (holder < 0) throw std::runtime_error(name_ + " is not a lock: it does not name a process");
    if (isRunning(holder)) return false;
    if (::unlink(name_.c_str()) != 0) {
      if (errno == ENOENT) continue;  // another process was faster
      throw std::system_error(errno, std::system_category(), "cannot clear away the lock " + name_);
    }
    clean = false;
  }
  locked_ = true;
  clean_ = clean;
  return true;
}

void FilesystemLock::unlock() {
  if (!locked_ || holderOf(name_) != ::getpid()) throw std::logic_error("unlock: " + name_ + " is not held here");
  locked_ = false;
  ::unlink(name_.c_str());
}

bool isLocked(const std::string& name) {
  const pid_t holder = holderOf(name);
  return holder > 0 && isRunning(holder);
}

}  // namespace torsion
