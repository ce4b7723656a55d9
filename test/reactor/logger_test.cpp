#include <reactor/logger.hpp>

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <unistd.h>
#include <boost/json/parse.hpp>

using namespace torsion;

namespace {

// A publisher of its own, and what it published.
struct Fixture {
  Fixture() {
    publisher.addObserver([this](const LogEvent& event) { events.push_back(event); });
  }
  LogEvent& last() {
    REQUIRE(!events.empty());
    return events.back();
  }

  LogPublisher publisher;
  std::vector<LogEvent> events;
  Logger log{"test.logger", publisher};
};

struct LevelGuard {
  ~LevelGuard() { clearLogLevels(); }
};

std::string format(std::string text, std::vector<std::pair<std::string, LogValue>> fields = {}) {
  LogEvent event;
  event.logNamespace = "ns";
  event.format = std::move(text);
  event.fields = std::move(fields);
  return event.text();
}

// What `f` wrote to standard error.
template <class F>
std::string standardErrorOf(F f) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  int saved = dup(2);
  dup2(ends[1], 2);
  close(ends[1]);
  f();
  dup2(saved, 2);
  close(saved);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, n);
  close(ends[0]);
  return text;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "Logger: each level's method emits an event with level, namespace, format and fields") {
  LevelGuard guard;
  setLogLevel(LogLevel::debug);
  using Method = void (Logger::*)(std::string_view, Logger::Fields) const;
  const std::pair<Method, LogLevel> methods[] = {{&Logger::debug, LogLevel::debug},
                                                 {&Logger::info, LogLevel::info},
                                                 {&Logger::warn, LogLevel::warn},
                                                 {&Logger::error, LogLevel::error},
                                                 {&Logger::critical, LogLevel::critical}};
  for (auto [method, level] : methods) {
    (log.*method)("This is a {level_name} message", {{"level_name", logLevelName(level)}, {"junk", "x"}});
    CHECK(last().level == level);
    CHECK(last().logNamespace == "test.logger");
    CHECK(last().format == "This is a {level_name} message");
    CHECK(last().fields.size() == 2);
    CHECK(*last().field("junk") == LogValue(std::string("x")));
    CHECK(last().field("other") == nullptr);
    CHECK_FALSE(last().failure);
    CHECK(last().text() == "This is a " + std::string(logLevelName(level)) + " message");
  }
  CHECK(log.logNamespace() == "test.logger");
}

TEST_CASE_FIXTURE(Fixture, "Logger: fields are strings, integers, numbers, bools and Failures") {
  const std::string text = "a string";
  const Failure failure = std::runtime_error("broken");
  log.info("", {{"s", text},
                {"view", std::string_view("v")},
                {"literal", "l"},
                {"int", -5},
                {"size", sizeof(int)},
                {"float", 1.5f},
                {"bool", true},
                {"failure", failure}});
  CHECK(*last().field("s") == LogValue(text));
  CHECK(*last().field("view") == LogValue(std::string("v")));
  CHECK(*last().field("literal") == LogValue(std::string("l")));
  CHECK(*last().field("int") == LogValue(std::int64_t{-5}));
  CHECK(*last().field("size") == LogValue(std::int64_t{sizeof(int)}));
  CHECK(*last().field("float") == LogValue(1.5));
  CHECK(*last().field("bool") == LogValue(true));
  CHECK(*last().field("failure") == LogValue(std::string("broken")));
}

TEST_CASE_FIXTURE(Fixture, "Logger::failure: critical, with the failure") {
  try {
    throw std::runtime_error("baloney!");
  } catch (...) {
    log.failure("Whoops {n}", Failure::current(), {{"n", 1}});
  }
  CHECK(last().level == LogLevel::critical);
  CHECK(last().text() == "Whoops 1");
  REQUIRE(last().failure);
  CHECK(last().failure->check<std::runtime_error>());

  log.failure("less", std::logic_error("x"), {}, LogLevel::warn);
  CHECK(last().level == LogLevel::warn);
}

TEST_CASE_FIXTURE(Fixture, "Logger: fields named like the event's own do not pass for them") {
  log.warn("{log_level} {log_namespace}", {{"log_level", "error"}, {"log_namespace", "*"}});
  CHECK(last().level == LogLevel::warn);
  CHECK(last().text() == "warn test.logger");
}

TEST_CASE_FIXTURE(Fixture, "Logger: events below the log level are dropped") {
  LevelGuard guard;
  CHECK(logLevel() == LogLevel::info);
  log.debug("no");
  CHECK(events.empty());
  setLogLevel(LogLevel::error);
  log.warn("no");
  log.failure("no", std::runtime_error("x"), {}, LogLevel::info);
  CHECK(events.empty());
  log.error("yes");
  CHECK(events.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "Logger: a dropped event's arguments are not looked at") {
  LevelGuard guard;
  setLogLevelForNamespace("test.other", LogLevel::debug);
  static int looks = 0;
  struct Counted : std::exception {
    const char* what() const noexcept override {
      ++looks;
      return "x";
    }
  };
  const Failure failure = Counted();
  for (int i = 0; i < 1000; ++i) log.debug("{i} {failure}", {{"i", i}, {"failure", failure}});
  CHECK(looks == 0);
  log.info("{failure}", {{"failure", failure}});
  CHECK(looks == 1);
  CHECK(events.size() == 1);
}

TEST_CASE("log levels of namespaces: the longest prefix of whole names counts") {
  LevelGuard guard;
  CHECK(logLevelForNamespace("") == LogLevel::info);
  CHECK(logLevelForNamespace("rocker.cool.namespace") == LogLevel::info);
  setLogLevelForNamespace("", LogLevel::error);
  setLogLevelForNamespace("twext.web2", LogLevel::debug);
  setLogLevelForNamespace("twext.web2.dav", LogLevel::warn);
  CHECK(logLevel() == LogLevel::error);
  CHECK(logLevelForNamespace("") == LogLevel::error);
  CHECK(logLevelForNamespace("twisted") == LogLevel::error);
  CHECK(logLevelForNamespace("twext") == LogLevel::error);
  CHECK(logLevelForNamespace("twext.web2") == LogLevel::debug);
  CHECK(logLevelForNamespace("twext.web2x") == LogLevel::error);
  CHECK(logLevelForNamespace("twext.web2.dav") == LogLevel::warn);
  CHECK(logLevelForNamespace("twext.web2.dav.test1.test2") == LogLevel::warn);
  clearLogLevels();
  CHECK(logLevelForNamespace("twext.web2.dav") == LogLevel::info);
  CHECK(logLevel() == LogLevel::info);
}

TEST_CASE("log levels of namespaces: Loggers follow them, also those that were made before, and copies") {
  LevelGuard guard;
  LogPublisher publisher;
  std::vector<std::string> heard;
  publisher.addObserver([&](const LogEvent& event) { heard.push_back(event.logNamespace); });
  const Logger client("http.client", publisher);
  const Logger pool("http.client.pool", publisher);
  const Logger server("http.server", publisher);
  Logger assigned("other", publisher);
  const auto all = [&] {
    heard.clear();
    for (const Logger* log : {&client, &pool, &server}) log->debug("x");
    return heard;
  };
  CHECK(all().empty());
  setLogLevelForNamespace("http.client", LogLevel::debug);
  CHECK(all() == std::vector<std::string>{"http.client", "http.client.pool"});
  setLogLevelForNamespace("http.client.pool", LogLevel::critical);
  CHECK(all() == std::vector<std::string>{"http.client"});
  assigned.debug("x");
  assigned = client;
  assigned.debug("x");
  CHECK(heard.size() == 2);
  pool.failure("x", std::runtime_error("x"), {}, LogLevel::error);
  CHECK(heard.size() == 2);
  clearLogLevels();
  CHECK(all().empty());
}

TEST_CASE("log levels may be set while other threads log") {
  LevelGuard guard;
  LogPublisher publisher;
  const Logger log("a.b", publisher);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) log.debug("{i}", {{"i", i}});
    });
  }
  for (int i = 0; i < 300; ++i) setLogLevelForNamespace("a", i % 2 == 0 ? LogLevel::debug : LogLevel::error);
  for (auto& thread : threads) thread.join();
  int heard = 0;
  publisher.addObserver([&](const LogEvent&) { ++heard; });
  log.debug("x");
  setLogLevelForNamespace("a", LogLevel::debug);
  log.debug("x");
  CHECK(heard == 1);
}

TEST_CASE("LogLevel: names") {
  for (auto level : {LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error, LogLevel::critical}) {
    CHECK(logLevelWithName(logLevelName(level)) == level);
  }
  CHECK_THROWS_WITH_AS(logLevelWithName("*bogus*"),
                       "unknown log level \"*bogus*\": use debug, info, warn, error or critical",
                       std::invalid_argument);
}

TEST_CASE("LogEvent::text") {
  CHECK(format("") == "");
  CHECK(format("plain") == "plain");
  CHECK(format("{x}", {{"x", std::string("abc")}}) == "abc");
  CHECK(format("{{{x}}}", {{"x", std::int64_t{7}}}) == "{7}");
  CHECK(format("{ms:.1f} ms, {ok}, [{n:>5}]", {{"ms", 2.25}, {"ok", true}, {"n", std::int64_t{42}}}) ==
        "2.2 ms, true, [   42]");
  CHECK(format("{log_namespace}") == "ns");
  // A value is never taken for a format.
  CHECK(format("{x}", {{"x", std::string("{y}")}}) == "{y}");
}

TEST_CASE("LogEvent::text: a bad format is reported in the text, with the fields") {
  CHECK(format("{x}") == "Unable to format \"{x}\": there is no field \"x\"");
  CHECK(format("{}", {{"a", std::int64_t{1}}}) == "Unable to format \"{}\": there is no field \"\"; a=1");
  CHECK(format("{x", {{"x", true}}) == "Unable to format \"{x\": single brace; x=true");
  CHECK(format("x}") == "Unable to format \"x}\": single brace");
  CHECK(format("{x:d}", {{"x", std::string("s")}}).starts_with("Unable to format \"{x:d}\": "));
}

TEST_CASE("eventAsText: time, namespace, level, text and traceback; one event cannot look like two") {
  LogEvent event;
  event.logNamespace = "ns";
  event.level = LogLevel::warn;
  event.format = "said {what}";
  event.fields = {{"what", std::string("a\n2026 [ns#info] b\x1b[2J\r")}};
  event.failure = std::runtime_error("bad");
  const std::string text = eventAsText(event);
  CHECK(text.find("-01-01T") == 4);
  CHECK(text.substr(text.find(' ')) == " [ns#warn] said a\n\t2026 [ns#info] b\\x1b[2J\\x0d\n\tstd::runtime_error: bad");
}

TEST_CASE("eventAsText: control characters of Unicode are escaped, too") {
  LogEvent event;
  event.format = "{x}";
  event.fields = {{"x", std::string("\xc2\x9b"
                                    "2J \xc2\xa0 \xc3\xa9 \x7f \xc2")}};
  CHECK(
      eventAsText(event).ends_with("] \\x9b"
                                   "2J \xc2\xa0 \xc3\xa9 \\x7f \xc2"));
}

TEST_CASE("eventAsJSON: one line that keeps the types of fields") {
  LogEvent event;
  event.level = LogLevel::warn;
  event.logNamespace = "shop.orders";
  event.format = "{s} from {peer}";
  event.time = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'792'678'751'250));
  event.fields = {{"s", std::string("a\n\"b\"\x1b")},
                  {"peer", std::string("\xff\xe2\x82")},
                  {"n", std::int64_t{-5}},
                  {"big", std::int64_t{1} << 62},
                  {"ratio", 0.5},
                  {"ok", true},
                  {"none", std::numeric_limits<double>::quiet_NaN()},
                  {"log_level", std::string("debug")},
                  {"euro", std::string("\xe2\x82\xac")}};
  const std::string line = eventAsJSON(event);
  CHECK(line.find('\n') == std::string::npos);
  CHECK(line.find('\x1b') == std::string::npos);
  const auto json = boost::json::parse(line).as_object();
  CHECK(json.at("log_time").as_double() == doctest::Approx(1792678751.25).epsilon(1e-12));
  CHECK(json.at("log_level") == "warn");
  CHECK(json.at("log_namespace") == "shop.orders");
  CHECK(json.at("log_format") == "{s} from {peer}");
  CHECK(json.at("s") == "a\n\"b\"\x1b");
  CHECK(json.at("peer") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(json.at("log_text") == "a\n\"b\"\x1b from \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(json.at("n").as_int64() == -5);
  CHECK(json.at("big").as_int64() == std::int64_t{1} << 62);
  CHECK(json.at("ratio").as_double() == 0.5);
  CHECK(json.at("ok").as_bool());
  CHECK(json.at("none") == "nan");
  CHECK(json.at("euro") == "\xe2\x82\xac");
  CHECK_FALSE(json.contains("log_failure"));
}

TEST_CASE("eventAsJSON: what is not UTF-8 is replaced") {
  LogEvent event;
  // Overlong, a surrogate, beyond the end, and cut short.
  for (const char* bad : {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98", "\x80"}) {
    event.format = bad;
    const auto json = boost::json::parse(eventAsJSON(event));
    CHECK(json.at("log_format").as_string().find("\xef\xbf\xbd") == 0);
  }
  event.format = "\xf0\x9f\x98\x80";
  CHECK(boost::json::parse(eventAsJSON(event)).at("log_format") == "\xf0\x9f\x98\x80");
}

TEST_CASE("eventAsJSON: a failure with its trail") {
  LogEvent event;
  event.failure = std::runtime_error("bad");
  event.failure->addToTrail(std::source_location::current());
  const auto failure = boost::json::parse(eventAsJSON(event)).at("log_failure").as_object();
  CHECK(failure.at("type") == "std::runtime_error");
  CHECK(failure.at("message") == "bad");
  REQUIRE(failure.at("trail").as_array().size() == 1);
  const std::string at = failure.at("trail").as_array()[0].as_string().c_str();
  CHECK(at.find("logger_test.cpp:") != std::string::npos);
}

TEST_CASE("eventAsText: the time is local, with its offset (RFC 3339)") {
  const char* before = std::getenv("TZ");
  const std::string saved = before ? before : "";
  setenv("TZ", "IST-5:30", 1);
  tzset();
  LogEvent event;
  event.format = "x";
  CHECK(eventAsText(event) == "1970-01-01T05:30:00+0530 [#info] x");
  before ? setenv("TZ", saved.c_str(), 1) : unsetenv("TZ");
  tzset();
}

TEST_CASE("LogPublisher: observers are added and removed, and each gets every event") {
  LogPublisher publisher;
  Logger log("x", publisher);
  int first = 0, second = 0;
  auto id1 = publisher.addObserver([&](const LogEvent&) { ++first; });
  auto id2 = publisher.addObserver([&](const LogEvent&) { ++second; });
  log.info("1");
  publisher.removeObserver(id1);
  publisher.removeObserver(id1);
  publisher.removeObserver(12345);
  log.info("2");
  publisher.removeObserver(id2);
  log.info("3");
  CHECK(first == 1);
  CHECK(second == 2);
}

TEST_CASE("LogPublisher: an observer that throws is reported to the others alone") {
  LogPublisher publisher;
  Logger log("x", publisher);
  std::vector<LogEvent> events;
  int calls = 0;
  publisher.addObserver([&](const LogEvent&) {
    ++calls;
    throw std::runtime_error("ARGH! EVIL DEATH!");
  });
  publisher.addObserver([&](const LogEvent& event) { events.push_back(event); });
  log.info("event");
  CHECK(calls == 1);
  REQUIRE(events.size() == 2);
  REQUIRE(events[0].failure);
  CHECK(events[0].failure->getErrorMessage() == "ARGH! EVIL DEATH!");
  CHECK(events[0].level == LogLevel::critical);
  CHECK(events[1].text() == "event");
}

TEST_CASE("LogPublisher: observers that all throw harm nobody") {
  LogPublisher publisher;
  publisher.addObserver([](const LogEvent&) { throw std::runtime_error("Sad panda"); });
  publisher.addObserver([](const LogEvent&) { throw 5; });
  Logger("x", publisher).info("event");
}

TEST_CASE("LogPublisher: an observer may log, and remove observers, also itself") {
  LogPublisher publisher;
  Logger log("x", publisher);
  std::vector<std::string> heard;
  LogPublisher::ObserverID self = 0, other = 0;
  self = publisher.addObserver([&](const LogEvent& event) {
    heard.push_back("1 " + event.text());
    log.info("seen");
    publisher.removeObserver(self);
    publisher.removeObserver(other);
  });
  other = publisher.addObserver([&](const LogEvent& event) { heard.push_back("2 " + event.text()); });
  log.info("event");
  log.info("again");
  CHECK(heard == std::vector<std::string>{"1 event", "2 seen"});
}

TEST_CASE("LogPublisher: the fallback is called while there is no observer") {
  int fallback = 0, observer = 0;
  LogPublisher publisher([&](const LogEvent&) { ++fallback; });
  Logger log("x", publisher);
  log.info("1");
  auto id = publisher.addObserver([&](const LogEvent&) { ++observer; });
  log.info("2");
  publisher.removeObserver(id);
  log.info("3");
  CHECK(fallback == 2);
  CHECK(observer == 1);
}

TEST_CASE("LogPublisher: the program's writes lines to standard error") {
  const std::string text = standardErrorOf([] { Logger("a.b").warn("{n} things", {{"n", 3}}); });
  CHECK(text.ends_with(" [a.b#warn] 3 things\n"));
}

TEST_CASE("LogPublisher: calls observers one at a time from many threads") {
  LogPublisher publisher;
  Logger log("x", publisher);
  int inside = 0, events = 0;
  bool overlapped = false;
  publisher.addObserver([&](const LogEvent&) {
    overlapped |= ++inside != 1;
    ++events;
    --inside;
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) log.info("{i}", {{"i", i}});
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(overlapped);
  CHECK(events == 2000);
}
