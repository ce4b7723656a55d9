// The exceptions that Deferreds and timers raise by themselves. Twisted's names, from twisted.internet.defer and
// .error.
#pragma once

#include <stdexcept>
#include <string>

namespace torsion {

/// callback() or errback() of a Deferred that has fired already. A bug in the caller.
struct AlreadyCalledError : std::logic_error {
  using logic_error::logic_error;
};

/// What a cancelled Deferred fails with, unless its canceller fires something else.
struct CancelledError : std::runtime_error {
  CancelledError() : runtime_error("cancelled") {}
  using runtime_error::runtime_error;
};

/// A time limit passed: addTimeout, getPage's timeout. (A connection attempt's own limit is ConnectTimeoutError.)
struct TimeoutError : std::runtime_error {
  TimeoutError() : runtime_error("timed out") {}
  using runtime_error::runtime_error;
};

/// The last Resolver of a Deferred went away without firing it, so that nobody could ever have fired it.
struct BrokenDeferred : std::logic_error {
  BrokenDeferred() : logic_error("the Resolver was dropped without being fired") {}
  using logic_error::logic_error;
};

/// cancel(), reset() or delay() of a DelayedCall that has run.
struct AlreadyCalled : std::logic_error {
  AlreadyCalled() : logic_error("the call has already run") {}
};

/// cancel(), reset() or delay() of a DelayedCall that was cancelled.
struct AlreadyCancelled : std::logic_error {
  AlreadyCancelled() : logic_error("the call has already been cancelled") {}
};

/// DeferredQueue::put when the queue already holds `size` values.
struct QueueOverflow : std::runtime_error {
  QueueOverflow() : runtime_error("the queue is full") {}
};

/// DeferredQueue::get when `backlog` callers already wait.
struct QueueUnderflow : std::runtime_error {
  QueueUnderflow() : runtime_error("too many callers wait for the queue") {}
};

}  // namespace torsion
