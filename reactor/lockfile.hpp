// A lock between processes (twisted.python.lockfile): a symbolic link that names its holder.
#pragma once

#include <string>
#include <utility>

namespace torsion {

/// A mutex in the file system. It goes with Twisted's: a Python program and this one exclude each other.
///
///   FilesystemLock lock("/run/app/sock.lock");
///   if (!lock.lock()) std::cerr << "another one is running\n";
class FilesystemLock {
 public:
  explicit FilesystemLock(std::string name) : name_(std::move(name)) {}
  /// Releases it.
  ~FilesystemLock();
  FilesystemLock(const FilesystemLock&) = delete;
  FilesystemLock& operator=(const FilesystemLock&) = delete;

  /// Takes the lock; false if a running process (perhaps this one) holds it. A lock whose holder is gone is taken over.
  /// Throws std::system_error where the link cannot be made.
  bool lock();
  /// Releases it. Throws std::logic_error if this object does not hold it.
  void unlock();
  bool locked() const noexcept { return locked_; }
  /// Known after lock(): the holder before released it, rather than died.
  bool clean() const noexcept { return clean_; }
  const std::string& name() const noexcept { return name_; }

 private:
  const std::string name_;
  bool locked_ = false;
  bool clean_ = true;
};

/// Does a running process hold the lock of this name?
bool isLocked(const std::string& name);

}  // namespace torsion
