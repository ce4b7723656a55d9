// The places at which the Deferreds were made whose failures nobody handled while a test runs, in place of the
// program's handler: "made at" in the report.
#pragma once

#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/failure.hpp>

namespace torsion::test {

class MadeAt {
 public:
  MadeAt() : before_(setUnhandledFailureHandler(&note)) { all().clear(); }
  ~MadeAt() { setUnhandledFailureHandler(before_); }
  MadeAt(const MadeAt&) = delete;
  MadeAt& operator=(const MadeAt&) = delete;

  /// Since the last call; as placeOf() gives them.
  std::vector<std::string> flush() { return std::exchange(all(), {}); }
  static std::string placeOf(const std::source_location& where = std::source_location::current()) {
    return std::string(where.file_name()) + ":" + std::to_string(where.line());
  }

 private:
  static std::vector<std::string>& all() {
    static std::vector<std::string> places;
    return places;
  }
  static void note(std::string_view, const Failure&, const std::source_location& made) {
    all().push_back(placeOf(made));
  }
  UnhandledFailureHandler before_;
};

}  // namespace torsion::test
