#include <reactor/error.hpp>

#include <cerrno>
#include <system_error>
#include <utility>

#include <deferred/failure.hpp>
#include <reactor/address.hpp>

namespace torsion {
namespace {

std::string osText(int osError) {
  return std::system_category().message(osError);
}

std::string cannotListenText(const std::string& interface, int port, int osError) {
  std::string text = "Couldn't listen on " + (interface.empty() ? "any" : interface);
  if (port >= 0) text += ':' + std::to_string(port);
  text += ": " + osText(osError);
  switch (osError) {
    case EADDRINUSE:
      return text + " (another program listens there: choose another port, or 0 for any free one)";
    case EACCES:
      return text + " (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
    case EADDRNOTAVAIL:
      if (interface.empty() || isIPAddress(interface) || isIPv6Address(interface)) {
        return text + " (this machine has no such address)";
      }
      return text + " (that is no address and no name of /etc/hosts; look other names up first, with resolve)";
    default:
      return text;
  }
}

}  // namespace

Failure connectErrorFor(int osError, const std::string& what) {
  const std::string text = what + ": " + osText(osError);
  switch (osError) {
    case ECONNREFUSED:
      return Failure(ConnectionRefusedError(text + " (nothing listens there)", osError));
    case ENETUNREACH:
    case EHOSTUNREACH:
      return Failure(NoRouteError(text, osError));
    case ETIMEDOUT:
      return Failure(TCPTimedOutError(text, osError));
    case ENOENT:
    case ENOTSOCK:
      return Failure(BadFileError(text, osError));
    case EMFILE:
    case ENFILE:
      return Failure(ConnectError(text + " (raise the limit, ulimit -n, or keep fewer connections)", osError));
    default:
      return Failure(ConnectError(text, osError));
  }
}

CannotListenError::CannotListenError(std::string interface_, int port_, int osError_)
    : runtime_error(cannotListenText(interface_, port_, osError_)),
      interface(std::move(interface_)),
      port(port_),
      osError(osError_) {}

CannotListenError::CannotListenError(std::string address, int osError_, const std::string& why)
    : runtime_error("Couldn't listen on " + address + ": " + why),
      interface(std::move(address)),
      port(-1),
      osError(osError_) {}

}  // namespace torsion
