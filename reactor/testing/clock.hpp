// Clock: a Time that stands still until a test moves it (twisted.internet.task.Clock).
#pragma once

#include <initializer_list>
#include <source_location>
#include <vector>

#include <deferred/time.hpp>
#include <reactor/detail/timer_queue.hpp>

namespace torsion {

/// Give it wherever a function takes a Time, then advance() it. Starts at 0.
class Clock final : public Time {
 public:
  Clock();

  Duration seconds() const override { return now_; }

  /// Moves the clock by `amount` in one step, then runs every call that is due, in order of time (equal times in the
  /// order they were scheduled or last moved), until none is: also those that these calls schedule. seconds() is the
  /// new time in all of them. What a call throws comes out of advance(), and the calls after it stay scheduled. Throws
  /// std::invalid_argument for a negative amount, and for one that goes beyond Duration::max().
  void advance(Duration amount);
  /// advance() by each of the amounts in turn.
  void pump(std::initializer_list<Duration> amounts);
  void pump(const std::vector<Duration>& amounts);

  /// The calls that are scheduled, in the order in which they will run.
  std::vector<DelayedCall> getDelayedCalls() const { return calls_->pending(); }

 private:
  DelayedCall schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) override;

  Duration now_{0};
  detail::TimerQueue::Pointer calls_;
};

}  // namespace torsion
