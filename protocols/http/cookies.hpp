// CookieJar: the cookies that a client keeps between requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <protocols/http/uri.hpp>

namespace torsion {

/// Cookies as getPage keeps them: each goes back to the very host that set it, to no other (a Domain attribute is
/// ignored, since a jar cannot know which domains are shared by strangers). Path, Secure, Max-Age and Expires hold.
class CookieJar {
 public:
  struct Cookie {
    std::string name, value;
    std::string host;  ///< lower case
    std::string path = "/";
    bool secure = false;
    std::optional<std::int64_t> expires = {};  ///< seconds since 1970; none: kept as long as the jar
  };

  /// Adds a cookie for `host`, or replaces the one of that name, host and path. Throws InvalidRequest if it would end
  /// its header, or itself, too early.
  void set(Cookie cookie);
  void set(std::string_view name, std::string_view value, std::string_view host) {
    set({std::string(name), std::string(value), std::string(host)});
  }
  /// The value of the cookie that would be sent to `host`, for the path "/".
  std::optional<std::string_view> get(std::string_view name, std::string_view host) const;

  /// Takes over a Set-Cookie header of the answer to a request for `uri`. One that makes no sense, or has more than
  /// 4,096 bytes of name and value, is ignored. Then those that are out of date go, and the oldest of what is more than
  /// 180 of a host or 3,000 in all (RFC 6265, 6.1, wants room for 50 and 3,000 at least).
  void setCookieReceived(const URI& uri, std::string_view header, std::int64_t now = wallClock());
  /// "a=1; b=2": the Cookie header to send to `uri`; empty if there is none. Longer paths first, then the older ones.
  std::string cookieHeader(const URI& uri, std::int64_t now = wallClock()) const;

  const std::vector<Cookie>& cookies() const noexcept { return cookies_; }
  bool empty() const noexcept { return cookies_.empty(); }

 private:
  static std::int64_t wallClock();
  void dropSurplus(const std::string& host, std::int64_t now);
  std::vector<Cookie> cookies_;
};

/// A date of HTTP, in any of its three forms, as seconds since 1970.
std::optional<std::int64_t> parseHttpDate(std::string_view text);

}  // namespace torsion
