#include <reactor/testing/clock.hpp>

#include <stdexcept>
#include <utility>

namespace torsion {

Clock::Clock() : calls_(detail::TimerQueue::create(*this)) {}

void Clock::advance(Duration amount) {
  if (amount < Duration::zero()) throw std::invalid_argument("Clock::advance: a negative amount");
  if (amount > Duration::max() - now_) throw std::invalid_argument("Clock::advance: beyond the end of time");
  now_ += amount;
  // now_ is read anew for each: a call may advance the clock itself.
  while (calls_->runNext(now_)) {
  }
}

void Clock::pump(std::initializer_list<Duration> amounts) {
  for (Duration amount : amounts) advance(amount);
}

void Clock::pump(const std::vector<Duration>& amounts) {
  for (Duration amount : amounts) advance(amount);
}

DelayedCall Clock::schedule(Duration delay, UniqueFunction<void()> f, std::source_location where) {
  return calls_->schedule(now_, delay, std::move(f), where);
}

}  // namespace torsion
