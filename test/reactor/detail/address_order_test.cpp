#include <reactor/detail/address_order.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

using namespace torsion;

namespace {

using Addresses = std::vector<Address>;

Addresses ordered(Addresses addresses) {
  detail::orderAddresses(addresses);
  return addresses;
}

}  // namespace

TEST_CASE("addresses that are equally good stay in their order") {
  const Addresses addresses{IPv4Address("127.0.0.3"), IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")};
  CHECK(ordered(addresses) == addresses);
  CHECK(ordered({}).empty());
  CHECK(ordered({IPv6Address("fd00::1")}) == Addresses{IPv6Address("fd00::1")});
}

TEST_CASE("what cannot be reached comes last") {
  // Without SO_BROADCAST nothing can be sent to everybody.
  const Address broadcast = IPv4Address("255.255.255.255"), here = IPv4Address("127.0.0.1");
  CHECK(ordered({broadcast, here}) == Addresses{here, broadcast});
}

TEST_CASE("IPv6 comes first where it can be reached") {
  const Address v4 = IPv4Address("127.0.0.1"), v6 = IPv6Address("::1");
  std::string interface;
  std::ifstream("/proc/net/if_inet6") >> interface;
  const bool hasIPv6 = !interface.empty();
  CHECK(ordered({v4, v6}) == (hasIPv6 ? Addresses{v6, v4} : Addresses{v4, v6}));
}
