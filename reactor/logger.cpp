#include <reactor/logger.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace torsion {

namespace {

constexpr std::array<std::string_view, 5> kLevelNames{"debug", "info", "warn", "error", "critical"};

spdlog::level::level_enum spdlogLevel(LogLevel level) {
  constexpr spdlog::level::level_enum levels[]{spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                               spdlog::level::err, spdlog::level::critical};
  return levels[static_cast<std::size_t>(level)];
}

void appendOneLine(std::string& out, std::string_view text) {
  for (char c : text) {
    if (c == '\n') {
      out += "\n\t";
    } else if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
}

// Not in spdlog's registry: a program that uses spdlog itself sees nothing of ours.
LogObserver standardErrorObserver() {
  auto out = std::make_shared<spdlog::logger>("torsion", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  out->set_level(spdlog::level::trace);
  out->set_pattern("%^%v%$");
  return [out](const LogEvent& event) { out->log(spdlogLevel(event.level), eventAsText(event)); };
}

LogValue lookUp(const LogEvent& event, std::string_view name) {
  if (name == "log_namespace") return event.logNamespace;
  if (name == "log_level") return std::string(logLevelName(event.level));
  if (name == "log_failure" && event.failure) return event.failure->getErrorMessage();
  if (const LogValue* value = event.field(name)) return *value;
  throw std::invalid_argument("there is no field \"" + std::string(name) + "\"");
}

}  // namespace

std::string_view logLevelName(LogLevel level) noexcept {
  return kLevelNames[static_cast<std::size_t>(level)];
}

LogLevel logLevelWithName(std::string_view name) {
  auto found = std::find(kLevelNames.begin(), kLevelNames.end(), name);
  if (found == kLevelNames.end()) {
    throw std::invalid_argument(
        fmt::format("unknown log level \"{}\": use debug, info, warn, error or critical", name));
  }
  return static_cast<LogLevel>(found - kLevelNames.begin());
}

LogValue LogField::value() const {
  if (auto* text = std::get_if<std::string_view>(&value_)) return std::string(*text);
  if (auto* integer = std::get_if<std::int64_t>(&value_)) return *integer;
  if (auto* number = std::get_if<double>(&value_)) return *number;
  if (auto* flag = std::get_if<bool>(&value_)) return *flag;
  return std::get<const Failure*>(value_)->getErrorMessage();
}

const LogValue* LogEvent::field(std::string_view key) const noexcept {
  for (const auto& [name, value] : fields) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string LogEvent::text() const {
  try {
    std::string out;
    std::string_view rest = format;
    while (!rest.empty()) {
      std::size_t plain = std::min(rest.find_first_of("{}"), rest.size());
      out += rest.substr(0, plain);
      rest.remove_prefix(plain);
      if (rest.empty()) break;
      if (rest.size() > 1 && rest[0] == rest[1]) {
        out += rest[0];
        rest.remove_prefix(2);
        continue;
      }
      std::size_t end = rest.find('}');
      if (rest[0] == '}' || end == std::string_view::npos) throw std::invalid_argument("single brace");
      std::string_view inside = rest.substr(1, end - 1);
      std::string_view name = inside.substr(0, inside.find(':'));
      const std::string replacement = "{" + std::string(inside.substr(name.size())) + "}";
      rest.remove_prefix(end + 1);
      std::visit([&](const auto& value) { out += fmt::format(fmt::runtime(replacement), value); }, lookUp(*this, name));
    }
    return out;
  } catch (const std::exception& e) {
    std::string text = "Unable to format \"" + format + "\": " + e.what();
    for (const auto& [key, value] : fields) {
      text += std::visit([&, &name = key](const auto& v) { return fmt::format("; {}={}", name, v); }, value);
    }
    return text;
  }
}

std::string eventAsText(const LogEvent& event) {
  std::string out =
      fmt::format("{:%Y-%m-%dT%H:%M:%S%z} [{}#{}] ", fmt::localtime(std::chrono::system_clock::to_time_t(event.time)),
                  event.logNamespace, logLevelName(event.level));
  appendOneLine(out, event.text());
  if (event.failure) appendOneLine(out, "\n" + event.failure->getTraceback());
  return out;
}

LogPublisher::LogPublisher(LogObserver fallback)
    : fallback_(std::make_shared<Observer>(Observer{0, std::move(fallback)})) {}

LogPublisher& LogPublisher::global() {
  // Never destroyed: what is destroyed after main() may still log.
  static LogPublisher* publisher = [] {
    auto* made = new LogPublisher(standardErrorObserver());
    setUnhandledFailureHandler(&logUnhandledFailure);
    return made;
  }();
  return *publisher;
}

LogPublisher::ObserverID LogPublisher::addObserver(LogObserver observer) {
  std::lock_guard lock(mutex_);
  observers_.push_back(std::make_shared<Observer>(Observer{nextID_, std::move(observer)}));
  return nextID_++;
}

void LogPublisher::removeObserver(ObserverID id) {
  std::lock_guard lock(mutex_);
  auto found = std::find_if(observers_.begin(), observers_.end(), [id](const auto& o) { return o->id == id; });
  if (found == observers_.end()) return;
  (*found)->removed = true;
  observers_.erase(found);
}

void LogPublisher::publish(const LogEvent& event) noexcept {
  try {
    std::lock_guard lock(mutex_);
    if (observers_.empty()) {
      if (fallback_) call(*fallback_, event);
      return;
    }
    // A copy, since observers may add and remove observers.
    auto observers = observers_;
    for (const auto& observer : observers) call(*observer, event);
  } catch (...) {
    std::fputs("torsion: a log event was lost: out of memory\n", stderr);
  }
}

void LogPublisher::call(Observer& observer, const LogEvent& event) noexcept {
  if (observer.busy || observer.removed) return;
  observer.busy = true;
  try {
    observer.call(event);
  } catch (...) {
    Logger("torsion.logger", *this).failure("A log observer failed", Failure::current());
  }
  observer.busy = false;
}

void Logger::publish(LogLevel level, std::string_view format, Fields fields, const Failure* failure) const noexcept {
  try {
    LogEvent event;
    event.level = level;
    event.logNamespace = namespace_;
    event.format = format;
    event.fields.reserve(fields.size());
    for (const LogField& field : fields) event.fields.emplace_back(field.key(), field.value());
    if (failure) event.failure = *failure;
    event.time = std::chrono::system_clock::now();
    publisher_->publish(event);
  } catch (...) {
    std::fputs("torsion: a log event was lost: out of memory\n", stderr);
  }
}

void logUnhandledFailure(std::string_view what, const Failure& failure, const std::source_location& made) {
  const std::string where = std::string(made.file_name()) + ":" + std::to_string(made.line());
  Logger("torsion.deferred")
      .failure("{what}: {error} (made at {made})", failure, {{"what", what}, {"error", failure}, {"made", where}});
}

}  // namespace torsion
