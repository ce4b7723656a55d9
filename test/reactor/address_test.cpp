#include <reactor/address.hpp>

#include <doctest/doctest.h>

#include <string>

using namespace torsion;

TEST_CASE("isIPAddress accepts the four-part decimal form alone") {
  for (const char* yes : {"0.1.2.3", "127.0.0.1", "255.255.255.255", "0.0.0.0"}) CHECK_MESSAGE(isIPAddress(yes), yes);
  for (const char* no : {"", "0.1.2", "0.0.1.2.3", "foo.bar.baz.quux", "0.0.0.256", "256.0.0.0", "-1.0.0.0", "1.2.3.4 ",
                         " 1.2.3.4", "1..2.3", "0x7f.0.0.1", "::1", "::ffff:1.2.3.4", "1.2.3.4%eth0"}) {
    CHECK_MESSAGE(!isIPAddress(no), no);
  }
  CHECK_FALSE(isIPAddress(std::string_view("1.2.3.4\0", 8)));
  CHECK_FALSE(isIPAddress(std::string(1000, '1')));
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
