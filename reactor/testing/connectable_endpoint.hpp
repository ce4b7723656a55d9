// connectableEndpoint: an endpoint that connects when the test says so (twisted.test.iosim).
#pragma once

#include <memory>

#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>
#include <reactor/testing/memory_reactor.hpp>

namespace torsion {

/// For what takes an endpoint. A server that says nothing listens where it leads to; connections wait for the reactor's
/// succeedOnce() or failOnce(), which Twisted's ConnectionCompleter has.
///
///   MemoryReactor reactor;
///   auto client = std::make_shared<ClientService>(connectableEndpoint(reactor), factory, ClientServiceOptions{},
///   reactor); client->startService(); reactor.failOnce();
inline std::shared_ptr<StreamClientEndpoint> connectableEndpoint(MemoryReactor& reactor) {
  constexpr std::uint16_t kPort = 4321;
  reactor.listenTCP(kPort, forProtocol<Protocol>());
  return std::make_shared<TCP4ClientEndpoint>("10.0.0.1", kPort, reactor);
}

}  // namespace torsion
