// DeferredFilesystemLock: waiting for a lock between processes (twisted.internet.defer).
#pragma once

#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/time.hpp>
#include <reactor/lockfile.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// deferUntilLocked() was called while another call of it still waits.
struct AlreadyTryingToLockError : std::logic_error {
  AlreadyTryingToLockError()
      : logic_error("deferUntilLocked: this lock is being waited for already; use another object for another waiter") {}
};

/// A FilesystemLock that can be waited for: it is tried again each second.
///
///   DeferredFilesystemLock lock("/run/app/spool.lock");
///   lock.deferUntilLocked(30s).addCallback([&] {
///     sweep();
///     lock.unlock();
///   });
class DeferredFilesystemLock : public FilesystemLock {
 public:
  explicit DeferredFilesystemLock(std::string name, Time& time = reactor())
      : FilesystemLock(std::move(name)), time_(time) {}
  /// Releases it, if it is held; what waits for it fails with BrokenDeferred.
  ~DeferredFilesystemLock();

  /// Fires when this object holds the lock, at once if it is free. Fails with TimeoutError after `timeout`,
  /// AlreadyTryingToLockError, or std::system_error where the lock cannot be made. cancel() ends the wait.
  Deferred<void> deferUntilLocked(std::optional<Duration> timeout = {},
                                  std::source_location where = std::source_location::current());

 private:
  void tryLock(const Resolver<void>& resolver, std::optional<Duration> timeout);
  void timedOut(const Resolver<void>& resolver, Duration limit);
  void endCalls();

  Time& time_;
  DelayedCall tryLockCall_;
  DelayedCall timeoutCall_;
};

}  // namespace torsion
