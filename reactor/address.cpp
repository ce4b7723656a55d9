#include <reactor/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <cstring>
#include <ostream>
#include <stdexcept>

namespace torsion {
namespace {

bool parses(int family, std::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  unsigned char binary[sizeof(in6_addr)];
  if (text.empty() || text.size() >= sizeof buffer || text.find('\0') != text.npos) return false;
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  return ::inet_pton(family, buffer, binary) == 1;
}

struct Printer {
  std::string operator()(std::monostate) const { return "-"; }
  std::string operator()(const IPv4Address& a) const { return a.host + ':' + std::to_string(a.port); }
  std::string operator()(const IPv6Address& a) const { return '[' + a.host + "]:" + std::to_string(a.port); }
  std::string operator()(const UNIXAddress& a) const {
    std::string name = a.name;
    if (!name.empty() && name[0] == '\0') name[0] = '@';
    return "unix:" + name;
  }
  std::string operator()(const HostnameAddress& a) const { return a.hostname + ':' + std::to_string(a.port); }
};

}  // namespace

void PortNumber::refuse(bool negative, std::uint64_t number) {
  throw std::invalid_argument("the port " + (negative ? '-' + std::to_string(-number) : std::to_string(number)) +
                              " is not from 0 to 65535");
}

std::string describe(const Address& address) {
  return std::visit(Printer{}, address);
}

std::ostream& detail::print(std::ostream& out, const Address& address) {
  return out << describe(address);
}

bool isIPAddress(std::string_view text) {
  return parses(AF_INET, text);
}

bool isIPv6Address(std::string_view text) {
  if (auto percent = text.find('%'); percent != text.npos) {
    const std::string_view scope = text.substr(percent + 1);
    if (scope.empty() || scope.size() >= IF_NAMESIZE || scope.find('\0') != scope.npos) return false;
    text = text.substr(0, percent);
  }
  return parses(AF_INET6, text);
}

}  // namespace torsion
