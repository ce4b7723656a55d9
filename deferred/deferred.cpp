#include <deferred/deferred.hpp>

#include <chrono>
#include <sstream>
#include <stdexcept>

#include <deferred/detail/require.hpp>

namespace torsion::detail {

TimeoutError timeoutError(Duration limit) {
  std::ostringstream text;
  text << "no result within " << std::chrono::duration<double>(limit).count() << " s";
  return TimeoutError(text.str());
}

void throwInvalidArgument(const char* message) {
  throw std::invalid_argument(message);
}

}  // namespace torsion::detail
