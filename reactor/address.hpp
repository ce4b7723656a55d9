// Addresses of the two ends of a connection, as getHost() and getPeer() give them (twisted.internet.address).
#pragma once

#include <concepts>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace torsion {

/// A port as functions take it: an integer of any type. Throws std::invalid_argument, which names it, if it is not from
/// 0 to 65535.
class PortNumber {
 public:
  template <class T>
    requires std::integral<decltype(+std::declval<const T&>())>
  constexpr PortNumber(const T& number) : value_(static_cast<std::uint16_t>(+number)) {
    if (!std::in_range<std::uint16_t>(+number)) refuse(+number < 0, static_cast<std::uint64_t>(+number));
  }
  constexpr operator std::uint16_t() const noexcept { return value_; }

 private:
  // A negative number comes as its two's complement.
  [[noreturn]] static void refuse(bool negative, std::uint64_t number);
  std::uint16_t value_;
};

struct IPv4Address {
  IPv4Address() = default;
  explicit IPv4Address(std::string host) : host(std::move(host)) {}
  IPv4Address(std::string host, PortNumber port) : host(std::move(host)), port(port) {}
  std::string host;  ///< dotted quad
  std::uint16_t port = 0;
  bool operator==(const IPv4Address&) const = default;
};

struct IPv6Address {
  IPv6Address() = default;
  explicit IPv6Address(std::string host) : host(std::move(host)) {}
  IPv6Address(std::string host, PortNumber port, std::uint32_t flowInfo = 0, std::uint32_t scopeID = 0)
      : host(std::move(host)), port(port), flowInfo(flowInfo), scopeID(scopeID) {}
  std::string host;
  std::uint16_t port = 0;
  std::uint32_t flowInfo = 0;
  std::uint32_t scopeID = 0;
  bool operator==(const IPv6Address&) const = default;
};

struct UNIXAddress {
  UNIXAddress() = default;
  explicit UNIXAddress(std::string name) : name(std::move(name)) {}
  std::string name;  ///< a path; empty for an unnamed socket; starts with '\0' for an abstract one
  bool operator==(const UNIXAddress&) const = default;
};

/// A name that has not been resolved.
struct HostnameAddress {
  HostnameAddress() = default;
  HostnameAddress(std::string hostname, PortNumber port) : hostname(std::move(hostname)), port(port) {}
  std::string hostname;
  std::uint16_t port = 0;
  bool operator==(const HostnameAddress&) const = default;
};

/// An address of any kind. std::monostate: not known (no connection, or one that is no socket).
using Address = std::variant<std::monostate, IPv4Address, IPv6Address, UNIXAddress, HostnameAddress>;

/// "127.0.0.1:80", "[::1]:80", "unix:/run/x", "example.com:80", or "-".
/// (Not named toString: doctest would take it for its own.)
std::string describe(const Address& address);
namespace detail {
std::ostream& print(std::ostream& out, const Address& address);
}
/// Prints an Address, or one of its kinds, as describe() gives it.
// A template, so that nothing else is converted to print it.
template <class T>
  requires std::same_as<T, Address> || std::same_as<T, IPv4Address> || std::same_as<T, IPv6Address> ||
           std::same_as<T, UNIXAddress> || std::same_as<T, HostnameAddress>
std::ostream& operator<<(std::ostream& out, const T& address) {
  return detail::print(out, address);
}

/// True for "127.0.0.1" and the like, in the four-part form only.
bool isIPAddress(std::string_view text);
/// True for "::1", "fe80::1%eth0" and the like, without brackets.
bool isIPv6Address(std::string_view text);

}  // namespace torsion
