// Protocols that cut the stream into lines or strings (twisted.protocols.basic).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <reactor/protocol.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// connectionLost gets it: the peer sent a line longer than LineReceiver::maxLength.
struct LineTooLongError : std::runtime_error {
  explicit LineTooLongError(std::size_t maxLength);
};
/// connectionLost gets it: the peer sent a string longer than maxLength. sendString throws it for one that its prefix
/// cannot tell the length of.
struct StringTooLongError : std::runtime_error {
  StringTooLongError(std::size_t length, std::size_t limit);
};
/// connectionLost gets it: what the peer sent is no netstring.
struct NetstringParseError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// What the receivers below share: bytes that are kept until a message is complete, and a peer that can be told to
/// wait. Once loseConnection() has been called nothing more is received.
class MessageReceiver : public Protocol {
 public:
  /// A message is kept until it is complete: this bounds the memory (Twisted's MAX_LENGTH).
  void setMaxLength(std::size_t bytes) noexcept { maxLength_ = std::min(bytes, kGreatestMaxLength); }
  std::size_t maxLength() const noexcept { return maxLength_; }

  void dataReceived(std::string_view data) override;
  std::string takeUnread() override { return takeAll(); }

  /// Stops receiving, in the middle of what came in, too, and tells the transport.
  void pauseProducing();
  void resumeProducing();
  void stopProducing();

 protected:
  explicit MessageReceiver(std::size_t maxLength = 16384) noexcept : maxLength_(maxLength) {}

  /// Takes one message off the front of input() and delivers it; false: it is not complete yet.
  virtual bool receive() = 0;

  std::string_view input() const noexcept { return input_; }
  /// The first `size` bytes of input(), which are taken off it. They are valid until receive() returns.
  std::string_view take(std::size_t size) noexcept;
  /// Bytes at the front of input() that receive() has seen when it returned false.
  std::size_t seen() const noexcept { return seen_; }
  void setSeen(std::size_t seen) noexcept { seen_ = seen; }
  /// All that is kept, which is taken.
  std::string takeAll();

 private:
  // Lengths up to here can be counted with.
  static constexpr std::size_t kGreatestMaxLength = std::numeric_limits<std::size_t>::max() / 16;

  std::size_t maxLength_;
  std::string kept_;        // between calls of dataReceived
  std::string_view input_;  // within one
  std::string late_;        // what came within one by a nested one
  std::size_t seen_ = 0;
  bool receiving_ = false;
  bool paused_ = false;
};

/// Lines, and raw data in between (Twisted's LineReceiver). At first maxLength() is 16,384 bytes, without the
/// delimiter.
///
///   struct Echo : LineReceiver {
///     void lineReceived(std::string_view line) override { sendLine(line); }
///   };
class LineReceiver : public MessageReceiver {
 public:
  /// A line, without its delimiter; valid during the call.
  virtual void lineReceived(std::string_view line) { (void)line; }
  /// In raw mode: what comes in, cut anywhere.
  virtual void rawDataReceived(std::string_view data) { (void)data; }
  /// A line is longer than maxLength(): `line` is all that has come in, starting with it; it is taken. Unless this is
  /// overridden the connection is lost, connectionLost getting LineTooLongError.
  virtual void lineLengthExceeded(std::string_view line);

  void sendLine(std::string_view line);

  /// What comes after the present line goes to rawDataReceived.
  void setRawMode() noexcept { rawMode_ = true; }
  /// Back to lines. Called in rawDataReceived, `extra` is what is not raw any more of its data.
  void setLineMode(std::string_view extra = {});
  /// Takes what has come in and was not delivered.
  std::string clearLineBuffer() { return takeAll(); }

  /// "\r\n" at first. Throws std::invalid_argument for an empty one.
  void setDelimiter(std::string delimiter);
  const std::string& delimiter() const noexcept { return delimiter_; }

 protected:
  bool receive() override;

 private:
  std::string delimiter_ = "\r\n";
  bool rawMode_ = false;
};

/// Twisted's has no raw mode, and is faster for it; here there is nothing to be gained.
using LineOnlyReceiver = LineReceiver;

/// What netstrings and strings with a length before them share. At first maxLength() is 99,999 bytes.
class StringReceiver : public MessageReceiver {
 public:
  /// A string, without what frames it; valid during the call.
  virtual void stringReceived(std::string_view string) { (void)string; }

 protected:
  StringReceiver() noexcept : MessageReceiver(99999) {}
};

/// "5:hello," (Twisted's NetstringReceiver; https://cr.yp.to/proto/netstrings.txt). What is none, or too long, ends the
/// connection: connectionLost gets NetstringParseError or StringTooLongError.
class NetstringReceiver : public StringReceiver {
 public:
  void sendString(std::string_view string);

 protected:
  bool receive() override;
};

/// A string behind its length, an unsigned number in network byte order (Twisted's IntNStringReceiver).
template <class Length>
class IntNStringReceiver : public StringReceiver {
 public:
  /// Throws StringTooLongError if `Length` cannot hold its length.
  void sendString(std::string_view string);

  /// The peer is about to send `length` bytes, more than maxLength(). Unless this is overridden the connection is
  /// lost, connectionLost getting StringTooLongError. One that goes on must raise maxLength: what has come in is
  /// dropped otherwise.
  virtual void lengthLimitExceeded(std::size_t length);

 protected:
  bool receive() override;
};

using Int8StringReceiver = IntNStringReceiver<std::uint8_t>;
using Int16StringReceiver = IntNStringReceiver<std::uint16_t>;
using Int32StringReceiver = IntNStringReceiver<std::uint32_t>;

extern template class IntNStringReceiver<std::uint8_t>;
extern template class IntNStringReceiver<std::uint16_t>;
extern template class IntNStringReceiver<std::uint32_t>;

/// Sends a file as fast as the peer takes it (Twisted's FileSender):
///   FileSender().beginFileTransfer(file, transport()).addCallback([this](std::string) { transport().loseConnection();
///   });
class FileSender {
 public:
  /// Reads `file` in pieces of 16 KiB, which `transform`, if given, may change, and writes each when `consumer` has
  /// sent the one before. Fires with the last byte written (nothing for an empty file) when all has been handed over.
  /// The file is read in the reactor's thread, and kept until then. Fails with FileTransferStopped if the connection
  /// ends before, and with what reading or `transform` throws (std::ios_base::failure). cancel() stops after the
  /// present piece. Throws std::logic_error if `consumer` has a producer.
  Deferred<std::string> beginFileTransfer(std::shared_ptr<std::istream> file, Transport& consumer,
                                          UniqueFunction<std::string(std::string)> transform = {});
};
struct FileTransferStopped : std::runtime_error {
  FileTransferStopped() : runtime_error("the connection ended before the whole file was sent") {}
};

}  // namespace torsion
