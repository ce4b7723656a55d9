// waitUntilAllDisconnected: for the end of a test with sockets (twisted.internet.testing).
#pragma once

#include <memory>
#include <source_location>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/list.hpp>
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
  std::vector<Deferred<void>> all;
  for (const auto& protocol : protocols) {
    if (!protocol->connected()) continue;
    Resolver<void> gone(where);
    all.push_back(gone.deferred());
    protocol->notifyOnDisconnect([gone = std::move(gone)] { gone.callback(); });
  }
  return gatherResults(std::move(all), false, where);
}

}  // namespace torsion
