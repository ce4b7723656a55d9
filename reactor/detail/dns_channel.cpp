#include <reactor/detail/dns_channel.hpp>

#include <ares.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include <reactor/detail/poller.hpp>
#include <reactor/detail/socket_address.hpp>

namespace torsion::detail {
namespace {

void check(int status, const char* what) {
  if (status != ARES_SUCCESS) throw std::runtime_error(std::string(what) + ": " + ::ares_strerror(status));
}

void initialize() {
  static const int status = ::ares_library_init(ARES_LIB_INIT_ALL);
  check(status, "c-ares");
}

// Of the addresses in a reply; not all need be there.
std::size_t recordsIn(const unsigned char* reply, int size) {
  return size < 8 ? 0 : static_cast<std::size_t>(reply[6] << 8 | reply[7]);
}

int parse(int family, const unsigned char* reply, int size, std::vector<Address>& addresses) {
  int count = static_cast<int>(recordsIn(reply, size));
  if (family == AF_INET) {
    std::vector<ares_addrttl> found(static_cast<std::size_t>(count));
    const int status = ::ares_parse_a_reply(reply, size, nullptr, found.data(), &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
      SocketAddress address;
      auto* v4 = ::new (&address.storage) sockaddr_in{};
      v4->sin_family = AF_INET;
      v4->sin_addr = found[static_cast<std::size_t>(i)].ipaddr;
      addresses.push_back(toAddress(address));
    }
    return status;
  }
  std::vector<ares_addr6ttl> found(static_cast<std::size_t>(count));
  const int status = ::ares_parse_aaaa_reply(reply, size, nullptr, found.data(), &count);
  for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
    SocketAddress address;
    auto* v6 = ::new (&address.storage) sockaddr_in6{};
    v6->sin6_family = AF_INET6;
    std::memcpy(&v6->sin6_addr, &found[static_cast<std::size_t>(i)].ip6addr, sizeof v6->sin6_addr);
    addresses.push_back(toAddress(address));
  }
  return status;
}

DNSAnswer::Kind kindOf(int status) {
  switch (status) {
    case ARES_SUCCESS:
    case ARES_ENODATA:
      return DNSAnswer::Kind::none;
    case ARES_ENOTFOUND:
      return DNSAnswer::Kind::noSuchName;
    case ARES_ETIMEOUT:
      return DNSAnswer::Kind::timedOut;
    default:
      return DNSAnswer::Kind::failed;
  }
}

std::string textOf(int status) {
  switch (status) {
    case ARES_SUCCESS:
    case ARES_ENODATA:
      return "it has no address";
    case ARES_ENOTFOUND:
      return "there is no such name";
    case ARES_ETIMEOUT:
      return "the name servers do not answer";
    case ARES_ECONNREFUSED:  // also where each has said that it failed
      return "no name server could be reached and had an answer";
    default:
      return ::ares_strerror(status);
  }
}

}  // namespace

// Of c-ares, which opens and closes it.
struct DNSChannel::Socket final : Watcher {
  Socket(DNSChannel& owner, int fd) : owner(owner), fd(fd) {}
  ~Socket() { owner.reactor_.poller.remove(fd, *this); }
  void ready(std::uint32_t events) override {
    const bool error = events & (EPOLLERR | EPOLLHUP);  // of which c-ares learns by reading or writing
    owner.process(error || (events & EPOLLIN) ? fd : ARES_SOCKET_BAD,
                  error || (events & EPOLLOUT) ? fd : ARES_SOCKET_BAD);
  }
  DNSChannel& owner;
  const int fd;
};

// Belongs to c-ares, which gives it back with the answer.
struct DNSChannel::Question {
  DNSChannel& channel;
  std::size_t number;
  int family;
};

DNSChannel::DNSChannel(ReactorImpl& reactor, const ResolvConf& conf, Listener& listener,
                       const std::source_location& where)
    : reactor_(reactor), listener_(listener), where_(where) {
  initialize();
  ares_options options{};
  options.sock_state_cb = [](void* self, ares_socket_t fd, int read, int write) {
    static_cast<DNSChannel*>(self)->watch(fd, read != 0, write != 0);
  };
  options.sock_state_cb_data = this;
  options.timeout = conf.timeout * 1000;
  options.tries = conf.attempts;
  // With all the rest given, too, c-ares reads no files.
  char dns[] = "b";
  options.lookups = dns;
  check(::ares_init_options(&channel_, &options,
                            ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                                ARES_OPT_NDOTS | ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_SORTLIST |
                                (conf.rotate ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE)),
        "c-ares");
  ::ares_set_servers_ports_csv(channel_, conf.servers.c_str());
}

void DNSChannel::checkServers(const std::string& servers) {
  initialize();
  ares_channel channel = nullptr;
  check(::ares_init(&channel), "c-ares");
  const int status = ::ares_set_servers_ports_csv(channel, servers.c_str());
  ::ares_destroy(channel);
  if (status == ARES_SUCCESS) return;
  throw std::invalid_argument("DNSResolver: \"" + servers + "\" is not a list of servers: " + ::ares_strerror(status));
}

DNSChannel::~DNSChannel() {
  ::ares_destroy(channel_);
  if (timer_.active()) timer_.cancel();
}

void DNSChannel::ask(const std::string& name, int family, std::size_t question) {
  ++open_;
  ::ares_query(channel_, name.c_str(), ns_c_in, family == AF_INET ? ns_t_a : ns_t_aaaa, &DNSChannel::answered,
               new Question{*this, question, family});
  updateTimer();
}

void DNSChannel::answered(void* argument, int status, int, unsigned char* data, int size) {
  const std::unique_ptr<Question> question(static_cast<Question*>(argument));
  DNSChannel& channel = question->channel;
  --channel.open_;
  if (status == ARES_EDESTRUCTION) return;
  DNSAnswer answer;
  if (status == ARES_SUCCESS) status = parse(question->family, data, size, answer.addresses);
  if (answer.addresses.empty()) {
    answer.kind = kindOf(status);
    answer.error = textOf(status);
  }
  channel.answers_.emplace_back(question->number, std::move(answer));
}

void DNSChannel::watch(int fd, bool read, bool write) {
  const auto at = std::find_if(sockets_.begin(), sockets_.end(), [&](const auto& socket) { return socket->fd == fd; });
  const std::uint32_t events = (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
  if (at == sockets_.end()) {
    if (events == 0) return;
    // Where it cannot be watched the question times out.
    reactor_.poller.add(fd, events, *sockets_.emplace_back(std::make_unique<Socket>(*this, fd)));
  } else if (events != 0) {
    reactor_.poller.change(fd, events, **at);
  } else {
    sockets_.erase(at);
  }
}

void DNSChannel::process(int readable, int writable) {
  ::ares_process_fd(channel_, readable, writable);
  updateTimer();
  if (!answers_.empty()) listener_.answersAreThere();
}

// For retries and time limits.
void DNSChannel::updateTimer() {
  timeval tv{};
  if (open_ == 0 || !::ares_timeout(channel_, nullptr, &tv)) {
    if (timer_.active()) timer_.cancel();
    return;
  }
  const Duration due = std::chrono::seconds(tv.tv_sec) + std::chrono::microseconds(tv.tv_usec);
  if (timer_.active()) {
    timer_.reset(due);
  } else {
    timer_ = reactor_.reactor.callLater(due, [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }, where_);
  }
}

}  // namespace torsion::detail
