#include <deferred/result.hpp>

#include <any>
#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

using namespace torsion;

TEST_CASE("a Result is a value or a Failure") {
  Result<std::string> value = "text";
  CHECK(value.ok());
  CHECK(value);
  CHECK(value.value() == "text");
  CHECK(std::move(value).value() == "text");
  Result<std::string> failed = Failure(std::runtime_error("bad"));
  CHECK_FALSE(failed);
  CHECK(failed.failure().getErrorMessage() == "bad");
  CHECK_THROWS_WITH_AS(failed.value(), "bad", std::runtime_error);
}

TEST_CASE("a Result of nothing") {
  Result<void> done;
  CHECK(done.ok());
  CHECK_NOTHROW(done.value());
  Result<void> failed = Failure(std::runtime_error("bad"));
  CHECK_THROWS_AS(failed.value(), std::runtime_error);
}

TEST_CASE("a Result of a move-only value") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(4);
  Result<std::unique_ptr<int>> moved = std::move(result);
  CHECK(*std::move(moved).value() == 4);
}

TEST_CASE("failure() of a value says so") {
  Result<int> value = 1;
  CHECK_THROWS_AS(static_cast<void>(value.failure()), std::logic_error);
  CHECK_THROWS_AS(static_cast<void>(std::move(value).failure()), std::logic_error);
}

TEST_CASE("a Result of std::any holds whatever is given, but a Failure") {
  Result<std::any> result = std::string("text");
  const Result<std::any> copy = result;
  CHECK(std::any_cast<std::string>(copy.value()) == "text");
  CHECK_FALSE(Result<std::any>(Failure(std::runtime_error("x"))).ok());
}
