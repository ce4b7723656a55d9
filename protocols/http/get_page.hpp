// getPage: fetches one page. With a reactor and an endpoint or two it is what a crawler, a health check or a test needs
// (twisted.web.client.getPage, which Twisted has given up for its HTTP/1.0 and unverified TLS; this one has neither).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <protocols/http/cookies.hpp>
#include <protocols/http/error.hpp>
#include <protocols/http/headers.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>

namespace torsion {

struct PageOptions {
  std::string method = "GET";
  /// The body to send. It changes no method: say `.method = "POST"` too.
  std::optional<std::string> postdata = {};
  /// Sent as they are. Host replaces the URL's; Content-Length, Connection and User-Agent are ignored (see agent).
  Headers headers = {};
  std::string agent = "Torsion PageGetter";
  /// From the name look-up to the last byte, redirects included; zero: no limit (but a connection must be up within 30
  /// s).
  Duration timeout = Duration::zero();
  /// Cookies to send and to keep; see CookieJar.
  std::shared_ptr<CookieJar> cookies = {};
  bool followRedirect = true;
  /// The most requests made; the redirect of the last one is InfiniteRedirection.
  int redirectLimit = 20;
  /// Turns a 302 into a GET without a body, as browsers do, and as 303 does always.
  bool afterFoundGet = false;
  /// Limits of what is received, in bytes. A page is at most 64 MiB unless another limit is set (0: none); what
  /// downloadPage writes has none unless one is set.
  std::size_t maxHeader = 64 * 1024;
  std::optional<std::size_t> maxBody = {};
  /// For https: trust roots and the like, from optionsForClientTLS with any name. Unset: the system's trust roots.
  std::optional<TLSOptions> tls = {};
  /// downloadPage to a file that is there asks for the rest of it and appends.
  bool supportPartial = false;
};

/// A page with what came beside it.
struct PageResponse {
  int status = 0;
  std::string message;  ///< "OK"
  int version = 11;     ///< of HTTP: 10 or 11
  Headers headers;
  std::string body;
  std::string url;  ///< the last one, after redirects
};

/// Fetches `url`, http or https, following redirects, and gives the body. Never fires before it is returned, and not
/// until its connection is closed. Each request has a connection of its own. Fails with
///  - InvalidURL, InvalidRequest: nothing was sent;
///  - DNSLookupError, ConnectError (ConnectionRefusedError, ConnectTimeoutError, ...): there was no connection;
///  - VerifyError, SSLError: the server's certificate is not good, or TLS failed otherwise;
///  - HttpError for each status but 200, 201, 202; PageRedirect without followRedirect; InfiniteRedirection;
///  - PartialDownloadError, or, before the head of the answer was there, ConnectionDone or ConnectionLost: it ended
///  early;
///  - HttpParseError, HttpLimitError: the answer is malformed, or larger than the limits;
///  - TimeoutError: `timeout` passed.
///
/// A redirect 301, 302, 307 or 308 repeats method and body; 303 makes it a GET (HEAD stays HEAD). Where it leads to
/// another scheme, host or port, the headers Authorization, Proxy-Authorization, Cookie and Host are no longer sent.
/// cancel() closes the connection at once, and gives CancelledError.
///
/// (The options are no default argument: GCC 12 destroys one that stands in a co_await expression twice.)
Deferred<std::string> getPage(std::string_view url, PageOptions options, NetworkReactor& reactor = torsion::reactor(),
                              std::source_location where = std::source_location::current());
inline Deferred<std::string> getPage(std::string_view url,
                                     std::source_location where = std::source_location::current()) {
  return getPage(url, PageOptions(), reactor(), where);
}

/// As getPage, with status and headers beside the body.
Deferred<PageResponse> getPageResponse(std::string_view url, PageOptions options,
                                       NetworkReactor& reactor = torsion::reactor(),
                                       std::source_location where = std::source_location::current());
inline Deferred<PageResponse> getPageResponse(std::string_view url,
                                              std::source_location where = std::source_location::current()) {
  return getPageResponse(url, PageOptions(), reactor(), where);
}

/// As getPage, writing the page to the file `path`, which is opened (and emptied) when the head of a success is there
/// and keeps what came if the rest fails; then PartialDownloadError has no body. A file that cannot be written gives
/// std::system_error. Writing blocks the reactor's thread.
Deferred<void> downloadPage(std::string_view url, const std::string& path, PageOptions options,
                            NetworkReactor& reactor = torsion::reactor(),
                            std::source_location where = std::source_location::current());
inline Deferred<void> downloadPage(std::string_view url, const std::string& path,
                                   std::source_location where = std::source_location::current()) {
  return downloadPage(url, path, PageOptions(), reactor(), where);
}

/// As getPage, giving the body of a success to `sink` as it comes. What it throws ends the fetch and is the failure.
Deferred<void> downloadPage(std::string_view url, UniqueFunction<void(std::string_view)> sink, PageOptions options,
                            NetworkReactor& reactor = torsion::reactor(),
                            std::source_location where = std::source_location::current());
inline Deferred<void> downloadPage(std::string_view url, UniqueFunction<void(std::string_view)> sink,
                                   std::source_location where = std::source_location::current()) {
  return downloadPage(url, std::move(sink), PageOptions(), reactor(), where);
}

}  // namespace torsion
