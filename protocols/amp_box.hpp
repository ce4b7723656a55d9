// The messages of AMP as they are on the wire, and AMP's errors (twisted.protocols.amp). What programs use is in
// amp.hpp.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <deferred/failure.hpp>

namespace torsion::amp {

/// A message: keys with their values, both bytes (Twisted's AmpBox).
using Box = std::map<std::string, std::string, std::less<>>;

/// In bytes.
inline constexpr std::size_t kMaxKeyLength = 0xff;
inline constexpr std::size_t kMaxValueLength = 0xffff;

/// `box` as it is sent, ordered by its keys. Throws TooLong, and MalformedAmpBox for a key that is empty.
std::string serialize(const Box& box);
/// All boxes of `data`. Throws TooLong for a key, and MalformedAmpBox if the last box is cut off.
std::vector<Box> parseString(std::string_view data);

// ---- errors

/// The base of all that follow.
struct AmpError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// A key of more than 255 bytes, or a value of more than 65,535. `isLocal`: this side was to send it, and has sent
/// nothing; else the peer has sent such a key, and the connection ends.
struct TooLong : AmpError {
  TooLong(bool isKey, bool isLocal, std::size_t length, const std::string& keyName = {});
  bool isKey;
  bool isLocal;
  std::size_t length;
  std::string keyName;  ///< of a value
};

/// A box without anything in it that says what it is for. From the peer it ends the connection.
struct NoEmptyBoxes : AmpError {
  using AmpError::AmpError;
};
/// What the peer sent is no box, or answers a question that was not asked. It ends the connection.
struct MalformedAmpBox : AmpError {
  using AmpError::AmpError;
};
/// The peer went beyond one of the limits of class AMP, which what() names. It ends the connection.
struct AmpLimitError : AmpError {
  using AmpError::AmpError;
};

/// A box lacks an argument that is not optional.
struct InvalidSignature : AmpError {
  using AmpError::AmpError;
};
/// A value that is not, or cannot be, of its field's type: "x" for an Integer, or one that does not fit (Python's
/// ValueError, TypeError and UnicodeDecodeError).
struct BadValue : AmpError {
  using AmpError::AmpError;
};
/// What a responder returned cannot be sent; `enclosed` says why. The peer gets UnknownRemoteError.
struct BadLocalReturn : AmpError {
  explicit BadLocalReturn(Failure enclosed);
  Failure enclosed;
};

/// The peer answered with an error. A responder that throws one sends it: with `fatal`, and closes after it.
struct RemoteAmpError : AmpError {
  RemoteAmpError(std::string errorCode, std::string description, bool fatal = false);
  std::string errorCode;
  std::string description;
  bool fatal;
};
/// The peer answered with an error that the command does not declare; UNKNOWN is what it sends for one that it does not
/// know itself.
struct UnknownRemoteError : RemoteAmpError {
  using RemoteAmpError::RemoteAmpError;
};
/// The peer has no responder for the command.
struct UnhandledCommand : AmpError {
  using AmpError::AmpError;
};
/// TLS can be started once in a connection.
struct OnlyOneTLS : AmpError {
  using AmpError::AmpError;
};

namespace detail {

/// Puts a box together from the strings that come in.
class BoxParser {
 public:
  /// Takes whole keys and values off the front of `input`; true when they complete a box. Throws TooLong, and
  /// AmpLimitError.
  bool parse(std::string_view& input);
  /// The box that is complete.
  Box take() noexcept;
  /// Nothing of a box has been taken.
  bool atStart() const noexcept { return length_ == 0; }

  std::size_t maxLength = static_cast<std::size_t>(-1);
  std::size_t maxKeys = static_cast<std::size_t>(-1);

 private:
  Box box_;
  std::string key_;  // whose value comes next, if it is not empty
  std::size_t length_ = 0;
};

}  // namespace detail
}  // namespace torsion::amp
