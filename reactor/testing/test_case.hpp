// TestCase: what TestFixture and ReactorFixture have in common (trial's TestCase). Use one of those.
#pragma once

#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/function.hpp>
#include <deferred/functions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/temporary_directory.hpp>

namespace torsion {

class TestCase {
 public:
  TestCase(const TestCase&) = delete;
  TestCase& operator=(const TestCase&) = delete;

  /// What was logged.
  LogCapture log;

  /// Takes out the errors that the test expected to be logged: all, or those that are one of E.
  template <class... E>
  std::vector<Failure> flushLoggedErrors() {
    return log.flushLoggedErrors<E...>();
  }

  /// finish() calls f() before it looks at what is left: the one added last first. f may return a Deferred, which is
  /// waited for; that it failed, or threw, is a problem that finish() returns.
  template <class F>
  void addCleanup(F f, std::source_location where = std::source_location::current()) {
    static_assert(std::is_same_v<decltype(maybeDeferred(f)), Deferred<void>>,
                  "addCleanup: the function returns nothing or Deferred<void>");
    cleanups_.push_back({[f = std::move(f)]() mutable { return maybeDeferred(f); }, where});
  }
  /// Sets `place` to `value` until finish().
  template <class T, class V>
  void patch(T& place, V&& value) {
    addCleanup(
        [&place, before = std::exchange(place, std::forward<V>(value))]() mutable { place = std::move(before); });
  }
  /// The name of a file that there is not yet, in a directory that goes with this.
  std::string mktemp();

 protected:
  TestCase() = default;
  ~TestCase() = default;
  /// Does the cleanups, and says what went wrong. `wait` gives each Deferred time to fire.
  std::vector<std::string> cleanUp(UniqueFunction<void(const Deferred<void>&)> wait);

 private:
  struct Cleanup {
    UniqueFunction<Deferred<void>()> f;
    std::source_location where;
  };
  std::vector<Cleanup> cleanups_;
  std::optional<TemporaryDirectory> files_;
  int lastFile_ = 0;
};

}  // namespace torsion
