// Endpoints from strings, as users write them in command lines and configuration files (twisted.internet.endpoints).
//
// A description is TYPE:ARGUMENT:NAME=ARGUMENT:... where a backslash takes the meaning from a colon, an equals sign or
// a backslash. Arguments go by name, or by position in the order given here; those in brackets may be left out.
//
//   servers  tcp:port[:interface=127.0.0.1][:backlog=50]
//            tcp6:port[:backlog=50][:interface=\:\:1]
//            unix:address[:mode=666][:backlog=50][:lockfile=1]
//            ssl:port[:privateKey=server.pem][:certKey=][:sslmethod=][:interface=][:backlog=50][:extraCertChain=]
//            systemd:domain=INET:index=0      (or name=web; domain is INET, INET6 or UNIX;
//                                              reactor/adopt.hpp; the environment is read by the first of these)
//            stdio:                           (standard input and output; reactor/stdio.hpp)
//   clients  tcp:host:port[:timeout=30][:bindAddress=]
//            unix:path[:timeout=30][:lockfile=0]
//            ssl:host:port[:timeout=30][:bindAddress=][:certKey=][:privateKey=][:caCertsDir=][:hostname=]
//            tls:host:port[:timeout=30][:bindAddress=][:certificate=][:privateKey=][:trustRoots=][:endpoint=]
//
// By position, clients but tls take the host and port, or the path, alone. Types may be in capitals, but for the
// servers tcp, unix and ssl. `backlog` is that of listen(2), `timeout` is in whole seconds, `mode` octal, `lockfile` 0
// or 1. Keys and certificates are names of PEM files (reactor/tls.hpp), read at once; trust roots may be a directory.
// `ssl` verifies the name `hostname`, or `host`; it takes the first address of the host, while `tls` tries all, or
// connects to `endpoint` (a description, quoted) and verifies `host` only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <reactor/endpoints.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/reactor.hpp>

namespace torsion {

/// The endpoint that `description` tells of. Throws std::invalid_argument, with what is wrong and what would be right,
/// for an unknown type, an unknown, repeated, missing or malformed argument, and a file that cannot be used.
///   serverFromString(reactor(), "tcp:8080:interface=127.0.0.1")->listen(site);
std::shared_ptr<StreamServerEndpoint> serverFromString(NetworkReactor& reactor, std::string_view description);
///   clientFromString(reactor(), "tls:example.com:443")->connect(factory);
std::shared_ptr<StreamClientEndpoint> clientFromString(NetworkReactor& reactor, std::string_view description);

/// `argument` so that it stands for itself in a description: backslashes and colons are escaped.
///   clientFromString(reactor(), "unix:" + quoteStringArgument(path));
std::string quoteStringArgument(std::string_view argument);

using EndpointArguments = std::vector<std::string>;           ///< by position, without the type
using EndpointKeywords = std::map<std::string, std::string>;  ///< by name

/// Makes endpoints of a type of one's own (Twisted's IStreamServerEndpointStringParser).
class StreamServerEndpointStringParser {
 public:
  virtual ~StreamServerEndpointStringParser() = default;
  /// The type: what comes before the first colon, in lower or upper case.
  virtual std::string prefix() const = 0;
  /// Not null. Throws std::invalid_argument for what makes no endpoint.
  virtual std::shared_ptr<StreamServerEndpoint> parseStreamServer(NetworkReactor& reactor,
                                                                  const EndpointArguments& arguments,
                                                                  const EndpointKeywords& keywords) = 0;
};
class StreamClientEndpointStringParser {
 public:
  virtual ~StreamClientEndpointStringParser() = default;
  virtual std::string prefix() const = 0;
  virtual std::shared_ptr<StreamClientEndpoint> parseStreamClient(NetworkReactor& reactor,
                                                                  const EndpointArguments& arguments,
                                                                  const EndpointKeywords& keywords) = 0;
};
/// For all reactors and threads, until the program ends. Throws std::invalid_argument if the type is known already.
void registerStringParser(std::shared_ptr<StreamServerEndpointStringParser> parser);
void registerStringParser(std::shared_ptr<StreamClientEndpointStringParser> parser);

}  // namespace torsion
