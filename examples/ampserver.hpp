// The commands of ampserver and ampclient: what both ends know of each other.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

#include <protocols/amp.hpp>

struct Sum {
  static constexpr std::string_view commandName = "Sum";
  struct Arguments {
    std::int64_t a, b;
  };
  struct Response {
    std::int64_t total;
  };
  static constexpr auto arguments =
      torsion::amp::fields(torsion::amp::field("a", &Arguments::a), torsion::amp::field("b", &Arguments::b));
  static constexpr auto response = torsion::amp::fields(torsion::amp::field("total", &Response::total));
};

struct ZeroDivisionError : std::runtime_error {
  using runtime_error::runtime_error;
};

struct Divide {
  static constexpr std::string_view commandName = "Divide";
  struct Arguments {
    std::int64_t numerator, denominator;
  };
  struct Response {
    double result;
  };
  static constexpr auto arguments = torsion::amp::fields(torsion::amp::field("numerator", &Arguments::numerator),
                                                         torsion::amp::field("denominator", &Arguments::denominator));
  static constexpr auto response = torsion::amp::fields(torsion::amp::field("result", &Response::result));
  static constexpr auto errors = torsion::amp::errors(torsion::amp::error<ZeroDivisionError>("ZERO_DIVISION"));
};
