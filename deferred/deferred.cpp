#include <deferred/deferred.hpp>

#include <chrono>
#include <sstream>
#include <stdexcept>
#include <string>

#include <deferred/detail/require.hpp>

namespace torsion::detail {

void throwMovedFrom(const std::source_location& where) {
  throw std::logic_error(std::string("this Deferred was moved from; it is used at ") + where.file_name() + ":" +
                         std::to_string(where.line()));
}

void throwNotItself(Chain& chain) {
  throw std::logic_error(std::string("callback() or errback() of a Deferred that ") +
                         (chain.firesItself() ? "has changed its type" : "its Resolver fires, or the library") +
                         "; it was made at " + chain.made().file_name() + ":" + std::to_string(chain.made().line()) +
                         ". Keep a Resolver to fire it");
}

TimeoutError timeoutError(Duration limit) {
  std::ostringstream text;
  text << "no result within " << std::chrono::duration<double>(limit).count() << " s";
  return TimeoutError(text.str());
}

void throwInvalidArgument(const char* message) {
  throw std::invalid_argument(message);
}

}  // namespace torsion::detail
