// ReactorFixture: for tests with a real reactor and real sockets. What can be tested in memory uses TestFixture.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/result.hpp>
#include <deferred/time.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/test_case.hpp>

namespace torsion {

/// A reactor of its own and a log for one test, and a look at what the test left in them, for any test framework (see
/// TestFixture).
class ReactorFixture : public TestCase {
 public:
  /// It turns within wait() only.
  Reactor reactor;

  /// Lets the reactor turn until `d` has a result; returns its value, or throws what its Failure holds. Throws
  /// TestFailure if there is none after `limit`.
  template <class T>
  T wait(Deferred<T> d, Duration limit = std::chrono::seconds(120),
         std::source_location where = std::source_location::current()) {
    auto result = std::make_shared<std::optional<Result<T>>>();
    std::move(d).addBoth([result](Result<T> r) { result->emplace(std::move(r)); }, where);
    turnUntil([&] { return result->has_value(); }, limit, where);
    return std::move(**result).value();
  }

  /// Does the cleanups; then, after a few more turns, for what is just closing: a text for each thing left behind, with
  /// where it was made: errors that were logged, also those that no errback handled; calls that are still scheduled;
  /// ports; connections; attempts to connect; look-ups. The errors are taken out.
  std::vector<std::string> finish();

 private:
  void turnUntil(UniqueFunction<bool()> done, Duration limit, const std::source_location& where);
};

}  // namespace torsion
