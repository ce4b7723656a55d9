// Descriptors of others, such as a C library's: the reactor tells when they can be read or written
// (Twisted's IReactorFDSet).
#pragma once

#include <string>

#include <deferred/failure.hpp>

namespace torsion {

/// What the two below share. The reactor keeps an object as long as it is added.
class FileDescriptor {
 public:
  virtual ~FileDescriptor() = default;
  /// The descriptor; the same from when it is added until it is removed. It is not closed by the reactor: remove it
  /// before you close it.
  virtual int fileno() const = 0;
  /// It was removed, as writer and as reader, because it has failed or hung up (ConnectionLost, or ConnectionDone for a
  /// reader), because of what doRead() or doWrite() threw, or because the reactor stops (ConnectionLost).
  virtual void connectionLost(const Failure& reason) = 0;
  /// For reports.
  virtual std::string logPrefix() const { return "descriptor"; }
};

/// See Reactor::addReader.
class ReadDescriptor : public virtual FileDescriptor {
 public:
  /// It can be read without waiting: called each turn until it cannot any more. What it throws ends the watching, with
  /// connectionLost getting it, and is logged if it is no ConnectionClosed.
  virtual void doRead() = 0;
};

/// See Reactor::addWriter.
class WriteDescriptor : public virtual FileDescriptor {
 public:
  /// It can be written without waiting; as ReadDescriptor::doRead.
  virtual void doWrite() = 0;
};

}  // namespace torsion
