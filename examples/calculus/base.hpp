// A calculator of whole numbers.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

/// The text is no whole number, or a result is too large for one of 64 bits.
struct CalculationError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// An operand: a number or the text of one.
class Operand {
 public:
  Operand(std::int64_t value) : value_(value) {}
  Operand(int value) : value_(value) {}
  Operand(const std::convertible_to<std::string_view> auto& text) : value_(parse(text)) {}
  std::int64_t value() const noexcept { return value_; }

 private:
  static std::int64_t parse(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw CalculationError("'" + std::string(text) + "' is no whole number");
    }
    return value;
  }
  std::int64_t value_;
};

/// All throw CalculationError.
class Calculation {
 public:
  std::int64_t add(Operand a, Operand b) const {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(a.value(), b.value(), &sum)) tooLarge();
    return sum;
  }
  std::int64_t subtract(Operand a, Operand b) const {
    std::int64_t difference = 0;
    if (__builtin_sub_overflow(a.value(), b.value(), &difference)) tooLarge();
    return difference;
  }
  std::int64_t multiply(Operand a, Operand b) const {
    std::int64_t product = 0;
    if (__builtin_mul_overflow(a.value(), b.value(), &product)) tooLarge();
    return product;
  }
  /// Rounds down, as Python does.
  std::int64_t divide(Operand a, Operand b) const {
    if (b.value() == 0) throw CalculationError("division by zero");
    if (b.value() == -1) return subtract(0, a);  // the one quotient that may be too large
    const std::int64_t quotient = a.value() / b.value();
    const bool roundedUp = a.value() % b.value() != 0 && (a.value() < 0) != (b.value() < 0);
    return roundedUp ? quotient - 1 : quotient;
  }

 private:
  [[noreturn]] static void tooLarge() { throw CalculationError("the result does not fit 64 bits"); }
};
