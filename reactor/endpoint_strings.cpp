#include <reactor/endpoint_strings.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <reactor/adopt.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/stdio.hpp>
#include <reactor/tls.hpp>
#include <reactor/tls_endpoints.hpp>

namespace torsion {
namespace {

using Server = std::shared_ptr<StreamServerEndpoint>;
using Client = std::shared_ptr<StreamClientEndpoint>;

// In one line of ASCII, whatever it is, and not too long.
std::string shown(std::string_view text, std::size_t most) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  for (const unsigned char c : text.substr(0, most)) {
    if (c >= 0x20 && c < 0x7f) {
      result += static_cast<char>(c);
    } else {
      result += {'\\', 'x', kDigits[c >> 4], kDigits[c & 15]};
    }
  }
  return result + (text.size() > most ? "..." : "");
}

std::string quoted(std::string_view text) {
  return '"' + shown(text, 200) + '"';
}

[[noreturn]] void refuse(const std::string& why) {
  throw std::invalid_argument(why);
}

struct Description {
  std::string type;
  EndpointArguments arguments;
  EndpointKeywords keywords;
};

// As Twisted's _tokenize and _parse: a part's first '=' makes it a keyword's, and is plain in what follows.
Description parse(std::string_view text) {
  EndpointArguments positional;
  EndpointKeywords keywords;
  std::string current;
  std::optional<std::string> name;
  const auto endPart = [&] {
    if (!name) {
      positional.push_back(std::move(current));
    } else if (!keywords.emplace(*name, std::move(current)).second) {
      refuse("the argument " + quoted(*name) + " is given twice");
    }
    name.reset();
    current.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      if (++i == text.size()) refuse("it ends in a backslash; for the character itself write two");
      current += text[i];
    } else if (text[i] == ':') {
      endPart();
    } else if (text[i] == '=' && !name) {
      name = std::exchange(current, {});
    } else {
      current += text[i];
    }
  }
  endPart();
  if (positional.empty()) refuse("it names no type; it would begin with one, as in tcp:80");
  Description result{std::move(positional.front()), {}, std::move(keywords)};
  result.arguments.assign(std::make_move_iterator(positional.begin() + 1), std::make_move_iterator(positional.end()));
  return result;
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// The arguments of one endpoint by the names of its parameters.
class Bound {
 public:
  // Positional arguments take the parameters in the order of `names`.
  Bound(const EndpointArguments& positional, EndpointKeywords keywords, std::initializer_list<std::string_view> names)
      : values_(std::move(keywords)) {
    const auto known = [&] {
      std::string all;
      for (const std::string_view name : names) all.append(all.empty() ? "" : ", ").append(name);
      return all;
    };
    for (const auto& [name, value] : values_) {
      bool found = false;
      for (const std::string_view parameter : names) found |= parameter == name;
      if (!found) refuse("there is no argument " + quoted(name) + "; those that there are: " + known());
    }
    auto name = names.begin();
    for (const std::string& value : positional) {
      if (name == names.end()) {
        refuse("too many arguments; those that there are: " + known() +
               " (a colon inside one is written with a backslash before it)");
      }
      if (!values_.emplace(*name, value).second) {
        refuse("the argument " + std::string(*name) + " is given twice, by position and by name");
      }
      ++name;
    }
  }

  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) refuse("the argument " + name + " is missing");
    return found->second;
  }
  std::string text(const std::string& name, const char* otherwise) const { return has(name) ? text(name) : otherwise; }

  // A number without a sign in digits alone.
  int number(const std::string& name, int most = std::numeric_limits<int>::max(), int base = 10) const {
    const std::string digits = text(name);
    int value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
    if (digits.empty() || digits[0] == '-' || error != std::errc() || stop != end || value > most) {
      refuse("the argument " + name + " is " + quoted(digits) + " and should be " +
             (base == 8 ? "an octal number up to " : "a number from 0 to ") +
             (base == 8 ? "7777" : std::to_string(most)));
    }
    return value;
  }
  std::uint16_t port() const { return static_cast<std::uint16_t>(number("port", 65535)); }
  int backlog() const { return has("backlog") ? number("backlog") : 50; }
  Duration timeout() const { return std::chrono::seconds(has("timeout") ? number("timeout") : 30); }
  bool flag(const std::string& name, bool otherwise) const { return has(name) ? number(name, 1) != 0 : otherwise; }

 private:
  EndpointKeywords values_;
};

template <class T>
T& reactorAs(NetworkReactor& reactor, const char* what) {
  if (auto* found = dynamic_cast<T*>(&reactor)) return *found;
  refuse(std::string("this reactor has no ") + what);
}

Server tcpServer(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const Bound bound(arguments, std::move(keywords), {"port", "interface", "backlog"});
  return std::make_shared<TCP4ServerEndpoint>(bound.port(), bound.text("interface", ""), reactor, bound.backlog());
}

Server tcp6Server(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const Bound bound(arguments, std::move(keywords), {"port", "backlog", "interface"});
  return std::make_shared<TCP6ServerEndpoint>(bound.port(), bound.text("interface", "::"), reactor, bound.backlog());
}

Server unixServer(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const Bound bound(arguments, std::move(keywords), {"address", "mode", "backlog", "lockfile"});
  const auto mode = static_cast<unsigned>(bound.has("mode") ? bound.number("mode", 07777, 8) : 0666);
  return std::make_shared<UNIXServerEndpoint>(bound.text("address"), reactorAs<UNIX>(reactor, "UNIX sockets"),
                                              bound.backlog(), mode, bound.flag("lockfile", true));
}

Server sslServer(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const Bound bound(
      arguments, std::move(keywords),
      {"port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain", "dhParameters"});
  const std::uint16_t port = bound.port();
  const int backlog = bound.backlog();
  const std::string method = bound.text("sslmethod", "TLS_METHOD");
  if (method != "TLS_METHOD" && method != "SSLv23_METHOD") {
    refuse("sslmethod is " + quoted(method) + "; leave it out: the best of TLS 1.2 and later is negotiated");
  }
  if (bound.has("dhParameters")) refuse("dhParameters are not needed for forward secrecy; leave them out");
  CertificateOptions options;
  options.privateKey = bound.text("privateKey", "server.pem");
  options.certificate = bound.text("certKey", options.privateKey.c_str());
  options.extraCertChain = bound.text("extraCertChain", "");
  return std::make_shared<SSL4ServerEndpoint>(port, optionsForServerTLS(options), bound.text("interface", ""), reactor,
                                              backlog);
}

Server systemdServer(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  // The environment tells of them once.
  static const ListenFDs listening = ListenFDs::fromEnvironment();
  const Bound bound(arguments, std::move(keywords), {"domain", "index", "name"});
  const std::string domain = bound.text("domain");
  const int family = domain == "INET" ? AF_INET : domain == "INET6" ? AF_INET6 : domain == "UNIX" ? AF_UNIX : -1;
  if (family < 0) refuse("the domain is " + quoted(domain) + " and should be INET, INET6 or UNIX");
  if (bound.has("index") == bound.has("name")) refuse("it takes either index=0 and so on, or name=");
  int fd = -1;
  if (bound.has("name")) {
    const auto named = listening.inheritedNamedDescriptors();
    if (const auto found = named.find(bound.text("name")); found != named.end()) fd = found->second;
  } else {
    const auto all = listening.inheritedDescriptors();
    const auto index = static_cast<std::size_t>(bound.number("index"));
    if (index < all.size()) fd = all[index];
  }
  if (fd < 0) {
    refuse("systemd has handed over no such socket (" + std::to_string(listening.inheritedDescriptors().size()) +
           " in all); is the program started by a socket unit?");
  }
  auto& adopting = reactorAs<SocketAdoption>(reactor, "way to adopt sockets");
  // A duplicate, so that the same description can be used again.
  detail::UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) refuse("the socket is closed");
  return std::make_shared<AdoptedStreamServerEndpoint>(duplicate.release(), family, adopting);
}

Server stdioServer(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const bool none = arguments.empty() || (arguments.size() == 1 && arguments[0].empty());  // "stdio" and "stdio:"
  if (!none || !keywords.empty()) refuse("it takes no arguments; write stdio:");
  return std::make_shared<StandardIOEndpoint>(reactorAs<Reactor>(reactor, "standard input and output"));
}

// Twisted's oddity: one that stands alone is the port where the host has a name.
EndpointArguments hostAndPort(const EndpointArguments& arguments, EndpointKeywords& keywords) {
  if (arguments.size() == 1 && keywords.contains("host")) {
    if (!keywords.emplace("port", arguments[0]).second) {
      refuse("the argument port is given twice, by position and by name");
    }
    return {};
  }
  return arguments;
}

Client tcpClient(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const EndpointArguments positional = hostAndPort(arguments, keywords);
  if (positional.size() > 2) refuse("too many arguments by position: those after host and port go by name");
  const Bound bound(positional, std::move(keywords), {"host", "port", "timeout", "bindAddress"});
  return std::make_shared<TCP4ClientEndpoint>(bound.text("host"), bound.port(), reactor, bound.timeout(),
                                              bound.text("bindAddress", ""));
}

std::optional<PrivateCertificate> clientCertificate(const Bound& bound, const char* certificate) {
  if (!bound.has(certificate)) {
    if (bound.has("privateKey")) refuse(std::string("privateKey is given without ") + certificate);
    return std::nullopt;
  }
  return PrivateCertificate{bound.text(certificate), bound.text("privateKey", "")};
}

Client sslClient(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const EndpointArguments positional = hostAndPort(arguments, keywords);
  if (positional.size() > 2) refuse("too many arguments by position: those after host and port go by name");
  const Bound bound(positional, std::move(keywords),
                    {"host", "port", "timeout", "bindAddress", "certKey", "privateKey", "caCertsDir", "hostname"});
  const std::string host = bound.text("host");
  const std::uint16_t port = bound.port();
  const Duration timeout = bound.timeout();
  ClientTLS tls;
  tls.trustRoots = bound.text("caCertsDir", "");
  tls.clientCertificate = clientCertificate(bound, "certKey");
  return std::make_shared<SSL4ClientEndpoint>(
      host, port, optionsForClientTLS(bound.has("hostname") ? bound.text("hostname") : host, tls), reactor, timeout,
      bound.text("bindAddress", ""));
}

Client unixClient(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  if (arguments.size() > 1) refuse("too many arguments by position: those after the path go by name");
  const Bound bound(arguments, std::move(keywords), {"path", "timeout", "lockfile"});
  return std::make_shared<UNIXClientEndpoint>(bound.text("path"), reactorAs<UNIX>(reactor, "UNIX sockets"),
                                              bound.timeout(), bound.flag("lockfile", false));
}

Client tlsClient(NetworkReactor& reactor, const EndpointArguments& arguments, EndpointKeywords keywords) {
  const Bound bound(arguments, std::move(keywords),
                    {"host", "port", "timeout", "bindAddress", "certificate", "privateKey", "trustRoots", "endpoint"});
  const std::string host = bound.text("host");
  const std::uint16_t port = bound.port();
  const Duration timeout = bound.timeout();
  Client lower;
  if (bound.has("endpoint")) {
    lower = clientFromString(reactor, bound.text("endpoint"));
  } else {
    lower = std::make_shared<HostnameEndpoint>(host, port, reactor, timeout, bound.text("bindAddress", ""));
  }
  ClientTLS tls;
  tls.trustRoots = bound.text("trustRoots", "");
  tls.clientCertificate = clientCertificate(bound, "certificate");
  return wrapClientTLS(optionsForClientTLS(host, tls), std::move(lower), reactor);
}

// What makes the endpoints of each type. Any thread may look and add.
template <class Endpoint>
class Registry {
 public:
  using Make = std::function<Endpoint(NetworkReactor&, const EndpointArguments&, EndpointKeywords)>;
  struct Type {
    Make make;
    bool lowerCaseOnly = false;
  };
  explicit Registry(std::map<std::string, Type> builtin) : types_(std::move(builtin)) {}

  void add(const std::string& prefix, Make make) {
    const std::lock_guard lock(mutex_);
    if (!types_.emplace(lower(prefix), Type{std::move(make)}).second) {
      refuse("registerStringParser: there is a parser for " + quoted(prefix) + " already; choose another prefix");
    }
  }

  Make find(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = types_.find(lower(name));
    if (found != types_.end() && (found->first == name || !found->second.lowerCaseOnly)) return found->second.make;
    std::string known;
    for (const auto& [type, how] : types_) known.append(known.empty() ? "" : ", ").append(type);
    refuse("there is no type " + quoted(name) + " here; those that there are: " + known);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Type> types_;
};

Registry<Server>& servers() {
  // Twisted does not take the three oldest in capitals.
  static Registry<Server> all({{"tcp", {tcpServer, true}},
                               {"tcp6", {tcp6Server}},
                               {"unix", {unixServer, true}},
                               {"ssl", {sslServer, true}},
                               {"systemd", {systemdServer}},
                               {"stdio", {stdioServer}}});
  return all;
}

Registry<Client>& clients() {
  static Registry<Client> all(
      {{"tcp", {tcpClient}}, {"unix", {unixClient}}, {"ssl", {sslClient}}, {"tls", {tlsClient}}});
  return all;
}

// Adds the string to what is said to be wrong with it.
template <class Endpoint>
Endpoint fromString(Registry<Endpoint>& registry, NetworkReactor& reactor, const char* function,
                    std::string_view text) {
  const auto problem = [&](const std::exception& e) {
    return std::string(function) + "(" + quoted(text) + "): " + shown(e.what(), 800);
  };
  try {
    Description description = parse(text);
    return registry.find(description.type)(reactor, description.arguments, std::move(description.keywords));
  } catch (const std::invalid_argument& e) {
    refuse(problem(e));
  } catch (const SSLError& e) {  // a PEM
    refuse(problem(e));
  } catch (const std::system_error& e) {  // a directory of them
    refuse(problem(e));
  }
}

}  // namespace

Server serverFromString(NetworkReactor& reactor, std::string_view description) {
  return fromString(servers(), reactor, "serverFromString", description);
}

Client clientFromString(NetworkReactor& reactor, std::string_view description) {
  return fromString(clients(), reactor, "clientFromString", description);
}

std::string quoteStringArgument(std::string_view argument) {
  std::string quoted;
  for (const char c : argument) {
    if (c == '\\' || c == ':') quoted += '\\';
    quoted += c;
  }
  return quoted;
}

void registerStringParser(std::shared_ptr<StreamServerEndpointStringParser> parser) {
  servers().add(parser->prefix(), [parser](auto& reactor, const auto& arguments, const auto& keywords) {
    return parser->parseStreamServer(reactor, arguments, keywords);
  });
}

void registerStringParser(std::shared_ptr<StreamClientEndpointStringParser> parser) {
  clients().add(parser->prefix(), [parser](auto& reactor, const auto& arguments, const auto& keywords) {
    return parser->parseStreamClient(reactor, arguments, keywords);
  });
}

}  // namespace torsion
