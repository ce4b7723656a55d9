// A second handle to a Deferred, which the public interface does not give: for the tests that compare with Twisted.
#pragma once

#include <deferred/deferred.hpp>

namespace torsion::detail {

template <class T>
Deferred<T> secondHandle(const Deferred<T>& deferred) {
  return Deferred<T>(Owner(deferred.chain()));
}

}  // namespace torsion::detail
