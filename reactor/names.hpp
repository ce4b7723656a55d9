// DNSResolver: looks up host names without blocking.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <deferred/deferred.hpp>
#include <reactor/interfaces.hpp>

namespace torsion {

class Reactor;

/// Looks names up as the system is configured to (/etc/hosts, /etc/resolv.conf), any number at a time, on a reactor's
/// sockets and timers. Each Reactor has one behind Reactor::resolve; make another to ask other servers.
class DNSResolver final : public NameResolver {
 public:
  /// `servers`: comma-separated addresses, each with a port if that is not 53 ("10.0.0.1,[::1]:5353"); empty for those
  /// of the system. `reactor` must outlive this. Throws std::invalid_argument if it cannot use them.
  explicit DNSResolver(Reactor& reactor, const std::string& servers = {});
  /// Look-ups under way fail with DNSLookupError.
  ~DNSResolver();
  DNSResolver(const DNSResolver&) = delete;
  DNSResolver& operator=(const DNSResolver&) = delete;

  /// The addresses of `name`, those that this machine can reach best first (RFC 6724); ports are 0. Address literals,
  /// and names of /etc/hosts, are there at once; localhost is 127.0.0.1 and ::1 whatever the servers say. Fails with
  /// DNSLookupError; a name that is not ASCII is to be given in its xn-- form. cancel() abandons the look-up.
  Deferred<std::vector<Address>> resolve(const std::string& name) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace torsion
