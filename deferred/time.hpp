// Time: the one thing that timeouts, loops and retries need of a reactor. The Reactor and the test Clock implement it.
#pragma once

#include <chrono>
#include <source_location>
#include <utility>

#include <deferred/detail/require.hpp>
#include <deferred/function.hpp>

namespace torsion {

/// All times are std::chrono durations; a point in time is a Duration since the (arbitrary) start of its Time.
using Duration = std::chrono::nanoseconds;

/// A call scheduled with Time::callLater (Twisted's DelayedCall). A copyable handle: dropping it neither cancels the
/// call nor keeps it. One that outlives its Time, or was default-constructed, is inert: active() is false, the rest
/// does nothing.
class DelayedCall {
 public:
  /// What a Time keeps for each call; handles share it by reference count.
  class Entry {
   public:
    virtual void cancel() = 0;
    virtual void reset(Duration fromNow) = 0;
    virtual void delay(Duration extra) = 0;
    virtual bool active() const noexcept = 0;
    virtual Duration getTime() const noexcept = 0;
    virtual std::source_location where() const noexcept = 0;
    virtual void ref() noexcept = 0;
    virtual void unref() noexcept = 0;

   protected:
    ~Entry() = default;
  };

  DelayedCall() noexcept = default;
  /// Takes a new reference to `entry`.
  explicit DelayedCall(Entry& entry) noexcept : entry_(&entry) { entry_->ref(); }
  DelayedCall(const DelayedCall& other) noexcept : entry_(other.entry_) {
    if (entry_) entry_->ref();
  }
  DelayedCall(DelayedCall&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  DelayedCall& operator=(DelayedCall other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
  }
  ~DelayedCall() {
    if (entry_) entry_->unref();
  }

  /// Cancels the call; its callable is destroyed before this returns.
  /// Throws AlreadyCalled or AlreadyCancelled, as reset() and delay() do.
  void cancel() {
    if (entry_) entry_->cancel();
  }
  /// Moves the call to `fromNow` from now, earlier or later.
  void reset(Duration fromNow) {
    if (entry_) entry_->reset(fromNow);
  }
  /// Moves the call by `extra` from the time it is scheduled for; negative is earlier.
  void delay(Duration extra) {
    if (entry_) entry_->delay(extra);
  }
  /// True until it has been called or cancelled.
  bool active() const noexcept { return entry_ && entry_->active(); }
  /// When it is (or was) due, on the clock of its Time.
  Duration getTime() const noexcept { return entry_ ? entry_->getTime() : Duration::zero(); }
  /// Where callLater was called.
  std::source_location where() const noexcept { return entry_ ? entry_->where() : std::source_location(); }

 private:
  Entry* entry_ = nullptr;
};

/// Twisted's IReactorTime.
class Time {
 public:
  /// Now. Monotonic; taken once a turn of the reactor, so that it does not move within one callback.
  virtual Duration seconds() const = 0;

  /// Calls f() once, `delay` from now, never before this returns. Equal times run in the order they were scheduled.
  /// Throws std::invalid_argument for a negative delay, and for an empty f.
  DelayedCall callLater(Duration delay, UniqueFunction<void()> f,
                        std::source_location where = std::source_location::current()) {
    detail::require(f, "callLater: there is no function to call");
    return schedule(delay, std::move(f), where);
  }

 protected:
  ~Time() = default;

 private:
  /// `where` names the caller in reports of calls left over.
  virtual DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) = 0;
};

}  // namespace torsion
