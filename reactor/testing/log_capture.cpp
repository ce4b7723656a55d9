#include <reactor/testing/log_capture.hpp>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

namespace torsion {

namespace {
std::atomic<LogCapture*> innermost{nullptr};
}

LogCapture::LogCapture(LogLevel level)
    : outer_(innermost.load()),
      outerLevel_(logLevel()),
      observer_(LogPublisher::global().addObserver([this](const LogEvent& event) {
        if (innermost.load() != this) return;
        std::lock_guard lock(mutex_);
        events_.push_back(event);
      })) {
  outerHandler_ = setUnhandledFailureHandler(&logUnhandledFailure);
  innermost = this;
  setLogLevel(level);
}

LogCapture::~LogCapture() {
  setLogLevel(outerLevel_);
  innermost = outer_;
  setUnhandledFailureHandler(outerHandler_);
  LogPublisher::global().removeObserver(observer_);
  if (!outer_) return;
  std::lock_guard lock(outer_->mutex_);
  std::copy_if(events_.begin(), events_.end(), std::back_inserter(outer_->events_),
               [](const LogEvent& event) { return event.failure.has_value(); });
}

std::vector<LogEvent> LogCapture::events() const {
  std::lock_guard lock(mutex_);
  return events_;
}

std::vector<std::string> LogCapture::takeErrorTexts() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> texts;
  std::erase_if(events_, [&](const LogEvent& event) {
    if (event.failure) texts.push_back(event.text() + "\n" + event.failure->getTraceback());
    return event.failure.has_value();
  });
  return texts;
}

std::vector<Failure> LogCapture::take(bool (*wanted)(const Failure&)) {
  std::lock_guard lock(mutex_);
  std::vector<Failure> taken;
  std::erase_if(events_, [&](const LogEvent& event) {
    if (!event.failure || !wanted(*event.failure)) return false;
    taken.push_back(*event.failure);
    return true;
  });
  return taken;
}

}  // namespace torsion
