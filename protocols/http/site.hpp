// Site: an HTTP/1.1 server (twisted.web.server.Site). A Factory: it serves over any transport that it is given.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/detail/require.hpp>
#include <protocols/http/headers.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

struct Request {
  std::string method;
  std::string path;   ///< as it was sent, percent-encoded: "/a%20b"
  std::string query;  ///< what follows "?", or empty
  int version = 11;   ///< 10 or 11
  Headers headers;
  std::string body;  ///< whole, decoded if it was chunked
  Address peer;
};

/// What a handler answers. Content-Length, Date, Server and Connection are added; text without a Content-Type is
/// text/plain in UTF-8.
struct Response {
  int status = 200;
  Headers headers = {};
  std::string body = {};
};

/// A handler's return value, whichever it was.
using Reply = std::variant<Response, Deferred<Response>>;

struct SiteOptions {
  std::size_t maxHeader = 64 * 1024;       ///< a larger head is answered with 431
  std::size_t maxBody = 16 * 1024 * 1024;  ///< a larger body is answered with 413
  /// A connection on which nothing comes and nothing can be sent for so long is closed; a handler may take longer.
  Duration idleTimeout = std::chrono::seconds(60);
  /// A request whose head is not whole so long after its first byte is answered with 408; 0: no limit.
  Duration headTimeout = std::chrono::seconds(30);
  /// Bytes a second. A body that comes more slowly, taken over at least 20 s, is answered with 408; 0: no limit.
  std::size_t minBodyRate = 500;
};

/// Answers requests by handlers, found by method and path. Set it up, then listen:
///
///   auto site = std::make_shared<Site>();
///   site->route("/", [] { return "hello"; });
///   site->route("/slow", [] { return deferLater(reactor(), 1s, [] { return std::string("at last"); }); });
///   site->route("POST", "/echo", [](const Request& request) { return request.body; });
///   reactor().listenTCP(8000, site);
///
/// Requests on a connection are answered one at a time, in order. A request is refused with 400, 413, 431 or 501 if it
/// is malformed, ambiguous about where it ends, or too large; with 404 or 405 if no route is for it.
class Site final : public Factory, public std::enable_shared_from_this<Site> {
 public:
  using Handler = UniqueFunction<Reply(const Request&)>;

  /// `time` must outlive the site's connections.
  explicit Site(SiteOptions options = {}, Time& time = reactor()) : options_(options), time_(time) {}

  /// Answers `method` (and HEAD, where that is GET) for `path`, or, where that ends in "/*", for all paths that begin
  /// so; an exact path goes before these, a longer one before a shorter. Replaces an earlier handler of the two.
  ///
  /// `handler` takes a const Request& or nothing, and returns the text of a page, a Response, or a Deferred of either;
  /// so it may be a coroutine. The Request stays valid until the Deferred has fired. If the handler throws or its
  /// Deferred fails, that is logged, and the answer is 500. If the connection is lost, the Deferred is cancelled; a
  /// client that only shuts its writing side gets its answer. The handler stays until the Deferred has fired.
  template <class F>
  void route(std::string method, const std::string& path, F handler) {
    detail::requireCallable(handler, "route: there is no handler");
    // As what it returns says, so that a lambda coroutine is kept (see UniqueFunction).
    if constexpr (std::is_invocable_v<F&, const Request&>) {
      using Returned = std::invoke_result_t<F&, const Request&>;
      addRoute(std::move(method), path,
               [handler = UniqueFunction<Returned(const Request&)>(std::move(handler))](
                   const Request& request) mutable -> Reply { return reply(handler(request)); });
    } else {
      static_assert(std::is_invocable_v<F&>, "route: the handler must take a const Request&, or nothing");
      using Returned = std::invoke_result_t<F&>;
      addRoute(std::move(method), path,
               [handler = UniqueFunction<Returned()>(std::move(handler))](const Request&) mutable -> Reply {
                 return reply(handler());
               });
    }
  }
  template <class F>
  void route(const std::string& path, F handler) {
    route("GET", path, std::move(handler));
  }

  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;

 private:
  friend class HTTPChannel;
  using Methods = std::map<std::string, Handler, std::less<>>;

  static Reply reply(std::string text) { return textResponse(std::move(text)); }
  static Reply reply(Response response) { return response; }
  static Reply reply(Deferred<Response> response) { return response; }
  static Reply reply(Deferred<std::string> text) { return std::move(text).addCallback(textResponse); }
  static Response textResponse(std::string text) { return {.body = std::move(text)}; }

  void addRoute(std::string method, const std::string& path, Handler handler);
  Reply answer(const Request& request);
  Methods* find(std::string_view path);

  SiteOptions options_;
  Time& time_;
  std::map<std::string, Methods, std::less<>> exact_;
  std::vector<std::pair<std::string, Methods>> prefixes_;  // the longest first
};

}  // namespace torsion
