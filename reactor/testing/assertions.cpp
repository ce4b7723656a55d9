#include <reactor/testing/assertions.hpp>

#include <reactor/detail/report.hpp>

namespace torsion::detail {

void testFailed(const std::string& what, const std::source_location& where) {
  throw TestFailure(at(where) + ": " + what);
}

}  // namespace torsion::detail
