// The parsers of HTTP/1.x messages, over Boost.Beast's: bytes in, events out, no connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <protocols/http/error.hpp>

namespace torsion {

enum class HttpEvent {
  needMore,  ///< everything given has been taken
  head,      ///< head() is whole
  body,      ///< body() is the next piece, decoded if it was chunked
  end,       ///< the message is whole
};

struct ResponseHead {
  int status = 0;
  int version = 11;  ///< 10 or 11
  std::string message;
  Headers headers;
  std::optional<std::uint64_t> contentLength;
  bool keepAlive = false;  ///< the connection may carry another message after this one
};

struct RequestHead {
  std::string method;
  std::string target;  ///< as it was sent
  int version = 11;
  Headers headers;
  std::optional<std::uint64_t> contentLength;
  bool chunked = false;
  bool keepAlive = false;
};

/// Parses the messages of one connection, one after another. Each must be fetched to its `end`:
///
///   while (true) switch (parser.next(data)) { case HttpEvent::needMore: return; ... }
///
/// Stricter than Beast about where a message ends: a message is refused that has a Transfer-Encoding other than
/// `chunked`, one beside a Content-Length, one in HTTP/1.0, or several; and a request without Host, or with two. Of
/// responses it reads what servers send and clients know to read: lines that end in LF alone, folded ones, no reason, a
/// chunk's size with padding.
/// Instantiated for RequestHead and ResponseHead.
template <class Head>
class HttpParser {
 public:
  /// `headerLimit`: bytes that a head, or a chunk's header and trailer, may have.
  explicit HttpParser(std::size_t headerLimit = 64 * 1024);
  HttpParser(HttpParser&&) noexcept;
  HttpParser& operator=(HttpParser&&) noexcept;
  ~HttpParser();

  /// Takes bytes from the front of `data`; what it does not take must be given again.
  /// Throws HttpParseError or HttpLimitError; then the connection is of no further use.
  HttpEvent next(std::string_view& data);

  /// The peer has closed the connection. True if that is how the body was to end; false if it was cut short.
  bool finish();

  /// The head of the message; may be moved from. Valid from the event `head` until next() after `end`.
  Head& head() noexcept;
  /// Valid until next() is called again, and as long as the data given to it.
  std::string_view body() const noexcept;
  /// True after the event `head` until the event `end`.
  bool inBody() const noexcept;
  /// True from the first byte of a message until its `end`.
  bool started() const noexcept;

  /// For responses: whether the requests are HEAD, so that there is no body whatever the head says. Holds for the
  /// messages that have not begun, until it is set anew.
  void expectNoBody(bool noBody = true);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

using ResponseParser = HttpParser<ResponseHead>;
using RequestParser = HttpParser<RequestHead>;

}  // namespace torsion
