#include <reactor/filesystem_lock.hpp>

#include <chrono>

#include <deferred/errors.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/report.hpp>

namespace torsion {

DeferredFilesystemLock::~DeferredFilesystemLock() {
  endCalls();
}

void DeferredFilesystemLock::endCalls() {
  if (tryLockCall_.active()) tryLockCall_.cancel();
  if (timeoutCall_.active()) timeoutCall_.cancel();
}

Deferred<void> DeferredFilesystemLock::deferUntilLocked(std::optional<Duration> timeout, std::source_location where) {
  if (tryLockCall_.active()) return fail<void>(AlreadyTryingToLockError(), where);
  Resolver<void> resolver(where);
  resolver.onCancel([this](const Resolver<void>&) { endCalls(); });
  tryLock(resolver, timeout);
  return resolver.deferred();
}

// The calls alone keep the Resolver: where their Time drops them, the Deferred fails.
void DeferredFilesystemLock::tryLock(const Resolver<void>& resolver, std::optional<Duration> timeout) {
  try {
    if (!lock()) {
      if (timeout) {
        timeoutCall_ = time_.callLater(*timeout, [this, resolver, limit = *timeout] { timedOut(resolver, limit); });
      }
      tryLockCall_ = time_.callLater(std::chrono::seconds(1), [this, resolver] { tryLock(resolver, {}); });
      return;
    }
  } catch (...) {
    endCalls();
    return resolver.errback(Failure::current());
  }
  endCalls();
  resolver.callback();
}

void DeferredFilesystemLock::timedOut(const Resolver<void>& resolver, Duration limit) {
  endCalls();
  try {
    if (!lock()) {
      throw TimeoutError("the lock " + name() + " is still held after " + detail::seconds(limit) +
                         "; its link names the process that holds it");
    }
  } catch (...) {
    return resolver.errback(Failure::current());
  }
  resolver.callback();
}

}  // namespace torsion
