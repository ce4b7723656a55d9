#include <reactor/address.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

using namespace torsion;

TEST_CASE("isIPAddress accepts the four-part decimal form alone") {
  for (const char* yes : {"0.1.2.3", "127.0.0.1", "255.255.255.255", "0.0.0.0"}) CHECK_MESSAGE(isIPAddress(yes), yes);
  for (const char* no : {"", "0.1.2", "0.0.1.2.3", "foo.bar.baz.quux", "0.0.0.256", "256.0.0.0", "-1.0.0.0", "1.2.3.4 ",
                         " 1.2.3.4", "1..2.3", "0x7f.0.0.1", "::1", "::ffff:1.2.3.4", "1.2.3.4%eth0"}) {
    CHECK_MESSAGE(!isIPAddress(no), no);
  }
  CHECK_FALSE(isIPAddress(std::string_view("1.2.3.4\0", 8)));
  CHECK_FALSE(isIPAddress(std::string(1000, '1')));
  CHECK_FALSE(isIPv6Address(std::string_view("fe80::1%lo\0x", 12)));
}

TEST_CASE("isIPv6Address accepts a scope but no brackets") {
  for (const char* yes : {"::", "::1", "f0::", "fe80::1", "fe80::1%eth0", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8"}) {
    CHECK_MESSAGE(isIPv6Address(yes), yes);
  }
  for (const char* no : {"", "[::1]", "127.0.0.1", "fe80::1%", "%eth0", "1:2:3:4:5:6:7", ":::", "foo", "::g"}) {
    CHECK_MESSAGE(!isIPv6Address(no), no);
  }
}

TEST_CASE("an address compares by all its parts and prints as a URL has it") {
  CHECK(Address(IPv4Address{"127.0.0.1", 80}) == Address(IPv4Address{"127.0.0.1", 80}));
  CHECK(Address(IPv4Address{"127.0.0.1", 80}) != Address(IPv4Address{"127.0.0.1", 81}));
  CHECK(Address(IPv4Address{"127.0.0.1", 80}) != Address(HostnameAddress{"127.0.0.1", 80}));
  CHECK(Address(IPv6Address{"fe80::1", 80, 0, 1}) != Address(IPv6Address{"fe80::1", 80, 0, 2}));
  CHECK(describe(IPv4Address{"127.0.0.1", 80}) == "127.0.0.1:80");
  CHECK(describe(IPv6Address{"::1", 80}) == "[::1]:80");
  CHECK(describe(UNIXAddress{"/run/x"}) == "unix:/run/x");
  CHECK(describe(UNIXAddress{std::string("\0x", 2)}) == "unix:@x");
  CHECK(describe(HostnameAddress{"example.com", 443}) == "example.com:443");
  CHECK(describe(Address()) == "-");
}

TEST_CASE("a port is an integer of any type from 0 to 65535, and the text of the error names it") {
  enum Known { http = 80 };
  CHECK(PortNumber(http) == 80);
  CHECK(PortNumber(std::uint16_t{65535}) == 65535);
  CHECK(PortNumber(0L) == 0);
  CHECK(PortNumber(8080ul) == 8080);
  const auto problem = [](auto number) {
    try {
      const PortNumber port(number);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(problem(99999) == "the port 99999 is not from 0 to 65535");
  CHECK(problem(-1) == "the port -1 is not from 0 to 65535");
  CHECK(problem(65536u) == "the port 65536 is not from 0 to 65535");
  CHECK(problem(short{-32768}) == "the port -32768 is not from 0 to 65535");
  CHECK(problem(std::uint64_t{1} << 63) == "the port 9223372036854775808 is not from 0 to 65535");
  CHECK(problem(INT64_MIN) == "the port -9223372036854775808 is not from 0 to 65535");
}

TEST_CASE("an address takes no port that does not fit") {
  const int tooMuch = std::stoi("99999");
  CHECK_THROWS_AS(IPv4Address("127.0.0.1", tooMuch), std::invalid_argument);
  CHECK_THROWS_AS((IPv6Address{"::1", -1}), std::invalid_argument);
  CHECK_THROWS_AS((HostnameAddress{"example.com", tooMuch}), std::invalid_argument);
}

TEST_CASE("an address can be printed") {
  std::ostringstream out;
  out << IPv4Address{"127.0.0.1", 80} << ' ' << IPv6Address{"::1", 80} << ' ' << UNIXAddress{"/run/x"} << ' '
      << HostnameAddress{"example.com", 443} << ' ' << Address() << ' ' << Address(IPv4Address{"10.0.0.1"});
  CHECK(out.str() == "127.0.0.1:80 [::1]:80 unix:/run/x example.com:443 - 10.0.0.1:0");
}

TEST_CASE("a text is no address by itself") {
  CHECK_FALSE(std::is_convertible_v<std::string, Address>);
  CHECK_FALSE(std::is_convertible_v<const char*, Address>);
}
