// URI: an http or https URL, taken apart (twisted.web.client.URI).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <protocols/http/error.hpp>

namespace torsion {

/// What a request needs of a URL. A fragment is dropped; an empty path becomes "/".
struct URI {
  std::string scheme;       ///< "http" or "https"
  std::string host;         ///< a name in lower case, or an address; IPv6 without brackets
  std::uint16_t port = 80;  ///< the scheme's own where the URL gives none
  std::string originForm;   ///< path and query as they are sent: "/a/b?c=d"

  /// Parses an absolute URL by RFC 3986. In the path and the query, characters that are allowed in no URL but common in
  /// practice (non-ASCII, `|`, `[`, a lone `%`, ...) are percent-encoded.
  /// Throws InvalidURL: no scheme or host, another scheme, a user name, a space or control character, a bad port.
  static URI parse(std::string_view url);

  /// Resolves `reference`, such as a Location header, against this URL (RFC 3986, section 5). Spaces are
  /// percent-encoded here. Throws InvalidURL.
  URI join(std::string_view reference) const;

  /// "example.com", "[::1]:8080": the Host header. The port is left out where it is the scheme's own.
  std::string netloc() const;
  void appendNetloc(std::string& text) const;
  std::string toString() const;
  /// The same scheme, host and port.
  bool sameOrigin(const URI& other) const noexcept {
    return port == other.port && host == other.host && scheme == other.scheme;
  }
  bool operator==(const URI&) const = default;
};

/// True for what may stand in a Host header: a host, with or without a port (RFC 9112 3.2); nothing is one, too.
bool isHost(std::string_view host);

}  // namespace torsion
