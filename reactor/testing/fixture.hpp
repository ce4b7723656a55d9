// TestFixture: fails a test that leaves calls, connections or errors behind (what trial does for every test).
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/failure.hpp>
#include <reactor/protocol.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/testing/pump.hpp>

namespace torsion {

/// A reactor and a log for one test, and a look at what the test left in them. It knows no test framework; tell yours
/// what finish() returns when the test has ended. For doctest:
///
///   struct Fixture : torsion::TestFixture {
///     ~Fixture() {
///       for (const auto& problem : finish()) FAIL_CHECK(problem);
///     }
///   };
///   TEST_CASE_FIXTURE(Fixture, "...") { ... }
class TestFixture {
 public:
  TestFixture() = default;
  TestFixture(const TestFixture&) = delete;
  TestFixture& operator=(const TestFixture&) = delete;

  /// What was logged.
  LogCapture log;
  /// Give it to what is tested.
  MemoryReactor reactor;

  /// Connects two protocols; the test has to end the connection.
  IOPump& connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                  std::source_location where = std::source_location::current());

  /// Takes out the errors that the test expected to be logged: all, or those that are one of E.
  template <class... E>
  std::vector<Failure> flushLoggedErrors() {
    return log.flushLoggedErrors<E...>();
  }

  /// A text for each thing left behind, with where it was made: errors that were logged, also those that no errback
  /// handled; calls that are still scheduled; attempts to connect; open connections. The errors are taken out.
  std::vector<std::string> finish();

 private:
  std::vector<std::pair<std::unique_ptr<IOPump>, std::source_location>> pumps_;
};

}  // namespace torsion
