#include <reactor/testing/assertions.hpp>

#include <cxxabi.h>

#include <cstdlib>

#include <reactor/detail/report.hpp>

namespace torsion::detail {

void testFailed(const std::string& what, const std::source_location& where) {
  throw TestFailure(at(where) + ": " + what);
}

std::string typeName(const std::type_info& type) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                   &std::free);
  return status == 0 ? name.get() : type.name();
}

}  // namespace torsion::detail
