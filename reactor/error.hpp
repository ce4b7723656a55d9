// The exceptions of connections (twisted.internet.error). connectionLost and failed Deferreds carry them.
#pragma once

#include <stdexcept>
#include <string>

namespace torsion {

/// A connection could not be made. osError is errno, or 0 where no system call failed.
struct ConnectError : std::runtime_error {
  explicit ConnectError(const std::string& what, int osError = 0) : runtime_error(what), osError(osError) {}
  int osError;
};
struct ConnectBindError : ConnectError {
  using ConnectError::ConnectError;
};
struct UnknownHostError : ConnectError {
  using ConnectError::ConnectError;
};
struct NoRouteError : ConnectError {
  using ConnectError::ConnectError;
};
struct ConnectionRefusedError : ConnectError {
  using ConnectError::ConnectError;
};
struct TCPTimedOutError : ConnectError {
  using ConnectError::ConnectError;
};
struct BadFileError : ConnectError {
  using ConnectError::ConnectError;
};
struct UserError : ConnectError {
  using ConnectError::ConnectError;
};
/// The limit given to a connection attempt passed (Twisted's error.TimeoutError).
struct ConnectTimeoutError : UserError {
  using UserError::UserError;
};
struct SSLError : ConnectError {
  using ConnectError::ConnectError;
};

/// The ConnectError class for an errno, with a text that says what to do.
class Failure;
Failure connectErrorFor(int osError, const std::string& what);

/// The name does not exist, or could not be looked up.
struct DNSLookupError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// An established connection ended. See ConnectionDone and ConnectionLost.
struct ConnectionClosed : std::runtime_error {
  using runtime_error::runtime_error;
};
/// It ended in an orderly way: loseConnection on either side, or end of file.
struct ConnectionDone : ConnectionClosed {
  ConnectionDone() : ConnectionClosed("Connection was closed cleanly.") {}
  using ConnectionClosed::ConnectionClosed;
};
/// It ended otherwise: reset, shutdown of the reactor, a network error.
struct ConnectionLost : ConnectionClosed {
  ConnectionLost() : ConnectionClosed("Connection to the other side was lost in a non-clean fashion.") {}
  using ConnectionClosed::ConnectionClosed;
};
/// This side called abortConnection().
struct ConnectionAborted : ConnectionLost {
  ConnectionAborted() : ConnectionLost("Connection was aborted locally using abortConnection.") {}
  using ConnectionLost::ConnectionLost;
};

/// A connection attempt was cancelled before it had succeeded.
struct ConnectingCancelledError : std::runtime_error {
  using runtime_error::runtime_error;
};
/// buildProtocol returned null: the factory refused the connection.
struct NoProtocol : std::runtime_error {
  using runtime_error::runtime_error;
};

/// More descriptors were sent over a UNIX socket than bytes to send them with.
struct FileDescriptorOverrun : ConnectionLost {
  FileDescriptorOverrun() : ConnectionLost("sendFileDescriptor: no byte was written for the descriptor to go with.") {}
};

/// listenTCP and the like: the address could not be bound. Thrown, not delivered.
struct CannotListenError : std::runtime_error {
  CannotListenError(std::string interface, int port, int osError);
  /// For an address that is no pair of interface and port, which is then -1. `why` ends the text.
  CannotListenError(std::string address, int osError, const std::string& why);
  std::string interface;
  int port;
  int osError;
};

/// The peer's certificate is not acceptable: not trusted, expired, or for another name.
struct VerifyError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// A datagram is too long to send.
struct MessageLengthError : std::runtime_error {
  using runtime_error::runtime_error;
};
/// A multicast group could not be joined or left. osError is errno, or 0 where no system call failed.
struct MulticastJoinError : std::runtime_error {
  explicit MulticastJoinError(const std::string& what, int osError = 0) : runtime_error(what), osError(osError) {}
  int osError;
};
/// Not an IP address, or one of the other family than is wanted here.
struct InvalidAddressError : std::invalid_argument {
  using invalid_argument::invalid_argument;
};
/// A socket was handed over as one of a family that is not supported.
struct UnsupportedAddressFamily : std::invalid_argument {
  using invalid_argument::invalid_argument;
};

struct NotConnectingError : std::logic_error {
  using logic_error::logic_error;
};
/// An endpoint that can listen once was asked again.
struct AlreadyListened : std::logic_error {
  using logic_error::logic_error;
};
struct NotListeningError : std::logic_error {
  using logic_error::logic_error;
};

/// A signal was sent to a process that has ended.
struct ProcessExitedAlready : std::logic_error {
  using logic_error::logic_error;
};

struct ReactorNotRunning : std::logic_error {
  using logic_error::logic_error;
};
struct ReactorAlreadyRunning : std::logic_error {
  using logic_error::logic_error;
};
/// A reactor was used from a thread that is not its own. Only callFromThread may be.
struct WrongThread : std::logic_error {
  using logic_error::logic_error;
};

}  // namespace torsion
