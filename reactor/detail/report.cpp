#include <reactor/detail/report.hpp>

#include <chrono>
#include <cstdio>

namespace torsion::detail {

std::string at(const std::source_location& where) {
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
