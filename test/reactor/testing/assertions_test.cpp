#include <reactor/testing/assertions.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/log_capture.hpp>

using namespace torsion;

namespace {

// The text with which `f` failed the test; it starts with a place in this file.
template <class F>
std::string failureText(F f) {
  try {
    f();
  } catch (const TestFailure& e) {
    const std::string text = e.what();
    CHECK(text.find("assertions_test.cpp:") != std::string::npos);
    return text.substr(text.find(": ") + 2);
  }
  return "none";
}

}  // namespace

TEST_CASE("successResultOf: the value of a Deferred that has one") {
  CHECK(successResultOf(succeed(5)) == 5);
  Deferred<std::string> d = succeed(std::string("x"));
  CHECK(successResultOf(d) == "x");
  successResultOf(succeed());
  CHECK(*successResultOf(succeed(std::make_unique<int>(3))) == 3);
}

TEST_CASE("successResultOf: fails without a result") {
  Resolver<int> resolver;
  auto d = resolver.deferred();
  CHECK(failureText([&] { successResultOf(d); }) == "successResultOf: there is no result yet");
}

TEST_CASE("successResultOf: fails with a Failure, shows it and its trail, and handles it") {
  LogCapture log;
  auto d = fail<int>(std::runtime_error("broken")).addCallback([](int n) { return n; });
  const std::string text = failureText([&] { successResultOf(d); });
  CHECK(text.starts_with("successResultOf: there is no value, but the failure\nstd::runtime_error: broken\n  via "));
  CHECK(text.find("assertions_test.cpp:", text.find("via")) != std::string::npos);
  CHECK(log.events().empty());
}

TEST_CASE("failureResultOf: the Failure of a Deferred that has one") {
  LogCapture log;
  CHECK(failureResultOf(fail<int>(std::runtime_error("1"))).getErrorMessage() == "1");
  CHECK(failureResultOf<std::exception>(fail<int>(std::runtime_error("2"))).getErrorMessage() == "2");
  CHECK(failureResultOf<ConnectionDone, std::logic_error>(fail<void>(std::logic_error("3"))).check<std::logic_error>());
  auto d = fail<int>(ConnectionDone());
  CHECK(failureResultOf<ConnectionClosed>(d).check<ConnectionDone>());
  CHECK(log.events().empty());
}

TEST_CASE("failureResultOf: fails without a result") {
  Resolver<int> resolver;
  auto d = resolver.deferred();
  CHECK(failureText([&] { failureResultOf(d); }) == "failureResultOf: there is no result yet");
}

TEST_CASE("failureResultOf: fails with a value, and shows it") {
  CHECK(failureText([] { failureResultOf(succeed(5)); }) == "failureResultOf: there is no failure, but the value 5");
  CHECK(failureText([] { failureResultOf(succeed(true)); }) ==
        "failureResultOf: there is no failure, but the value true");
  CHECK(failureText([] { failureResultOf(succeed(std::string("s"))); }) ==
        "failureResultOf: there is no failure, but the value \"s\"");
  CHECK(failureText([] { failureResultOf(succeed()); }) == "failureResultOf: there is no failure, but success");
  CHECK(failureText([] {
          failureResultOf(succeed(std::make_unique<int>(3)));
        }).starts_with("failureResultOf: there is no failure, but the value a std::unique_ptr<int"));
}

TEST_CASE("failureResultOf: fails with a Failure of another type") {
  const std::string text =
      failureText([] { failureResultOf<ConnectionDone, ConnectionLost>(fail<int>(std::runtime_error("other"))); });
  CHECK(
      text.starts_with("failureResultOf: expected torsion::ConnectionDone or torsion::ConnectionLost, but found the "
                       "failure\nstd::runtime_error: other"));
}

TEST_CASE("assertNoResult: passes while there is none, and lets the result through later") {
  Resolver<int> resolver;
  auto d = resolver.deferred();
  assertNoResult(d);
  assertNoResult(d);
  resolver.callback(7);
  CHECK(successResultOf(d) == 7);

  Resolver<void> failing;
  auto f = failing.deferred();
  assertNoResult(f);
  failing.errback(std::runtime_error("x"));
  CHECK(failureResultOf(f).check<std::runtime_error>());
}

TEST_CASE("assertNoResult: fails with a result, and leaves it") {
  auto d = succeed(7);
  CHECK(failureText([&] { assertNoResult(d); }) == "assertNoResult: there is one, the value 7");
  CHECK(successResultOf(d) == 7);

  auto f = fail<int>(std::runtime_error("x"));
  CHECK(failureText([&] {
          assertNoResult(f);
        }).starts_with("assertNoResult: there is one, the failure\nstd::runtime_error: x"));
  failureResultOf<std::runtime_error>(f);
}

TEST_CASE("assertNoResult: a Deferred that waits for another has no result") {
  Resolver<int> inner;
  auto innerDeferred = std::make_shared<Deferred<int>>(inner.deferred());
  auto d = succeed().addCallback([innerDeferred] { return std::move(*innerDeferred); });
  CHECK(d.called());
  assertNoResult(d);
  inner.callback(1);
  CHECK(successResultOf(d) == 1);
}

TEST_CASE("assertFailure: fires with the exception, once there is one") {
  Resolver<int> later;
  auto d = assertFailure<std::runtime_error>(later.deferred());
  assertNoResult(d);
  later.errback(std::range_error("x"));
  CHECK(std::string(successResultOf(d).what()) == "x");
}

TEST_CASE("assertFailure: anything else is a TestFailure") {
  const auto textOf = [](Deferred<std::range_error> d) {
    return failureText([&] { failureResultOf<TestFailure>(d).raise(); });
  };
  CHECK(textOf(assertFailure<std::range_error>(succeed(7))) ==
        "assertFailure: expected std::range_error, but found the value 7");
  auto other = fail<void>(std::domain_error("y"));
  CHECK(textOf(assertFailure<std::range_error>(other))
            .starts_with("assertFailure: expected std::range_error, but found the failure\nstd::domain_error: y"));
}
