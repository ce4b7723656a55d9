// URLs, references and cookies: "URL newline REFERENCE newline SET-COOKIE". What parses can be sent, and parses again
// to the same.
#include <cstdint>
#include <string>
#include <string_view>

#include <protocols/http/cookies.hpp>
#include <protocols/http/uri.hpp>

#include "require.hpp"

using namespace torsion;

namespace {

void check(const URI& uri) {
  REQUIRE(uri.scheme == "http" || uri.scheme == "https");
  REQUIRE(!uri.host.empty());
  REQUIRE(uri.originForm.starts_with('/'));
  for (const unsigned char c : uri.originForm + uri.netloc()) REQUIRE(c > 0x20 && c < 0x7f);
  REQUIRE(URI::parse(uri.toString()) == uri);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto line = [&] {
    const std::string_view first = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), first.size() + 1));
    return first;
  };
  try {
    const URI uri = URI::parse(line());
    check(uri);
    const std::string_view reference = line();
    CookieJar jar;
    jar.setCookieReceived(uri, rest, 1'000'000'000);
    const std::string cookies = jar.cookieHeader(uri, 1'000'000'000);
    REQUIRE(isHeaderValue(cookies));
    check(uri.join(reference));
  } catch (const InvalidURL& e) {
    for (const unsigned char c : std::string_view(e.what())) REQUIRE(c >= 0x20 && c < 0x7f);
  }
  return 0;
}
