#include <protocols/http/uri.hpp>

#include <algorithm>
#include <array>
#include <boost/url/authority_view.hpp>
#include <boost/url/parse.hpp>
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

bool isDots(std::string_view segment, std::size_t dots) {
  for (; dots > 0; --dots) {
    const std::size_t size = segment.starts_with('.') ? 1 : equalsIgnoreCase(segment.substr(0, 3), "%2e") ? 3 : 0;
    if (size == 0) return false;
    segment.remove_prefix(size);
  }
  return segment.empty();
}

/// The path and query `target` without its segments "." and ".." (RFC 3986 5.2.4).
std::string withoutDots(std::string_view target) {
  const std::string_view query = target.substr(std::min(target.find('?'), target.size()));
  std::string_view path = target.substr(0, target.size() - query.size());
  std::string result;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/', 1), path.size());
    const std::string_view segment = path.substr(1, end - 1);
    const bool up = isDots(segment, 2);
    if (up) result.erase(std::min(result.rfind('/'), result.size()));
    if (!up && !isDots(segment, 1)) {
      result.append(path.substr(0, end));
    } else if (end == path.size()) {
      result += '/';
    }
    path.remove_prefix(end);
  }
  return (result.empty() ? "/" : result).append(query);
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

bool isHost(std::string_view host) {
  const auto parsed = urls::parse_authority({host.data(), host.size()});
  if (!parsed || parsed->has_userinfo()) return false;
  return std::all_of(host.begin(), host.end(),
                     [](char c) { return !kEscaped[static_cast<unsigned char>(c)] || c == '[' || c == ']'; });
}

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
  if (parsed->has_scheme()) {
    URI result = parse(cleaned);
    result.originForm = withoutDots(result.originForm);
    return result;
  }
  if (absolute) {
    URI result = parse(scheme + ':' + std::string(cleaned));
    result.originForm = withoutDots(result.originForm);
    return result;
  }
  // RFC 3986 5.2.2. Not by Boost.URL 1.81, which decodes "%2F".
  URI result = *this;
  const std::string_view path = std::string_view(originForm).substr(0, originForm.find('?'));
  if (cleaned.starts_with('?')) {
    result.originForm = std::string(path).append(cleaned);
  } else if (!cleaned.empty()) {
    const std::string_view folder = cleaned.starts_with('/') ? "" : path.substr(0, path.rfind('/') + 1);
    result.originForm = withoutDots(std::string(folder).append(cleaned));
  }
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
