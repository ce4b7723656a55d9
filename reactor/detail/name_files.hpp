// The files that say how this machine looks names up: /etc/hosts (hosts(5)) and /etc/resolv.conf (resolv.conf(5)).
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <reactor/address.hpp>

namespace torsion::detail {

/// Reads a file, and again when it has changed.
class WatchedFile {
 public:
  explicit WatchedFile(std::string path) : path_(std::move(path)) {}
  /// Its text, if that may be other than it was at the last call; empty for a file that cannot be read.
  std::optional<std::string> changed();

 private:
  const std::string path_;
  std::optional<struct stat> seen_;
  bool known_ = false;  // seen_ is what the text was read with
};

class HostsFile {
 public:
  explicit HostsFile(std::string path = "/etc/hosts") : file_(std::move(path)) {}
  /// In the order of the file.
  std::vector<Address> addressesOf(std::string_view name);

 private:
  WatchedFile file_;
  std::unordered_map<std::string, std::vector<Address>> names_;
};

/// How to ask name servers. LOCALDOMAIN and RES_OPTIONS, of the environment, come after what the file says.
struct ResolvConf {
  static ResolvConf parse(std::string_view text);
  /// What to ask for, one after another, when `name` is looked up: by itself and in the domains of `search`. They end
  /// in dots.
  std::vector<std::string> candidates(std::string_view name) const;

  std::string servers;  ///< as DNSResolver takes them
  std::vector<std::string> search;
  int ndots = 1;    ///< a name with as many dots is tried by itself first
  int timeout = 5;  ///< seconds to wait for a server
  int attempts = 2;
  bool rotate = false;

 private:
  void setOption(std::string_view option);
};

/// The address of `name`, that of an interface of this machine: a literal, localhost, or a name of /etc/hosts; empty if
/// it is none of these.
std::string interfaceAddress(const std::string& name);

/// What localhost and the names under it mean, whatever the files and servers say (RFC 6761); empty for other names.
std::vector<Address> localhostAddresses(std::string_view name);
/// Whether it is `domain`, or a name in it.
bool isUnder(std::string_view name, std::string_view domain);

}  // namespace torsion::detail
