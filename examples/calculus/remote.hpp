// The calculator's server: "add 3 4" is answered with "7".
#pragma once

#include <cstdint>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <examples/calculus/base.hpp>
#include <protocols/basic.hpp>
#include <reactor/logger.hpp>

/// Answers "error" to what cannot be calculated. A line of any other form ends the connection.
class RemoteCalculationProtocol : public torsion::LineReceiver {
 public:
  void lineReceived(std::string_view line) override {
    std::istringstream words{std::string(line)};
    std::string name, a, b, more;
    if (!(words >> name >> a >> b) || words >> more) throw std::invalid_argument("no calculation of two operands");
    const Operation operation = kOperations.at(name);
    try {
      sendLine(std::to_string((calculation_.*operation)(a, b)));
    } catch (const CalculationError&) {
      torsion::Logger("calculus").failure("error", torsion::Failure::current());
      sendLine("error");
    }
  }

 private:
  using Operation = std::int64_t (Calculation::*)(Operand, Operand) const;
  // All that a client may call.
  static inline const std::map<std::string, Operation> kOperations = {
      {"add", &Calculation::add},
      {"subtract", &Calculation::subtract},
      {"multiply", &Calculation::multiply},
      {"divide", &Calculation::divide},
  };
  Calculation calculation_;
};
