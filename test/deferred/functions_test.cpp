#include <deferred/functions.hpp>

#include <functional>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

using namespace torsion;

namespace {

template <class T>
std::string outcome(Deferred<T> d) {
  std::string text = "pending";
  d.addBoth([&](Result<T> r) {
    text = r.ok() ? "ok" : r.failure().getErrorMessage();
    return r;
  });
  d.addErrback([](const Failure&) -> Result<T> {
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return T();
    }
  });
  return text;
}

}  // namespace

TEST_CASE("succeed and fail make fired Deferreds") {
  CHECK(outcome(succeed(1)) == "ok");
  CHECK(outcome(succeed()) == "ok");
  CHECK(outcome(succeed(std::make_unique<int>(1))) == "ok");
  const std::string kept = "kept";
  CHECK(outcome(succeed<std::string>(kept)) == "ok");
  CHECK(outcome(fail<int>(std::runtime_error("bad"))) == "bad");
  CHECK(outcome(fail<void>(std::runtime_error("bad"))) == "bad");
}

TEST_CASE("maybeDeferred makes a Deferred of whatever a callable does") {
  auto value = maybeDeferred([](int a, int b) { return a + b; }, 1, 2);
  static_assert(std::is_same_v<decltype(value), Deferred<int>>);
  int seen = 0;
  std::move(value).addCallback([&](int n) { seen = n; });
  CHECK(seen == 3);
  CHECK(outcome(maybeDeferred([] {})) == "ok");
  CHECK(outcome(maybeDeferred([]() -> int { throw std::runtime_error("thrown"); })) == "thrown");
  CHECK(outcome(maybeDeferred([] { return Failure(std::runtime_error("given")); })) == "given");
  CHECK(outcome(maybeDeferred([]() -> Result<int> { return std::runtime_error("result"); })) == "result");
  CHECK(outcome(maybeDeferred([] { return fail<int>(std::runtime_error("deferred")); })) == "deferred");
  Resolver<int> r;
  auto same = maybeDeferred([&] { return r.deferred(); });
  CHECK_FALSE(same.called());
  r.callback(1);
  CHECK(same.called());
  Resolver<int> failing;
  auto late = maybeDeferred([&] { return failing.deferred(); });
  failing.errback(std::runtime_error("later"));
  CHECK(outcome(std::move(late)) == "later");
}

TEST_CASE("maybeDeferred of a coroutine gives its Deferred") {
  auto returns = []() -> Deferred<int> { co_return 4; };
  CHECK(outcome(maybeDeferred(returns)) == "ok");
  auto throws = []() -> Deferred<int> {
    co_await succeed();
    throw std::runtime_error("thrown");
  };
  CHECK(outcome(maybeDeferred(throws)) == "thrown");
  int seen = 0;
  maybeDeferred([&] { return returns(); }).addCallback([&](int n) { seen = n; });
  CHECK(seen == 4);
}

TEST_CASE("execute makes a Deferred of a plain call") {
  CHECK(outcome(execute([](int n) { return n; }, 1)) == "ok");
  CHECK(outcome(execute([]() -> int { throw std::runtime_error("thrown"); })) == "thrown");
}

// Asio asks so for an execute() of its own, and finds ours where a handler's type has to do with Torsion.
template <class F>
concept Executes = requires(F f) { torsion::execute(f, 1); };

TEST_CASE("execute takes only what can be called") {
  static_assert(Executes<int (*)(int)>);
  static_assert(!Executes<int (*)()>);
  static_assert(!Executes<Failure>);
}

TEST_CASE("maybeDeferred keeps temporaries until the Deferred of a coroutine has fired") {
  Resolver<void> go;
  std::string seen;
  auto d = maybeDeferred(
      [&, text = std::string(100, 'x')](const std::string& argument) -> Deferred<void> {
        co_await go.deferred();
        seen = text + argument;
      },
      std::string(100, 'y'));
  go.callback();
  CHECK(seen == std::string(100, 'x') + std::string(100, 'y'));
  CHECK(outcome(std::move(d)) == "ok");
}

TEST_CASE("maybeDeferred and execute name the place of the call, and refuse what is null") {
  static std::string file;
  static int line;
  auto before = setUnhandledFailureHandler([](std::string_view, const Failure&, const std::source_location& made) {
    file = made.file_name();
    line = static_cast<int>(made.line());
  });
  maybeDeferred([]() -> int { throw std::runtime_error("x"); });
  CHECK(line == __LINE__ - 1);
  maybeDeferred([](int) { return Failure(std::runtime_error("x")); }, 1);
  CHECK(line == __LINE__ - 1);
  execute([](int, int) -> Result<int> { return std::runtime_error("x"); }, 1, 2);
  CHECK(line == __LINE__ - 1);
  CHECK(file == __FILE__);
  setUnhandledFailureHandler(before);
  CHECK_THROWS_AS(maybeDeferred(std::function<void()>()), std::invalid_argument);
}
