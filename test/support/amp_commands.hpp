// Commands for tests and benchmarks of AMP.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

#include <protocols/amp.hpp>

namespace torsion::test {

struct ZeroDivisionError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct Die : std::runtime_error {
  using runtime_error::runtime_error;
};

struct Sum {
  static constexpr std::string_view commandName = "Sum";
  struct Arguments {
    std::int64_t a, b;
  };
  struct Response {
    std::int64_t total;
  };
  static constexpr auto arguments = amp::fields(amp::field("a", &Arguments::a), amp::field("b", &Arguments::b));
  static constexpr auto response = amp::fields(amp::field("total", &Response::total));
};
struct Divide {
  static constexpr std::string_view commandName = "Divide";
  struct Arguments {
    std::int64_t numerator, denominator;
  };
  struct Response {
    double result;
  };
  static constexpr auto arguments =
      amp::fields(amp::field("numerator", &Arguments::numerator), amp::field("denominator", &Arguments::denominator));
  static constexpr auto response = amp::fields(amp::field("result", &Response::result));
  static constexpr auto errors =
      amp::errors(amp::error<ZeroDivisionError>("ZERO_DIVISION"), amp::fatalError<Die>("DIE"));
};

}  // namespace torsion::test
