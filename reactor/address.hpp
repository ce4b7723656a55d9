// Addresses of the two ends of a connection, as getHost() and getPeer() give them (twisted.internet.address).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace torsion {

struct IPv4Address {
  std::string host;  ///< dotted quad
  std::uint16_t port = 0;
  bool operator==(const IPv4Address&) const = default;
};

struct IPv6Address {
  std::string host;
  std::uint16_t port = 0;
  std::uint32_t flowInfo = 0;
  std::uint32_t scopeID = 0;
  bool operator==(const IPv6Address&) const = default;
};

struct UNIXAddress {
  std::string name;  ///< a path; empty for an unnamed socket; starts with '\0' for an abstract one
  bool operator==(const UNIXAddress&) const = default;
};

/// A name that has not been resolved.
struct HostnameAddress {
  std::string hostname;
  std::uint16_t port = 0;
  bool operator==(const HostnameAddress&) const = default;
};

/// std::monostate: not known (no connection, or one that is no socket).
using Address = std::variant<std::monostate, IPv4Address, IPv6Address, UNIXAddress, HostnameAddress>;

/// "127.0.0.1:80", "[::1]:80", "unix:/run/x", "example.com:80", or "-".
/// (Not named toString: doctest would take it for its own.)
std::string describe(const Address& address);

/// True for "127.0.0.1" and the like, in the four-part form only.
bool isIPAddress(std::string_view text);
/// True for "::1", "fe80::1%eth0" and the like, without brackets.
bool isIPv6Address(std::string_view text);

}  // namespace torsion
