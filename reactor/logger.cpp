#include <reactor/logger.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <stdexcept>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <reactor/detail/report.hpp>

namespace torsion {

namespace {

constexpr std::array<std::string_view, 5> kLevelNames{"debug", "info", "warn", "error", "critical"};

spdlog::level::level_enum spdlogLevel(LogLevel level) {
  constexpr spdlog::level::level_enum levels[]{spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                               spdlog::level::err, spdlog::level::critical};
  return levels[static_cast<std::size_t>(level)];
}

// Control characters are escaped, also those that take two bytes in UTF-8: terminals obey them, too.
void appendOneLine(std::string& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte == '\n') {
      out += "\n\t";
    } else if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
      out += fmt::format("\\x{:02x}", next);
      ++i;
    } else {
      out += text[i];
    }
  }
}

// The length of the character of UTF-8 that `text` begins with; 0 if it is none.
std::size_t characterLength(std::string_view text) {
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const std::size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  // No overlong forms, surrogates, or beyond U+10FFFF.
  const unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at(1) < least || at(1) > most) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

std::string asUTF8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = characterLength(text);
    out += length == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

boost::json::value asJSON(const LogValue& value) {
  if (auto* text = std::get_if<std::string>(&value)) return boost::json::string(asUTF8(*text));
  if (auto* number = std::get_if<double>(&value); number && !std::isfinite(*number)) {
    return boost::json::string(fmt::format("{}", *number));
  }
  return std::visit([](const auto& v) { return boost::json::value(v); }, value);
}

// The levels that were set. Never destroyed: what is destroyed after main() may still log.
struct Levels {
  std::mutex mutex;
  LogLevel other = LogLevel::info;
  std::map<std::string, LogLevel, std::less<>> byNamespace;

  static Levels& get() {
    static auto* const levels = new Levels;
    return *levels;
  }
  LogLevel of(std::string_view name) const {
    while (!byNamespace.empty()) {
      if (const auto found = byNamespace.find(name); found != byNamespace.end()) return found->second;
      const std::size_t dot = name.rfind('.');
      if (dot == std::string_view::npos) break;
      name = name.substr(0, dot);
    }
    return other;
  }
};

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

void setLogLevel(LogLevel level) noexcept {
  const std::lock_guard lock(Levels::get().mutex);
  Levels::get().other = level;
  ++detail::logLevelChanges;
}

LogLevel logLevel() noexcept {
  const std::lock_guard lock(Levels::get().mutex);
  return Levels::get().other;
}

void setLogLevelForNamespace(std::string_view logNamespace, LogLevel level) {
  if (logNamespace.empty()) return setLogLevel(level);
  const std::lock_guard lock(Levels::get().mutex);
  Levels::get().byNamespace.insert_or_assign(std::string(logNamespace), level);
  ++detail::logLevelChanges;
}

LogLevel logLevelForNamespace(std::string_view logNamespace) noexcept {
  const std::lock_guard lock(Levels::get().mutex);
  return Levels::get().of(logNamespace);
}

void clearLogLevels() noexcept {
  const std::lock_guard lock(Levels::get().mutex);
  Levels::get().byNamespace.clear();
  Levels::get().other = LogLevel::info;
  ++detail::logLevelChanges;
}

std::uint64_t detail::LogThreshold::lookUp(const std::string& logNamespace) const noexcept {
  const std::lock_guard lock(Levels::get().mutex);
  const auto level = static_cast<std::uint8_t>(Levels::get().of(logNamespace));
  const std::uint64_t known = std::uint64_t{logLevelChanges.load()} << 8 | level;
  known_.store(known, std::memory_order_relaxed);
  return known;
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

std::string eventAsJSON(const LogEvent& event) {
  const std::chrono::duration<double> time = event.time.time_since_epoch();
  boost::json::object out{{"log_time", time.count()},
                          {"log_level", std::string(logLevelName(event.level))},
                          {"log_namespace", asUTF8(event.logNamespace)},
                          {"log_format", asUTF8(event.format)},
                          {"log_text", asUTF8(event.text())}};
  if (event.failure) {
    boost::json::array trail;
    for (const auto& where : event.failure->trail()) {
      trail.emplace_back(asUTF8(fmt::format("{}:{}", where.file_name(), where.line())));
    }
    out["log_failure"] = {{"type", detail::typeName(event.failure->type())},
                          {"message", asUTF8(event.failure->getErrorMessage())},
                          {"trail", std::move(trail)}};
  }
  // emplace() leaves alone what is there.
  for (const auto& [name, value] : event.fields) out.emplace(asUTF8(name), asJSON(value));
  return boost::json::serialize(out);
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
