// DNSResolver: looks up host names without blocking.
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include <deferred/deferred.hpp>
#include <reactor/interfaces.hpp>

namespace torsion {

class Reactor;

/// Looks names up as the system is configured to (/etc/hosts, /etc/resolv.conf with its search domains and options;
/// both are read again when they have changed), any number at a time, on a reactor's sockets and timers. Each Reactor
/// has one behind Reactor::resolve; make another to ask other servers, and give it to Reactor::installNameResolver for
/// all to ask them.
///
/// IPv4 and IPv6 addresses are asked for at once, in questions of their own. Once one has been answered, with addresses
/// or by there being no such name, the other is waited for no more than 50 ms (RFC 8305). Servers that do not answer
/// are given up after the time that /etc/resolv.conf allows (15 s where it says nothing, and one server is named): who
/// waits less has to say so, as connectTCP(), endpoints and getPage() do by their timeouts, others by addTimeout().
class DNSResolver final : public NameResolver {
 public:
  /// `servers`: comma-separated addresses, each with a port if that is not 53 ("10.0.0.1,[::1]:5353"); empty for those
  /// of `resolvConf`. `reactor` must outlive this. Throws std::invalid_argument if it cannot use them.
  explicit DNSResolver(Reactor& reactor, const std::string& servers = {},
                       const std::string& resolvConf = "/etc/resolv.conf", const std::string& hosts = "/etc/hosts");
  /// Look-ups under way fail with DNSLookupError.
  ~DNSResolver();
  DNSResolver(const DNSResolver&) = delete;
  DNSResolver& operator=(const DNSResolver&) = delete;

  /// The addresses of `name`, those that this machine can reach best first (RFC 6724); ports are 0. Fires when both
  /// questions are answered, or with the answer to one when the other has had its 50 ms. Address literals, and names of
  /// /etc/hosts, which no server is asked for, are there at once; localhost is 127.0.0.1 and ::1 whatever the servers
  /// say. Fails with DNSLookupError; a name that is not ASCII is to be given in its xn-- form. cancel() abandons the
  /// look-up and closes its sockets.
  Deferred<Addresses> resolve(const std::string& name,
                              std::source_location where = std::source_location::current()) override;
  /// The same; IPv6 addresses come at once, those of IPv4 when IPv6 is answered or has had its 50 ms, and what is
  /// answered later follows.
  Deferred<void> resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                 std::source_location where = std::source_location::current()) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace torsion
