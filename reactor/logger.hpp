// Logger: levelled messages with named fields, readable by people and by programs (twisted.logger).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <deferred/failure.hpp>

namespace torsion {

enum class LogLevel : std::uint8_t { debug, info, warn, error, critical };

/// "debug", "info", ...
std::string_view logLevelName(LogLevel level) noexcept;
/// The level of that name. Throws std::invalid_argument, whose text lists the names.
LogLevel logLevelWithName(std::string_view name);

/// Events below `level` are dropped, by all Loggers of the program; at first those below info. Dropping costs two
/// compares: nothing is formatted, copied or allocated.
void setLogLevel(LogLevel level) noexcept;
LogLevel logLevel() noexcept;
/// Another level for Loggers of this namespace and those below it: setLogLevelForNamespace("shop", LogLevel::debug) is
/// for "shop" and "shop.orders", but not for "shopping". The longest name counts; "" is setLogLevel(). At any time,
/// from any thread (twisted.logger.LogLevelFilterPredicate).
void setLogLevelForNamespace(std::string_view logNamespace, LogLevel level);
LogLevel logLevelForNamespace(std::string_view logNamespace) noexcept;
/// Forgets the levels of all namespaces; logLevel() is info again.
void clearLogLevels() noexcept;

namespace detail {

/// Grows when a level has been set.
inline std::atomic<std::uint32_t> logLevelChanges{0};

/// The level that counts for a namespace, looked up again when one has been set.
class LogThreshold {
 public:
  LogThreshold() noexcept = default;
  LogThreshold(const LogThreshold&) noexcept {}
  LogThreshold& operator=(const LogThreshold&) noexcept {
    known_.store(kUnknown, std::memory_order_relaxed);
    return *this;
  }
  bool lets(LogLevel level, const std::string& logNamespace) const noexcept {
    std::uint64_t known = known_.load(std::memory_order_relaxed);
    if (known >> 8 != logLevelChanges.load(std::memory_order_relaxed)) known = lookUp(logNamespace);
    return static_cast<std::uint8_t>(level) >= static_cast<std::uint8_t>(known);
  }

 private:
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
  std::uint64_t lookUp(const std::string& logNamespace) const noexcept;
  mutable std::atomic<std::uint64_t> known_{kUnknown};  // the number of changes, and the level in the last eight bits
};

}  // namespace detail

/// What a field holds once it is in an event.
using LogValue = std::variant<std::string, std::int64_t, double, bool>;

/// A field as it is given to a Logger: a name, and a string, an integer (kept as int64), a floating point number, a
/// bool or a Failure (kept as its error message). Refers to strings and Failures; copies nothing until the event is
/// made.
class LogField {
 public:
  template <class T>
  LogField(std::string_view key, const T& value) noexcept : key_(key), value_(kept(value)) {}

  std::string_view key() const noexcept { return key_; }
  LogValue value() const;

 private:
  template <class T>
  static constexpr auto kept(const T& value) noexcept {
    if constexpr (std::is_same_v<T, bool>) {
      return value;
    } else if constexpr (std::is_floating_point_v<T>) {
      return static_cast<double>(value);
    } else if constexpr (std::is_integral_v<T>) {
      return static_cast<std::int64_t>(value);
    } else if constexpr (std::is_same_v<T, Failure>) {
      return &value;
    } else {
      static_assert(std::is_convertible_v<const T&, std::string_view>,
                    "LogField: the value is a string, an integer, a floating point number, a bool or a Failure");
      return static_cast<std::string_view>(value);
    }
  }

  std::string_view key_;
  std::variant<std::string_view, std::int64_t, double, bool, const Failure*> value_;
};

/// What observers get.
struct LogEvent {
  LogLevel level = LogLevel::info;
  std::string logNamespace;
  std::string format;
  std::vector<std::pair<std::string, LogValue>> fields;
  std::optional<Failure> failure;
  std::chrono::system_clock::time_point time;

  /// The field of that name, or null.
  const LogValue* field(std::string_view key) const noexcept;
  /// The message: each {name} of the format replaced by that field, {{ and }} by braces. {name:spec} takes a spec as
  /// std::format does; {log_namespace}, {log_level} and {log_failure} are there too. Never throws for a bad format:
  /// the text then says what is wrong with it.
  std::string text() const;
};

/// "2026-10-22T14:19:11+0000 [namespace#level] text", and the failure's traceback. Line ends within are followed by a
/// tab and control characters are escaped, so that what a peer sent cannot pass for another event.
std::string eventAsText(const LogEvent& event);
/// One line of JSON: {"log_time":1792678751.25,"log_level":"info","log_namespace":"shop","log_format":"{n} orders",
/// "log_text":"3 orders","n":3}. Fields keep their types, unless they are named as one of the event's own, or are no
/// number (NaN); what is not UTF-8 becomes U+FFFD. With a failure, also
/// "log_failure":{"type":"std::runtime_error","message":"...","trail":["shop.cpp:12"]}.
std::string eventAsJSON(const LogEvent& event);

using LogObserver = std::function<void(const LogEvent&)>;

/// Hands each event to all its observers, one at a time, in the thread that logs (twisted.logger.LogPublisher).
class LogPublisher {
 public:
  using ObserverID = std::uint64_t;

  LogPublisher() = default;
  /// `fallback` is called while there is no other observer.
  explicit LogPublisher(LogObserver fallback);
  LogPublisher(const LogPublisher&) = delete;
  LogPublisher& operator=(const LogPublisher&) = delete;

  /// The program's, which Loggers use unless told otherwise. As long as it has no observer, it writes eventAsText() to
  /// standard error.
  static LogPublisher& global();

  /// What `observer` throws is logged to the other observers and goes no further. It may itself log (it does not get
  /// those events), add and remove observers.
  ObserverID addObserver(LogObserver observer);
  /// When this returns, the observer is not running in another thread and will not be called again. Unknown ids are
  /// ignored.
  void removeObserver(ObserverID id);

  void publish(const LogEvent& event) noexcept;

 private:
  struct Observer {
    ObserverID id;
    LogObserver call;
    bool busy = false;
    bool removed = false;
  };
  void call(Observer& observer, const LogEvent& event) noexcept;

  std::recursive_mutex mutex_;
  std::vector<std::shared_ptr<Observer>> observers_;
  std::shared_ptr<Observer> fallback_;
  ObserverID nextID_ = 1;
};

/// Emits events under a namespace. May be used from any thread, also before main() and after it.
///
///   static Logger log("shop.orders");
///   log.info("{count} orders from {peer}", {{"count", orders.size()}, {"peer", name}});
///
/// The first Logger made takes over the Failures that no Deferred's errback handled: see logUnhandledFailure.
class Logger {
 public:
  explicit Logger(std::string logNamespace, LogPublisher& publisher = LogPublisher::global())
      : namespace_(std::move(logNamespace)), publisher_(&publisher) {}

  using Fields = std::initializer_list<LogField>;

  void debug(std::string_view format, Fields fields = {}) const { emit(LogLevel::debug, format, fields); }
  void info(std::string_view format, Fields fields = {}) const { emit(LogLevel::info, format, fields); }
  void warn(std::string_view format, Fields fields = {}) const { emit(LogLevel::warn, format, fields); }
  void error(std::string_view format, Fields fields = {}) const { emit(LogLevel::error, format, fields); }
  void critical(std::string_view format, Fields fields = {}) const { emit(LogLevel::critical, format, fields); }

  /// Logs an error nobody expected, with its traceback. In a catch block: log.failure("...", Failure::current()).
  void failure(std::string_view format, const Failure& failure, Fields fields = {},
               LogLevel level = LogLevel::critical) const {
    if (threshold_.lets(level, namespace_)) publish(level, format, fields, &failure);
  }
  void emit(LogLevel level, std::string_view format, Fields fields = {}) const {
    if (threshold_.lets(level, namespace_)) publish(level, format, fields, nullptr);
  }

  const std::string& logNamespace() const noexcept { return namespace_; }

 private:
  void publish(LogLevel level, std::string_view format, Fields fields, const Failure* failure) const noexcept;

  std::string namespace_;
  LogPublisher* publisher_;
  detail::LogThreshold threshold_;
};

/// Logs a Failure that no errback handled as critical, under "torsion.deferred", with the fields "what", "error" and
/// "made" (where its Deferred was made). Set with setUnhandledFailureHandler when LogPublisher::global() is first used.
void logUnhandledFailure(std::string_view what, const Failure& failure, const std::source_location& made);

}  // namespace torsion
