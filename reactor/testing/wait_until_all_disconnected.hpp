// waitUntilAllDisconnected: for the end of a test with sockets (twisted.internet.testing).
#pragma once

#include <cstddef>
#include <memory>
#include <source_location>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/resolver.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

/// Fires when all of the protocols, which somebody has told to disconnect, have had their connectionLost. cancel() ends
/// only the wait. Twisted's takes a reactor, too: it looks every 10 ms, this is told.
///
///   wait(waitUntilAllDisconnected(clients));
template <class P>
Deferred<void> waitUntilAllDisconnected(const std::vector<std::shared_ptr<P>>& protocols,
                                        std::source_location where = std::source_location::current()) {
  Resolver<void> all(where);
  const auto left = std::make_shared<std::size_t>(1);  // this function
  const auto oneHasGone = [all, left] {
    if (--*left == 0 && !all.called()) all.callback();
  };
  for (const auto& protocol : protocols) {
    if (!protocol->connected()) continue;
    ++*left;
    protocol->notifyOnDisconnect(oneHasGone);
  }
  Deferred<void> result = all.deferred();
  oneHasGone();
  return result;
}

}  // namespace torsion
