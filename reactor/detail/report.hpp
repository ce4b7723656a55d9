// The words in which the testing kit reports places, durations and what a test left behind.
#pragma once

#include <source_location>
#include <string>

#include <deferred/time.hpp>

namespace torsion::detail {

std::string at(const std::source_location& where);
std::string seconds(Duration duration);
std::string describeLeft(const DelayedCall& call, const Time& time);

}  // namespace torsion::detail
