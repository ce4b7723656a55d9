// What UNIX sockets can do and others cannot: passing open descriptors to another process.
#pragma once

#include <reactor/transport.hpp>

namespace torsion {

/// What transport() is to a protocol over a UNIX socket (Twisted's IUNIXTransport):
///   if (UNIXTransport* unixTransport = UNIXTransport::from(transport())) unixTransport->sendFileDescriptor(fd);
class UNIXTransport {
 public:
  /// Looks below TLS and policies, too. Null if there is no UNIX socket.
  static UNIXTransport* from(Transport& transport) noexcept { return Transport::find<UNIXTransport>(transport); }

  /// Sends a duplicate of `fd` with the next byte that is written; the other side gets it before that byte, though
  /// perhaps before some earlier ones, too. `fd` may be closed as soon as this returns. A connection that ends with no
  /// byte to send it with ends with FileDescriptorOverrun. Throws std::system_error if `fd` cannot be duplicated.
  virtual void sendFileDescriptor(int fd) = 0;

 protected:
  ~UNIXTransport() = default;
};

/// Mix into a protocol to receive descriptors (Twisted's IFileDescriptorReceiver). Without it they are closed, and the
/// log says so.
class FileDescriptorReceiver {
 public:
  /// `fd` is the receiver's to close. What it throws ends the connection.
  virtual void fileDescriptorReceived(int fd) = 0;

 protected:
  ~FileDescriptorReceiver() = default;
};

}  // namespace torsion
