// What the programs of this folder test, each in another framework.
#pragma once

#include <reactor/protocol.hpp>

struct Greeter final : torsion::Protocol {
  void connectionMade() override { transport().write("hello"); }
};
