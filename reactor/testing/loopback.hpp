// Loopback: two protocols that talk to each other until they are done, for tests that wait for a Deferred
// (twisted.protocols.loopback). A test without a real reactor is simpler with an IOPump.
#pragma once

#include <memory>
#include <source_location>

#include <deferred/deferred.hpp>
#include <deferred/time.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/pump.hpp>

namespace torsion {

/// Connects `server` and `client` in memory, and moves bytes between them on turns of `time`, in the pieces that
/// `policy` says (none: as large as they come). Fires when both have had their connectionLost. cancel() aborts the
/// connection. One that is left open is a call that is left in `time`, scheduled at `where`.
///
///   wait(loopbackAsync(std::make_shared<Echo>(), client, reactor));
Deferred<void> loopbackAsync(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, Time& time = reactor(),
                             PumpPolicy policy = {}, std::source_location where = std::source_location::current());

/// The same over a TCP connection of 127.0.0.1. Fails as connectTCP, and throws as listenTCP.
Deferred<void> loopbackTCP(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client, TCP& tcp = reactor(),
                           std::source_location where = std::source_location::current());
/// The same over a UNIX socket, which has no file.
Deferred<void> loopbackUNIX(std::shared_ptr<Protocol> server, std::shared_ptr<Protocol> client,
                            UNIX& sockets = reactor(), std::source_location where = std::source_location::current());

}  // namespace torsion
