// TestFixture: fails a test that leaves calls, connections or errors behind (what trial does for every test).
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include <reactor/protocol.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/test_case.hpp>

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
class TestFixture : public TestCase {
 public:
  /// Give it to what is tested.
  MemoryReactor reactor;

  /// Connects two protocols, as MemoryReactor::connect; the test has to end the connection.
  IOPump& connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                  std::source_location where = std::source_location::current());

  /// Does the cleanups, then gives a text for each thing left behind, with where it was made: errors that were logged,
  /// also those that no errback handled; calls that are still scheduled; attempts to connect; open connections. The
  /// errors are taken out.
  std::vector<std::string> finish();

 private:
  std::vector<std::shared_ptr<IOPump>> pumps_;
};

}  // namespace torsion
