// Standard input and output as a Transport (twisted.internet.stdio).
#pragma once

#include <memory>
#include <source_location>

#include <deferred/deferred.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// Connects `protocol` to two descriptors, as a connection to whoever is at the other ends (Twisted's StandardIO). They
/// may be terminals, pipes, files or sockets, or one and the same. Calls connectionMade() before it returns; the
/// reactor keeps the protocol until connectionLost. Throws std::system_error for a descriptor that cannot be used.
///
///   struct Echo : LineReceiver {
///     Echo() { setDelimiter("\n"); }
///     void lineReceived(std::string_view line) override { sendLine(line); }
///   };
///   standardIO(std::make_shared<Echo>());
///
/// The end of the input is readConnectionLost() for a HalfCloseableProtocol; for others what is queued is written
/// still, then comes connectionLost(ConnectionDone). It gets ConnectionLost as soon as nobody reads the output any
/// more. getHost() and getPeer() are std::monostate: no address (Twisted's PipeAddress).
///
/// Both descriptors stay open, and the caller's: write to the output directly when connectionLost has come. So whoever
/// reads it sees its end only when the program closes it or ends, after loseWriteConnection() too.
///
/// Whether a descriptor blocks is shared with the programs that have it from the same parent, such as the shell.
/// Terminals and pipes are opened anew instead, so that theirs stay as they are, and std::cout works beside. Where that
/// is impossible (a socket, another user's terminal) O_NONBLOCK is set until the connection is over or the reactor
/// stops.
void standardIO(std::shared_ptr<Protocol> protocol, int input = 0, int output = 1,
                Reactor& reactor = torsion::reactor(), std::source_location where = std::source_location::current());

/// A server whose one connection is that (Twisted's StandardIOEndpoint): so a program can be told to serve a port or,
/// as under inetd, standard input and output.
class StandardIOEndpoint final : public StreamServerEndpoint {
 public:
  explicit StandardIOEndpoint(Reactor& reactor = torsion::reactor(), int input = 0, int output = 1) noexcept
      : reactor_(reactor), input_(input), output_(output) {}
  /// Fires after connectionMade. Fails with what buildProtocol throws, NoProtocol if it gives none, and as
  /// standardIO(). The port has no address, and stopListening() ends nothing.
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override;

 private:
  Reactor& reactor_;
  int input_;
  int output_;
};

}  // namespace torsion
