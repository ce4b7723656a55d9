#include <reactor/detail/address_order.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/unique_fd.hpp>

namespace torsion::detail {
namespace {

using Bytes = std::array<unsigned char, 16>;

// IPv4 as in ::ffff:0:0/96.
Bytes bytesOf(const SocketAddress& address) {
  Bytes bytes{};
  if (address.family() == AF_INET6) {
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr, 16);
  } else {
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(&bytes[12], &reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr, 4);
  }
  return bytes;
}

bool matches(const Bytes& address, const Bytes& prefix, int bits) {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (!std::equal(address.begin(), address.begin() + whole, prefix.begin())) return false;
  return bits % 8 == 0 || (address[whole] ^ prefix[whole]) >> (8 - bits % 8) == 0;
}

struct Policy {
  Bytes prefix;
  int bits, precedence, label;
};

// RFC 6724, 2.1, the longest prefix first.
const Policy& policyOf(const Bytes& address) {
  static constexpr Policy kTable[] = {
      {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, 50, 0},
      {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 35, 4},
      {{}, 96, 1, 3},
      {{0x20, 0x01, 0, 0}, 32, 5, 5},
      {{0x20, 0x02}, 16, 30, 2},
      {{0x3f, 0xfe}, 16, 1, 12},
      {{0xfe, 0xc0}, 10, 1, 11},
      {{0xfc}, 7, 3, 13},
      {{}, 0, 40, 1},
  };
  return *std::find_if(std::begin(kTable), std::end(kTable),
                       [&](const Policy& policy) { return matches(address, policy.prefix, policy.bits); });
}

// As those of multicast: 2 of the link, 5 of the site, 14 everywhere (RFC 6724, 3.1 and 3.2).
int scopeOf(const Bytes& address) {
  const auto* v4 = &address[12];
  if (matches(address, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96)) {
    return v4[0] == 127 || (v4[0] == 169 && v4[1] == 254) ? 2 : 14;
  }
  if (address[0] == 0xff) return address[1] & 15;
  if (matches(address, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128)) return 2;
  if (matches(address, {0xfe, 0x80}, 10)) return 2;
  if (matches(address, {0xfe, 0xc0}, 10)) return 5;
  return 14;
}

// Where this machine's packets to it would come from; nothing if it has no route. Sends nothing.
std::optional<Bytes> sourceFor(const std::string& literal) {
  auto to = socketAddress(literal, 53);
  if (!to) return std::nullopt;
  const UniqueFd fd(::socket(to->family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  SocketAddress from;
  if (!fd || ::connect(fd.get(), to->data(), to->size) < 0 || ::getsockname(fd.get(), from.data(), &from.size) < 0) {
    return std::nullopt;
  }
  return bytesOf(from);
}

// The greater is the better.
using Rank = std::tuple<bool, bool, bool, int, int>;

Rank rankOf(const Address& address) {
  const std::string literal = literalOf(address);
  const auto source = sourceFor(literal);
  if (!source) return {};
  const Bytes to = bytesOf(*socketAddress(literal, 0));
  const Policy& policy = policyOf(to);
  return {true, scopeOf(to) == scopeOf(*source), policy.label == policyOf(*source).label, policy.precedence,
          -scopeOf(to)};
}

}  // namespace

void orderAddresses(std::vector<Address>& addresses) {
  if (addresses.size() < 2) return;
  std::vector<std::pair<Rank, Address>> ranked;
  for (Address& address : addresses) {
    const Rank rank = rankOf(address);
    ranked.emplace_back(rank, std::move(address));
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::transform(ranked.begin(), ranked.end(), addresses.begin(), [](auto& pair) { return std::move(pair.second); });
}

}  // namespace torsion::detail
