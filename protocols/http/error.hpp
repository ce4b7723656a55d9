// The exceptions of HTTP (twisted.web.error). Those of connections are in reactor/error.hpp.
#pragma once

#include <stdexcept>
#include <string>

#include <protocols/http/headers.hpp>

namespace torsion {

/// The URL is malformed, or its scheme is neither http nor https. Nothing was sent.
struct InvalidURL : std::invalid_argument {
  using invalid_argument::invalid_argument;
};

/// The method or a header cannot be sent: it would change where the request, or the header, ends. Nothing was sent.
struct InvalidRequest : std::invalid_argument {
  using invalid_argument::invalid_argument;
};

/// The peer's message is not HTTP/1.x, or says two things about where it ends.
struct HttpParseError : std::runtime_error {
  explicit HttpParseError(const std::string& what, int status = 400) : runtime_error(what), status(status) {}
  int status;  ///< what a server answers to such a request: 400, 413, 431 or 501
};

/// The peer's header or body is larger than the limit that was set; what() names the option to raise.
struct HttpLimitError : HttpParseError {
  using HttpParseError::HttpParseError;
};

/// The server answered with a status that is no success (Twisted's web.error.Error). what() is "404 Not Found".
struct HttpError : std::runtime_error {
  /// An empty `message` becomes the standard reason of `status`.
  explicit HttpError(int status, std::string message = {}, std::string response = {}, Headers headers = {});
  int status;
  std::string message;   ///< the reason phrase
  std::string response;  ///< the body
  Headers headers;
};

/// The connection ended before the body of a success did; `response` is what came.
struct PartialDownloadError : HttpError {
  using HttpError::HttpError;
};

/// A redirect that followRedirect = false does not follow. message is "Found to /there".
struct PageRedirect : HttpError {
  PageRedirect(int status, const std::string& message, std::string location, Headers headers = {});
  std::string location;  ///< as the server sent it
};

/// More redirects than redirectLimit.
struct InfiniteRedirection : HttpError {
  InfiniteRedirection(int status, const std::string& message, std::string location, Headers headers = {});
  std::string location;
};

/// "Not Found" for 404; "Unknown Status" for what has no name.
const char* reasonPhrase(int status) noexcept;

}  // namespace torsion
