#include <deferred/deferred.hpp>

#include <chrono>
#include <sstream>

namespace torsion::detail {

TimeoutError timeoutError(Duration limit) {
  std::ostringstream text;
  text << "no result within " << std::chrono::duration<double>(limit).count() << " s";
  return TimeoutError(text.str());
}

}  // namespace torsion::detail
