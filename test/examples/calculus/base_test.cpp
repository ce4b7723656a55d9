#include <cstdint>
#include <initializer_list>
#include <limits>

#include <doctest/doctest.h>

#include <examples/calculus/base.hpp>

namespace {

struct Fixture {
  using Operation = std::int64_t (Calculation::*)(Operand, Operand) const;
  Calculation calc;

  void test(Operation operation, Operand a, Operand b, std::int64_t expected) {
    CHECK((calc.*operation)(a, b) == expected);
  }
  void testError(Operation operation) {
    CHECK_THROWS_AS((calc.*operation)("foo", 2), CalculationError);
    CHECK_THROWS_AS((calc.*operation)(2, "bar"), CalculationError);
    CHECK_THROWS_AS((calc.*operation)("", "2 "), CalculationError);
    CHECK_THROWS_AS((calc.*operation)("2.5", "99999999999999999999"), CalculationError);
  }
};
constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
constexpr auto kMost = std::numeric_limits<std::int64_t>::max();

}  // namespace

TEST_CASE_FIXTURE(Fixture, "calculus: add") {
  test(&Calculation::add, 3, 8, 11);
  test(&Calculation::add, "3", "-8", -5);
}
TEST_CASE_FIXTURE(Fixture, "calculus: subtract") {
  test(&Calculation::subtract, 7, 3, 4);
}
TEST_CASE_FIXTURE(Fixture, "calculus: multiply") {
  test(&Calculation::multiply, 6, 9, 54);
}
TEST_CASE_FIXTURE(Fixture, "calculus: divide rounds down") {
  test(&Calculation::divide, 12, 5, 2);
  test(&Calculation::divide, -12, 5, -3);
  test(&Calculation::divide, 12, -5, -3);
  test(&Calculation::divide, -12, -5, 2);
  test(&Calculation::divide, -10, 5, -2);
  test(&Calculation::divide, 7, -1, -7);
}
TEST_CASE_FIXTURE(Fixture, "calculus: what is no number is an error") {
  for (const auto operation :
       {&Calculation::add, &Calculation::subtract, &Calculation::multiply, &Calculation::divide}) {
    testError(operation);
  }
}
TEST_CASE_FIXTURE(Fixture, "calculus: what does not fit is an error") {
  CHECK_THROWS_AS(calc.add(kMost, 1), CalculationError);
  CHECK_THROWS_AS(calc.subtract(kLeast, 1), CalculationError);
  CHECK_THROWS_AS(calc.multiply(kMost, 2), CalculationError);
  CHECK_THROWS_AS(calc.divide(kLeast, -1), CalculationError);
  CHECK_THROWS_AS(calc.divide(1, 0), CalculationError);
}
