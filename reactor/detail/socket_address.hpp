// Addresses as the system's calls take them.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include <reactor/address.hpp>
#include <reactor/detail/unique_fd.hpp>

namespace torsion::detail {

struct SocketAddress {
  sockaddr_storage storage;
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* data() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
};

/// For an IPv4 or IPv6 literal ("::1", "fe80::1%eth0"); nothing for any other text.
std::optional<SocketAddress> socketAddress(const std::string& literal, std::uint16_t port);
Address toAddress(const SocketAddress& address);
/// The literal for an IPv4 or IPv6 address; empty for another.
std::string literalOf(const Address& address);
/// A duplicate that does not block. Throws std::invalid_argument if `fd` is no socket of that family and type, with
/// `what`, and std::system_error.
UniqueFd duplicateSocket(int fd, int family, int type, const char* what);
/// Of a socket; unknown if it is not bound or connected.
Address localAddress(int fd);

}  // namespace torsion::detail
