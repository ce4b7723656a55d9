#include <reactor/detail/socket_address.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

namespace torsion::detail {

std::optional<SocketAddress> socketAddress(const std::string& literal, std::uint16_t port) {
  SocketAddress result;
  auto* v4 = ::new (&result.storage) sockaddr_in{};
  if (isIPAddress(literal)) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    ::inet_pton(AF_INET, literal.c_str(), &v4->sin_addr);
    result.size = sizeof(sockaddr_in);
    return result;
  }
  if (!isIPv6Address(literal)) return std::nullopt;
  auto* v6 = ::new (&result.storage) sockaddr_in6{};
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  const auto percent = literal.find('%');
  ::inet_pton(AF_INET6, literal.substr(0, percent).c_str(), &v6->sin6_addr);
  if (percent != literal.npos) {
    const std::string scope = literal.substr(percent + 1);
    const auto end = scope.data() + scope.size();
    if (std::from_chars(scope.data(), end, v6->sin6_scope_id).ptr != end) {
      v6->sin6_scope_id = ::if_nametoindex(scope.c_str());
      if (v6->sin6_scope_id == 0) return std::nullopt;
    }
  }
  result.size = sizeof(sockaddr_in6);
  return result;
}

Address toAddress(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN];
  switch (address.family()) {
    case AF_INET: {
      const auto& v4 = reinterpret_cast<const sockaddr_in&>(address.storage);
      // Without inet_ntop, which calls sprintf: this is done for every connection.
      const auto* bytes = reinterpret_cast<const unsigned char*>(&v4.sin_addr);
      char* end = text;
      for (int i = 0; i < 4; ++i) {
        if (i > 0) *end++ = '.';
        end = std::to_chars(end, text + sizeof text, bytes[i]).ptr;
      }
      return IPv4Address{std::string(text, end), ntohs(v4.sin_port)};
    }
    case AF_INET6: {
      const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
      ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
      return IPv6Address{text, ntohs(v6.sin6_port), ntohl(v6.sin6_flowinfo), v6.sin6_scope_id};
    }
    case AF_UNIX: {
      const auto& un = reinterpret_cast<const sockaddr_un&>(address.storage);
      std::size_t length = address.size - offsetof(sockaddr_un, sun_path);
      if (address.size <= offsetof(sockaddr_un, sun_path)) return UNIXAddress{};
      if (un.sun_path[0] != '\0') length = ::strnlen(un.sun_path, length);
      return UNIXAddress{std::string(un.sun_path, length)};
    }
    default:
      return {};
  }
}

std::string literalOf(const Address& address) {
  if (const auto* v4 = std::get_if<IPv4Address>(&address)) return v4->host;
  const auto* v6 = std::get_if<IPv6Address>(&address);
  if (!v6) return {};
  return v6->scopeID == 0 ? v6->host : v6->host + '%' + std::to_string(v6->scopeID);
}

Address localAddress(int fd) {
  SocketAddress address;
  if (::getsockname(fd, address.data(), &address.size) != 0) return {};
  return toAddress(address);
}

UniqueFd duplicateSocket(int fd, int family, int type, const char* what) {
  const auto option = [fd](int name) {
    int value = -1;
    socklen_t size = sizeof value;
    ::getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
  };
  if (option(SO_TYPE) != type || option(SO_DOMAIN) != family) {
    throw std::invalid_argument(std::string(what) + ": descriptor " + std::to_string(fd) + " is no " +
                                (type == SOCK_DGRAM ? "datagram" : "stream") + " socket of the family given");
  }
  UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate || ::fcntl(duplicate.get(), F_SETFL, ::fcntl(duplicate.get(), F_GETFL) | O_NONBLOCK) < 0) {
    throw std::system_error(errno, std::generic_category(), what);
  }
  return duplicate;
}

}  // namespace torsion::detail
