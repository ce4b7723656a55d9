#include <reactor/detail/report.hpp>

#include <cxxabi.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace torsion::detail {

std::string typeName(const std::type_info& type) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                   &std::free);
  return status == 0 ? name.get() : type.name();
}

std::string at(const std::source_location& where) {
  if (where.line() == 0) return "an unknown place";
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

std::string seconds(Duration duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(duration).count());
  return text;
}

std::string describeLeft(const DelayedCall& call, const Time& time) {
  return "a call was left, due in " + seconds(call.getTime() - time.seconds()) + ", scheduled at " + at(call.where());
}

}  // namespace torsion::detail
