#include <protocols/http/cookies.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <ctime>

namespace torsion {
namespace {

constexpr std::size_t kMaxSize = 4096;
constexpr std::size_t kMaxOfHost = 180;
constexpr std::size_t kMaxInAll = 3000;

/// RFC 6265 5.1.4.
bool pathMatches(std::string_view request, std::string_view cookie) {
  return request.starts_with(cookie) &&
         (request.size() == cookie.size() || cookie.ends_with('/') || request[cookie.size()] == '/');
}

std::string_view pathOf(const URI& uri) {
  const std::string_view target = uri.originForm;
  return target.substr(0, target.find('?'));
}

std::string_view defaultPath(const URI& uri) {
  const std::string_view path = pathOf(uri);
  const auto slash = path.rfind('/');
  return slash == 0 || slash == path.npos ? std::string_view("/") : path.substr(0, slash);
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

// RFC 6265 5.1.1: takes the parts wherever they stand.
std::optional<std::int64_t> parseHttpDate(std::string_view text) {
  static constexpr std::array<std::string_view, 12> kMonths = {"jan", "feb", "mar", "apr", "may", "jun",
                                                               "jul", "aug", "sep", "oct", "nov", "dec"};
  std::optional<int> day, month, year, hour, minute, second;
  while (true) {
    const auto start = text.find_first_not_of(" \t,;-\"()");
    if (start == text.npos) break;
    text.remove_prefix(start);
    const std::string_view token = text.substr(0, text.find_first_of(" \t,;-\"()"));
    text.remove_prefix(token.size());
    if (const auto colon = token.find(':'); colon != token.npos) {
      const auto colon2 = token.find(':', colon + 1);
      if (colon2 == token.npos) return std::nullopt;
      hour = number(token.substr(0, colon));
      minute = number(token.substr(colon + 1, colon2 - colon - 1));
      second = number(token.substr(colon2 + 1));
    } else if (const auto n = number(token)) {
      if (!day && token.size() <= 2) {
        day = n;
      } else if (!year) {
        year = token.size() > 2 ? *n : *n + (*n < 70 ? 2000 : 1900);
      }
    } else if (!month && token.size() >= 3) {
      const auto found = std::find(kMonths.begin(), kMonths.end(), toLower(token.substr(0, 3)));
      if (found != kMonths.end()) month = static_cast<int>(found - kMonths.begin());
    }
  }
  if (!day || !month || !year || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month + 1)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || *year < 1601 || *hour < 0 || *hour > 23 || *minute < 0 || *minute > 59 || *second < 0 ||
      *second > 60) {
    return std::nullopt;
  }
  return std::int64_t{std::chrono::sys_days(date).time_since_epoch().count()} * 86400 + *hour * 3600 + *minute * 60 +
         *second;
}

std::int64_t CookieJar::wallClock() {
  return std::time(nullptr);
}

void CookieJar::set(Cookie cookie) {
  if (!isHeaderValue(cookie.name) || !isHeaderValue(cookie.value) ||
      cookie.name.find_first_of("=;") != std::string::npos || cookie.value.find(';') != std::string::npos) {
    throw InvalidRequest("Invalid cookie " + cookie.host +
                         ": no control character or ';' may be in it, nor '=' in its name");
  }
  cookie.host = toLower(cookie.host);
  for (Cookie& old : cookies_) {
    if (old.name == cookie.name && old.host == cookie.host && old.path == cookie.path) {
      old = std::move(cookie);
      return;
    }
  }
  cookies_.push_back(std::move(cookie));
}

std::optional<std::string_view> CookieJar::get(std::string_view name, std::string_view host) const {
  for (const Cookie& c : cookies_) {
    if (c.name == name && c.path == "/" && equalsIgnoreCase(c.host, host)) return c.value;
  }
  return std::nullopt;
}

void CookieJar::setCookieReceived(const URI& uri, std::string_view header, std::int64_t now) {
  if (!isHeaderValue(header)) return;
  std::string_view rest = header;
  const auto nextPart = [&rest] {
    const auto semicolon = rest.find(';');
    const std::string_view part = trim(rest.substr(0, semicolon));
    rest.remove_prefix(semicolon == rest.npos ? rest.size() : semicolon + 1);
    return part;
  };
  const std::string_view pair = nextPart();
  const auto equals = pair.find('=');
  if (equals == pair.npos || trim(pair.substr(0, equals)).empty()) return;
  Cookie cookie{std::string(trim(pair.substr(0, equals))), std::string(trim(pair.substr(equals + 1))), uri.host,
                std::string(defaultPath(uri))};
  if (cookie.name.size() + cookie.value.size() > kMaxSize) return;
  bool maxAgeSeen = false;
  while (!rest.empty()) {
    const std::string_view part = nextPart();
    const std::string_view name = trim(part.substr(0, part.find('=')));
    const std::string_view value = part.find('=') == part.npos ? "" : trim(part.substr(part.find('=') + 1));
    if (equalsIgnoreCase(name, "path")) {
      cookie.path = value.starts_with('/') ? value : defaultPath(uri);
    } else if (equalsIgnoreCase(name, "secure")) {
      cookie.secure = true;
    } else if (equalsIgnoreCase(name, "max-age")) {
      std::int64_t seconds = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (error != std::errc() || end != value.data() + value.size()) continue;
      maxAgeSeen = true;
      cookie.expires = seconds <= 0 ? 0 : now + std::min(seconds, std::int64_t{400} * 86400);
    } else if (equalsIgnoreCase(name, "expires") && !maxAgeSeen) {
      if (const auto date = parseHttpDate(value)) cookie.expires = *date;
    }
  }
  if (cookie.secure && uri.scheme != "https") return;
  if (cookie.expires && *cookie.expires <= now) {
    std::erase_if(cookies_, [&](const Cookie& old) {
      return old.name == cookie.name && old.host == cookie.host && old.path == cookie.path;
    });
    return;
  }
  set(std::move(cookie));
  dropSurplus(uri.host, now);
}

void CookieJar::dropSurplus(const std::string& host, std::int64_t now) {
  std::erase_if(cookies_, [now](const Cookie& c) { return c.expires && *c.expires <= now; });
  // One was added: no more than one of each kind is too many.
  const auto isOfHost = [&host](const Cookie& c) { return c.host == host; };
  if (static_cast<std::size_t>(std::count_if(cookies_.begin(), cookies_.end(), isOfHost)) > kMaxOfHost) {
    cookies_.erase(std::find_if(cookies_.begin(), cookies_.end(), isOfHost));
  }
  if (cookies_.size() > kMaxInAll) cookies_.erase(cookies_.begin());
}

std::string CookieJar::cookieHeader(const URI& uri, std::int64_t now) const {
  std::vector<const Cookie*> matching;
  for (const Cookie& c : cookies_) {
    if (c.host == uri.host && (!c.secure || uri.scheme == "https") && (!c.expires || *c.expires > now) &&
        pathMatches(pathOf(uri), c.path)) {
      matching.push_back(&c);
    }
  }
  // The longest path first, then in the order they are kept (std::stable_sort makes Clang complain of libstdc++ 12).
  std::sort(matching.begin(), matching.end(), [](const Cookie* a, const Cookie* b) {
    return a->path.size() != b->path.size() ? a->path.size() > b->path.size() : a < b;
  });
  std::string header;
  for (const Cookie* c : matching) {
    if (!header.empty()) header += "; ";
    header.append(c->name).append(1, '=').append(c->value);
  }
  return header;
}

}  // namespace torsion
