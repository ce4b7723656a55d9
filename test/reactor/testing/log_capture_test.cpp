#include <reactor/testing/log_capture.hpp>

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace torsion;

namespace {
const Logger logger("test.capture");
}

TEST_CASE("LogCapture: events logged while it exists are captured, also debug") {
  LogCapture capture;
  logger.debug("Capture this, please", {{"foo", 1}});
  logger.info("Capture this too, please", {{"foo", 2}});
  const auto events = capture.events();
  REQUIRE(events.size() == 2);
  CHECK(events[0].format == "Capture this, please");
  CHECK(events[0].level == LogLevel::debug);
  CHECK(*events[0].field("foo") == LogValue(std::int64_t{1}));
  CHECK(events[1].level == LogLevel::info);
}

TEST_CASE("LogCapture: the log level is as before when it has ended") {
  const LogLevel before = logLevel();
  {
    LogCapture capture(LogLevel::error);
    logger.warn("dropped");
    CHECK(capture.events().empty());
  }
  CHECK(logLevel() == before);
}

TEST_CASE("LogCapture::flushLoggedErrors takes out the failures of the types asked for") {
  LogCapture capture;
  logger.failure("one", std::runtime_error("1"));
  logger.failure("two", std::invalid_argument("2"));
  logger.error("no failure");
  auto logic = capture.flushLoggedErrors<std::logic_error>();
  REQUIRE(logic.size() == 1);
  CHECK(logic[0].getErrorMessage() == "2");
  CHECK(capture.flushLoggedErrors<std::logic_error>().empty());
  CHECK(capture.flushLoggedErrors<>().size() == 1);
  REQUIRE(capture.events().size() == 1);
  CHECK(capture.events()[0].text() == "no failure");
}

TEST_CASE("LogCapture::takeErrorTexts takes out all failures, as texts") {
  LogCapture capture;
  logger.failure("bad {n}", std::runtime_error("x"), {{"n", 1}});
  logger.error("no failure");
  CHECK(capture.takeErrorTexts() == std::vector<std::string>{"bad 1\nstd::runtime_error: x"});
  CHECK(capture.takeErrorTexts().empty());
  CHECK(capture.events().size() == 1);
}

TEST_CASE("LogCapture: the one made last collects; errors it leaves go to the one outside") {
  LogCapture outer;
  {
    LogCapture inner;
    logger.info("to the inner");
    logger.failure("flushed", std::runtime_error("1"));
    CHECK(inner.flushLoggedErrors().size() == 1);
    logger.failure("left", std::runtime_error("2"));
  }
  logger.info("to the outer");
  CHECK(outer.events().size() == 2);
  auto left = outer.flushLoggedErrors<std::runtime_error>();
  REQUIRE(left.size() == 1);
  CHECK(left[0].getErrorMessage() == "2");
}

TEST_CASE("LogCapture: a failure that no errback handled is logged as critical, with where its Deferred was made") {
  LogCapture capture;
  const auto here = std::source_location::current();
  detail::reportUnhandled("Unhandled error in Deferred", std::runtime_error("lost"), here);
  const auto events = capture.events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].level == LogLevel::critical);
  CHECK(events[0].logNamespace == "torsion.deferred");
  const std::string where = std::string(here.file_name()) + ":" + std::to_string(here.line());
  CHECK(events[0].text() == "Unhandled error in Deferred: lost (made at " + where + ")");
  CHECK(capture.flushLoggedErrors<std::runtime_error>().size() == 1);
}
