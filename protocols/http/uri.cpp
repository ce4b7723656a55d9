#include <protocols/http/uri.hpp>

#include <algorithm>
#include <array>
#include <boost/url/authority_view.hpp>
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

/// `url` without its fragment, and with what RFC 3986 does not allow in a path or query percent-encoded, from `path`
/// on.
std::string_view clean(std::string_view url, std::size_t path, bool spaces, std::string& store) {
  for (const char c : url) {
    if (static_cast<unsigned char>(c) > 0x20 && c != 0x7f) continue;
    if (c != ' ') invalid(url, "it contains a control character");
    if (!spaces) invalid(url, "it contains a space (write %20)");
  }
  url = url.substr(0, url.find('#'));
  std::size_t i = std::min(path, url.size());
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

/// Where the path of `url` starts, whose authority starts at `authority`.
std::size_t pathStart(std::string_view url, std::size_t authority) {
  std::size_t i = authority;
  while (i < url.size() && url[i] != '/' && url[i] != '?' && url[i] != '#') ++i;
  return i;
}

void readAuthority(URI& uri, std::string_view authority, std::string_view url) {
  const auto parsed = urls::parse_authority({authority.data(), authority.size()});
  if (!parsed) invalid(url, "its host or its port is none");
  if (parsed->encoded_host().empty()) invalid(url, "it names no host");
  if (parsed->has_userinfo()) invalid(url, "it contains a user name (send an Authorization header instead)");
  const std::string_view host = view(parsed->encoded_host());
  if (parsed->host_type() == urls::host_type::ipv6) {
    uri.host = toLower(host.substr(1, host.size() - 2));
  } else {
    uri.host = toLower(host);
    const bool plain = std::all_of(uri.host.begin(), uri.host.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    });
    if (!plain) invalid(url, "its host is no name or address (write a name that is not ASCII in its xn-- form)");
  }
  if (const std::string_view digits = view(parsed->port()); !digits.empty()) {
    // port_number() of Boost.URL 1.81 takes 65617 for 81.
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), uri.port);
    if (error != std::errc() || uri.port == 0) invalid(url, "its port is not between 1 and 65535");
  }
}

}  // namespace

URI URI::parse(std::string_view url) {
  const auto colon = url.find("://");
  if (colon == url.npos) invalid(url, "not of the form http://host/path");
  URI result;
  result.scheme = toLower(url.substr(0, colon));
  if (result.scheme == "https") {
    result.port = 443;
  } else if (result.scheme != "http") {
    invalid(url, "only http and https are supported");
  }
  const std::size_t path = pathStart(url, colon + 3);
  std::string store;
  const std::string_view cleaned = clean(url, path, false, store);
  readAuthority(result, cleaned.substr(colon + 3, path - colon - 3), url);
  if (path == cleaned.size() || cleaned[path] == '?') result.originForm = '/';
  result.originForm.append(cleaned.substr(path));
  return result;
}

URI URI::join(std::string_view reference) const {
  const auto slashes = reference.find("//");
  const bool absolute = slashes == 0 || (slashes != reference.npos && slashes == pathStart(reference, 0) &&
                                         reference[slashes - 1] == ':');
  std::string store;
  const std::string_view cleaned = clean(reference, absolute ? pathStart(reference, slashes + 2) : 0, true, store);
  const auto parsed = urls::parse_uri_reference({cleaned.data(), cleaned.size()});
  if (!parsed) invalid(reference, "not a URL reference");
  const std::string base = toString();
  urls::url joined;
  if (!urls::resolve(urls::url_view(base), *parsed, joined)) invalid(reference, "it cannot be resolved");
  URI result = parse(view(joined.buffer()));
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
