// Catches the failures that nobody handled while a test runs, in place of the program's handler.
#pragma once

#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include <deferred/failure.hpp>

class Unhandled {
 public:
  Unhandled() : before_(torsion::setUnhandledFailureHandler(&note)) { messages().clear(); }
  ~Unhandled() { torsion::setUnhandledFailureHandler(before_); }
  Unhandled(const Unhandled&) = delete;
  Unhandled& operator=(const Unhandled&) = delete;

  // The messages since the last call.
  std::vector<std::string> flush() { return std::exchange(messages(), {}); }

 private:
  static std::vector<std::string>& messages() {
    static std::vector<std::string> all;
    return all;
  }
  static void note(std::string_view, const torsion::Failure& failure, const std::source_location&) {
    messages().push_back(failure.getErrorMessage());
  }
  torsion::UnhandledFailureHandler before_;
};
