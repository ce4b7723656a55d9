// The words in which the testing kit reports places, durations and what a test left behind.
#pragma once

#include <source_location>
#include <string>
#include <typeinfo>

#include <deferred/time.hpp>

namespace torsion::detail {

/// "torsion::ConnectError".
std::string typeName(const std::type_info& type);
std::string at(const std::source_location& where);
std::string seconds(Duration duration);
std::string describeLeft(const DelayedCall& call, const Time& time);

}  // namespace torsion::detail
