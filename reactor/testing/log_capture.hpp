// LogCapture: what was logged while a test ran (twisted.logger.capturedLogs, and trial's flushLoggedErrors).
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include <deferred/failure.hpp>
#include <reactor/logger.hpp>

namespace torsion {

/// Collects the events of all Loggers and threads while it exists, and with them the Failures that no errback handled.
/// Nothing is written to standard error meanwhile. Of several the one made last collects; those that end must be the
/// ones made last. Errors left in it when it ends go to the one outside it, if there is one.
class LogCapture {
 public:
  /// Lowers (or raises) the program's log level to `level` while it exists.
  explicit LogCapture(LogLevel level = LogLevel::debug);
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  ~LogCapture();

  std::vector<LogEvent> events() const;

  /// Takes out the events that carry a Failure, and gives their Failures: all of them, or those that are one of E. A
  /// test that expects errors to be logged says so with this.
  template <class... E>
  std::vector<Failure> flushLoggedErrors() {
    return take([](const Failure& failure) { return sizeof...(E) == 0 || failure.check<E...>(); });
  }
  /// Takes out the same, as texts: the message and the Failure's traceback. What a fixture fails its test with.
  std::vector<std::string> takeErrorTexts();

 private:
  std::vector<Failure> take(bool (*wanted)(const Failure&));

  mutable std::mutex mutex_;
  std::vector<LogEvent> events_;
  LogCapture* outer_;
  LogLevel outerLevel_;
  UnhandledFailureHandler outerHandler_;
  LogPublisher::ObserverID observer_;
};

}  // namespace torsion
