#include <protocols/http/uri.hpp>

#include <algorithm>
#include <array>
#include <boost/url/parse.hpp>
#include <boost/url/url.hpp>
#include <boost/url/url_view.hpp>
#include <charconv>

#include <protocols/http/headers.hpp>

namespace torsion {
namespace {

namespace urls = boost::urls;

std::string_view view(boost::core::string_view text) {
  return {text.data(), text.size()};
}

constexpr std::string_view kHex = "0123456789ABCDEF";

bool isHex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

[[noreturn]] void invalid(std::string_view url, std::string_view why) {
  std::string text = "Invalid URL '";
  for (char c : url.substr(0, 200)) {  // what is invalid may be a control character, and this is printed
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7f) {
      text += c;
    } else {
      text.append("\\x").append(1, kHex[u >> 4]).append(1, kHex[u & 15]);
    }
  }
  throw InvalidURL(text.append(url.size() > 200 ? "...': " : "': ").append(why));
}

/// Where the path starts: after the authority, if there is one.
std::size_t pathStart(std::string_view url) {
  const auto slashes = url.find("//");
  const auto other = url.find_first_of("/?#");
  if (slashes == url.npos || slashes != other) return 0;
  return std::min(url.find_first_of("/?#", slashes + 2), url.size());
}

constexpr auto kEscaped = [] {
  std::array<bool, 256> table{};
  for (std::size_t c = 0; c < 256; ++c) table[c] = c <= 0x20 || c >= 0x7f;
  for (const char c : std::string_view("\"<>[\\]^`{|}")) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

bool needsEscape(std::string_view rest) {
  if (rest.front() == '%') return rest.size() < 3 || !isHex(rest[1]) || !isHex(rest[2]);
  return kEscaped[static_cast<unsigned char>(rest.front())];
}

/// `url` without its fragment, and with what RFC 3986 does not allow after the authority percent-encoded.
std::string_view clean(std::string_view url, bool spaces, std::string& store) {
  const std::string_view whole = url;
  if (const auto bad = std::find_if(url.begin(), url.end(),
                                    [&](unsigned char c) { return c < 0x20 || c == 0x7f || (c == ' ' && !spaces); });
      bad != url.end()) {
    invalid(whole, *bad == ' ' ? "it contains a space (write %20)" : "it contains a control character");
  }
  url = url.substr(0, url.find('#'));
  const std::size_t path = pathStart(url);
  std::size_t i = path;
  while (i < url.size() && !needsEscape(url.substr(i))) ++i;
  if (i == url.size()) return url;
  store.assign(url.substr(0, i));
  for (; i < url.size(); ++i) {
    if (needsEscape(url.substr(i))) {
      const auto u = static_cast<unsigned char>(url[i]);
      store.append(1, '%').append(1, kHex[u >> 4]).append(1, kHex[u & 15]);
    } else {
      store += url[i];
    }
  }
  return store;
}

URI fromView(const urls::url_view& u, std::string_view url) {
  URI result;
  result.scheme = toLower(view(u.scheme()));
  if (result.scheme == "http") {
    result.port = 80;
  } else if (result.scheme == "https") {
    result.port = 443;
  } else {
    invalid(url, "only http and https are supported");
  }
  if (!u.has_authority() || u.encoded_host().empty()) invalid(url, "it names no host");
  // Boost.URL 1.81 takes "http://h:x/" for the path "x/".
  if (!u.encoded_path().empty() && u.encoded_path().front() != '/') invalid(url, "its port is no number");
  if (u.has_userinfo()) invalid(url, "it contains a user name (send an Authorization header instead)");
  if (u.host_type() == urls::host_type::ipv6) {
    const auto host = view(u.encoded_host());
    result.host = toLower(host.substr(1, host.size() - 2));
  } else {
    result.host = toLower(view(u.encoded_host()));
    const bool plain = std::all_of(result.host.begin(), result.host.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    });
    if (!plain) invalid(url, "its host is no name or address (write a name that is not ASCII in its xn-- form)");
  }
  if (u.has_port() && !u.port().empty()) {
    const auto digits = view(u.port());  // port_number() of Boost.URL 1.81 takes 65617 for 81
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
    if (parsed.ec != std::errc() || result.port == 0) invalid(url, "its port is not between 1 and 65535");
  }
  result.originForm = view(u.encoded_path());
  if (result.originForm.empty()) result.originForm = "/";
  if (u.has_query()) result.originForm.append(1, '?').append(view(u.encoded_query()));
  return result;
}

}  // namespace

URI URI::parse(std::string_view url) {
  std::string store;
  const std::string_view cleaned = clean(url, false, store);
  const auto parsed = urls::parse_uri({cleaned.data(), cleaned.size()});
  if (!parsed) invalid(url, "not of the form http://host/path");
  return fromView(*parsed, url);
}

URI URI::join(std::string_view reference) const {
  std::string store;
  const std::string_view cleaned = clean(reference, true, store);
  const auto parsed = urls::parse_uri_reference({cleaned.data(), cleaned.size()});
  if (!parsed) invalid(reference, "not a URL reference");
  const std::string base = toString();
  urls::url joined;
  if (!urls::resolve(urls::url_view(base), *parsed, joined)) invalid(reference, "it cannot be resolved");
  URI result = fromView(joined, reference);
  // Boost.URL 1.81 keeps the ".." that lead above the root.
  std::size_t above = 0;
  while (result.originForm.compare(above, 4, "/../") == 0) above += 3;
  result.originForm.erase(0, above);
  if (result.originForm == "/..") result.originForm = "/";
  return result;
}

std::string URI::netloc() const {
  std::string result;
  appendNetloc(result);
  return result;
}

void URI::appendNetloc(std::string& text) const {
  if (host.find(':') == host.npos) {
    text.append(host);
  } else {
    text.append(1, '[').append(host).append(1, ']');
  }
  if (port == (scheme == "https" ? 443 : 80)) return;
  std::array<char, 8> digits;
  const char* end = std::to_chars(digits.data(), digits.data() + digits.size(), port).ptr;
  text.append(1, ':').append(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

std::string URI::toString() const {
  std::string text;
  text.reserve(scheme.size() + host.size() + originForm.size() + 12);
  text.append(scheme).append("://");
  appendNetloc(text);
  return text.append(originForm);
}

}  // namespace torsion
