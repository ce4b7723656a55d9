// Both parsers of endpoint strings, any string: an endpoint, or std::invalid_argument with a text that can be shown. No
// endpoint is used. Slashes are taken out, so that no device is read as a certificate.
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <reactor/endpoint_strings.hpp>
#include <reactor/testing/memory_reactor.hpp>

#include "require.hpp"

using namespace torsion;

namespace {

template <class F>
void check(F&& parse) {
  try {
    REQUIRE(parse() != nullptr);
  } catch (const std::invalid_argument& e) {
    const std::string_view problem = e.what();
    REQUIRE(problem.size() < 8000);
    for (const unsigned char c : problem) REQUIRE(c >= 0x20 && c < 0x7f);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  std::replace(text.begin(), text.end(), '/', '_');
  static MemoryReactor reactor;
  check([&] { return clientFromString(reactor, text); });
  check([&] { return serverFromString(reactor, text); });
  // An argument stands for itself when it is quoted, whatever it is.
  check([&] { return serverFromString(reactor, "unix:" + quoteStringArgument(text)); });
  check([&] { return clientFromString(reactor, "tls:h:1:endpoint=" + quoteStringArgument(text)); });
  return 0;
}
