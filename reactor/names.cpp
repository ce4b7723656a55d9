#include <reactor/names.hpp>

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/time.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <deferred/functions.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace {

using Addresses = std::vector<Address>;

bool isUnder(std::string_view name, std::string_view domain) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.size() < domain.size()) return false;
  const std::string_view end = name.substr(name.size() - domain.size());
  const bool same = std::equal(end.begin(), end.end(), domain.begin(),
                               [](unsigned char a, unsigned char b) { return std::tolower(a) == b; });
  return same && (name.size() == domain.size() || name[name.size() - domain.size() - 1] == '.');
}

// Why it cannot be a host name; empty if it can.
std::string objection(const std::string& name) {
  if (name.empty()) return "a host name is empty";
  if (name.size() > 254) return "a host name is longer than 254 characters: " + name.substr(0, 40) + "...";
  for (const unsigned char c : name) {
    if (c >= 0x80) return "the host name " + name + " is not ASCII: write it in its xn-- form";
    if (c <= ' ' || c == 0x7f) return "a host name contains a space or control character";
  }
  return {};
}

void initAres() {
  static const int status = ::ares_library_init(ARES_LIB_INIT_ALL);
  if (status != ARES_SUCCESS) throw std::runtime_error(std::string("c-ares: ") + ::ares_strerror(status));
}

}  // namespace

class DNSResolver::Impl {
 public:
  Impl(Reactor& reactor, const std::string& servers) : reactor_(reactor), core_(detail::implOf(reactor)) {
    initAres();
    ares_options options{};
    options.sock_state_cb = [](void* self, ares_socket_t fd, int read, int write) {
      static_cast<Impl*>(self)->watch(fd, read != 0, write != 0);
    };
    options.sock_state_cb_data = this;
    int status = ::ares_init_options(&channel_, &options, ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) throw std::runtime_error(std::string("c-ares: ") + ::ares_strerror(status));
    if (!servers.empty()) status = ::ares_set_servers_ports_csv(channel_, servers.c_str());
    if (status != ARES_SUCCESS) {
      ::ares_destroy(channel_);
      throw std::invalid_argument("DNSResolver: \"" + servers +
                                  "\" is not a list of servers: " + ::ares_strerror(status));
    }
  }
  ~Impl() {
    ::ares_destroy(channel_);  // ends all look-ups
    if (timer_.active()) timer_.cancel();
    fireCompleted();
  }

  Deferred<Addresses> resolve(const std::string& name) {
    auto* lookup = new Lookup(*this, name);
    Deferred<Addresses> deferred = lookup->result->deferred();
    lookup->result->onCancel([lookup](const Resolver<Addresses>&) { lookup->forget(); });
    ++pending_;
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    ::ares_getaddrinfo(channel_, name.c_str(), nullptr, &hints, &Impl::answered, lookup);
    updateTimer();
    fireCompleted();
    return deferred;
  }

 private:
  // Belongs to c-ares, which calls answered() exactly once; it cannot be told to forget one look-up.
  struct Lookup final : detail::Disconnectable {
    Lookup(Impl& owner, std::string name)
        : Disconnectable(owner.core_, std::source_location::current()), owner(&owner), name(std::move(name)) {}
    void forget() {
      leave();
      result.reset();
    }
    void shutdown() override {
      auto unanswered = std::exchange(result, std::nullopt);
      unanswered->errback(DNSLookupError("the reactor was stopped while looking up " + name));
    }
    std::string describe() const override { return "look-up of " + name; }

    Impl* owner;
    const std::string name;
    std::optional<Resolver<Addresses>> result{std::in_place};
  };
  // A socket of c-ares, which opens and closes it.
  struct Socket final : detail::Watcher {
    Socket(Impl& owner, ares_socket_t fd) : owner(owner), fd(fd) {}
    ~Socket() { owner.core_.poller.remove(fd, *this); }
    void ready(std::uint32_t events) override { owner.ready(fd, events); }
    Impl& owner;
    const ares_socket_t fd;
  };
  struct Completed {
    Resolver<Addresses> resolver;
    Addresses addresses;
    std::string error;  // why there are none
  };

  static void answered(void* argument, int status, int, ares_addrinfo* info) {
    const std::unique_ptr<Lookup> lookup(static_cast<Lookup*>(argument));
    Addresses addresses;
    for (const auto* node = info ? info->nodes : nullptr; node; node = node->ai_next) {
      detail::SocketAddress address;
      address.size = std::min<socklen_t>(node->ai_addrlen, sizeof address.storage);
      std::memcpy(&address.storage, node->ai_addr, address.size);
      addresses.push_back(detail::toAddress(address));
    }
    if (info) ::ares_freeaddrinfo(info);
    --lookup->owner->pending_;
    if (!lookup->result) return;
    lookup->result->onCancel([](const Resolver<Addresses>&) {});  // the answer is here, though not delivered
    std::string error;
    if (addresses.empty()) {
      const std::string why = status == ARES_SUCCESS ? "it has no address" : ::ares_strerror(status);
      error = "looking up " + lookup->name + ": " + why;
    }
    lookup->owner->completed_.push_back({*lookup->result, std::move(addresses), std::move(error)});
  }

  // Not from within c-ares: callbacks of the Deferreds may come back here, or end this resolver.
  void fireCompleted() {
    for (auto& [resolver, addresses, error] : std::exchange(completed_, {})) {
      if (resolver.called()) continue;  // cancelled
      if (error.empty()) {
        resolver.callback(std::move(addresses));
      } else {
        resolver.errback(DNSLookupError(error));
      }
    }
  }

  void watch(ares_socket_t fd, bool read, bool write) {
    const auto at =
        std::find_if(sockets_.begin(), sockets_.end(), [&](const auto& socket) { return socket->fd == fd; });
    const std::uint32_t events = (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
    if (at == sockets_.end()) {
      if (events == 0) return;
      // Where it cannot be watched the query times out.
      core_.poller.add(fd, events, *sockets_.emplace_back(std::make_unique<Socket>(*this, fd)));
    } else if (events != 0) {
      core_.poller.change(fd, events, **at);
    } else {
      sockets_.erase(at);
    }
  }

  // c-ares learns of an error by reading or writing.
  void ready(ares_socket_t fd, std::uint32_t events) {
    const bool error = events & (EPOLLERR | EPOLLHUP);
    ::ares_process_fd(channel_, error || (events & EPOLLIN) ? fd : ARES_SOCKET_BAD,
                      error || (events & EPOLLOUT) ? fd : ARES_SOCKET_BAD);
    updateTimer();
    fireCompleted();
  }

  // For retries and time limits.
  void updateTimer() {
    timeval tv{};
    if (pending_ == 0 || !::ares_timeout(channel_, nullptr, &tv)) {
      if (timer_.active()) timer_.cancel();
      return;
    }
    const Duration due = std::chrono::seconds(tv.tv_sec) + std::chrono::microseconds(tv.tv_usec);
    if (timer_.active()) {
      timer_.reset(due);
    } else {
      timer_ = reactor_.callLater(due, [this] {
        ::ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        updateTimer();
        fireCompleted();
      });
    }
  }

  Reactor& reactor_;
  detail::ReactorImpl& core_;
  ares_channel channel_ = nullptr;
  std::vector<std::unique_ptr<Socket>> sockets_;
  std::vector<Completed> completed_;
  int pending_ = 0;
  DelayedCall timer_;
};

DNSResolver::DNSResolver(Reactor& reactor, const std::string& servers)
    : impl_(std::make_unique<Impl>(reactor, servers)) {}
DNSResolver::~DNSResolver() = default;

Deferred<Addresses> DNSResolver::resolve(const std::string& name) {
  if (const auto literal = detail::socketAddress(name, 0)) return succeed(Addresses{detail::toAddress(*literal)});
  if (isUnder(name, "localhost")) {
    return succeed(Addresses{IPv4Address{"127.0.0.1"}, IPv6Address{"::1"}});
  }
  if (isUnder(name, "invalid")) return fail<Addresses>(DNSLookupError("the name " + name + " does not exist"));
  if (std::string why = objection(name); !why.empty()) return fail<Addresses>(DNSLookupError(why));
  return impl_->resolve(name);
}

Deferred<Addresses> Reactor::resolve(const std::string& name) {
  impl_->checkUsable();
  if (!impl_->names) impl_->names = std::make_unique<DNSResolver>(*this);
  return impl_->names->resolve(name);
}

}  // namespace torsion
