// The other end of the echo benchmarks, the same for every side, bare epoll: `load KIND CONNECTIONS SIZE tcp|tls PID
// PORT...`. It looks at the CPU time and the memory of each server, process PID, and reports for it, PID and a number:
//   KIND echo         us a round trip of SIZE bytes, one under way on each connection
//   KIND connections  us a connection, which sends SIZE bytes, gets them back and is closed by this side; CONNECTIONS
//                     at a time
//   KIND memory       bytes a connection, which has had one round trip and is idle
// CPU time is taken in short slices, of one server and then of the next, and the figure is the median of a server's:
// what else the machine does changes within a second, and comes to all of them alike. All run on the core on which this
// program starts: with a core of its own a server that is faster waits more often, and is charged for that.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench.hpp"

namespace {

constexpr double kSlice = 0.05e9;  // ns
constexpr int kSlices = 24;
// Descriptors and tables of the server that it makes for its first connections are not counted.
constexpr int kUncounted = 1000;

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct Connection {
  int fd = -1;
  SSL* ssl = nullptr;
  std::size_t sent = 0, received = 0;
  bool wantsToWrite = false;
};

class Load {
 public:
  Load(pid_t server, int port, std::size_t size, bool tls) : server_(server), size_(size), message_(size, 'x') {
    address_.sin_family = AF_INET;
    address_.sin_port = htons(static_cast<std::uint16_t>(port));
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (tls) tls_ = SSL_CTX_new(TLS_client_method());
    if (clock_getcpuclockid(server, &clock_) != 0) fail("clock_getcpuclockid");
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }

  /// Before the first slice. `Connections` stay, or each is used for one round trip.
  void prepare(int connections, bool stay) {
    closes_ = !stay;
    if (stay) open(connections);
    while (connections_.size() < std::size_t(connections)) connections_.push_back(std::make_unique<Connection>());
    slice();
  }

  /// The server's CPU time for one round trip or connection, in us.
  double slice() {
    const long before = done_;
    const double cpu = serversCPU();
    const double end = bench::wallTime() + kSlice;
    again_ = true;
    for (auto& connection : connections_) closes_ ? replace(*connection) : begin(*connection);
    idle_ = 0;
    while (idle_ < connections_.size()) {
      if (bench::wallTime() >= end) again_ = false;
      turn();
    }
    return (serversCPU() - cpu) / 1e3 / double(done_ - before);
  }

  double memory(int connections) {
    // In waves, so that the server's peak is what the connections keep and not what their traffic takes together.
    const auto more = [this](int count) {
      while (count > 0) {
        const int wave = count < 50 ? count : 50;
        const long target = done_ + wave;
        open(wave);
        for (std::size_t i = connections_.size() - static_cast<std::size_t>(wave); i < connections_.size(); ++i) {
          begin(*connections_[i]);
        }
        while (done_ < target) turn();
        count -= wave;
      }
      usleep(50'000);  // until the server sleeps
    };
    more(kUncounted);
    const double before = serversMemory();
    more(connections);
    return (serversMemory() - before) / connections;
  }

 private:
  void connect(Connection& connection) {
    connection.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection.fd < 0) fail("socket");
    // Many local addresses: closed connections keep their ports for a minute.
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<unsigned>(opened_++ % 200));
    const int on = 1;
    ::setsockopt(connection.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (::bind(connection.fd, reinterpret_cast<sockaddr*>(&local), sizeof local) < 0) fail("bind");
    if (::connect(connection.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) < 0) fail("connect");
    ::setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (tls_) {
      connection.ssl = SSL_new(tls_);
      SSL_set_fd(connection.ssl, connection.fd);
      if (SSL_connect(connection.ssl) != 1) fail("SSL_connect");
    }
    if (::fcntl(connection.fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) fail("fcntl");
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &connection;
    if (::epoll_ctl(set_, EPOLL_CTL_ADD, connection.fd, &event) < 0) fail("epoll_ctl");
  }

  void open(int count) {
    for (int i = 0; i < count; ++i) connect(*connections_.emplace_back(std::make_unique<Connection>()));
  }
  void replace(Connection& used) {
    if (used.fd >= 0) ::close(used.fd);
    used = {};
    connect(used);
    begin(used);
  }

  void begin(Connection& connection) {
    connection.sent = connection.received = 0;
    write(connection);
  }

  void write(Connection& connection) {
    while (connection.sent < size_) {
      const long n = put(connection, std::string_view(message_).substr(connection.sent));
      if (n < 0) break;
      connection.sent += static_cast<std::size_t>(n);
    }
    if (connection.wantsToWrite == (connection.sent < size_)) return;
    connection.wantsToWrite = !connection.wantsToWrite;
    epoll_event event{};
    event.events = connection.wantsToWrite ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.ptr = &connection;
    ::epoll_ctl(set_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  void read(Connection& connection) {
    for (;;) {
      const long n = get(connection);
      if (n < 0) return;
      connection.received += static_cast<std::size_t>(n);
      if (connection.received < size_) {
        if (!connection.ssl) return;
        continue;  // OpenSSL may have more
      }
      ++done_;
      if (!again_) {
        ++idle_;
        return;
      }
      return closes_ ? replace(connection) : begin(connection);
    }
  }

  // -1: not now.
  long put(Connection& connection, std::string_view data) {
    if (connection.ssl) {
      const int n = SSL_write(connection.ssl, data.data(), static_cast<int>(data.size()));
      if (n > 0) return n;
      const int error = SSL_get_error(connection.ssl, n);
      if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) return -1;
      fail("SSL_write");
    }
    const ssize_t n = ::send(connection.fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) fail("send");
    return n;
  }
  long get(Connection& connection) {
    if (connection.ssl) {
      const int n = SSL_read(connection.ssl, buffer_.data(), static_cast<int>(buffer_.size()));
      if (n > 0) return n;
      if (SSL_get_error(connection.ssl, n) == SSL_ERROR_WANT_READ) return -1;
      fail("SSL_read");
    }
    const ssize_t n = ::recv(connection.fd, buffer_.data(), buffer_.size(), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) fail("the server closed a connection; recv");
    return n;
  }

  void turn() {
    epoll_event events[256];
    const int count = ::epoll_wait(set_, events, 256, 5000);
    if (count == 0) fail("the server does not answer");
    for (int i = 0; i < count; ++i) {
      auto& connection = *static_cast<Connection*>(events[i].data.ptr);
      if (events[i].events & EPOLLOUT) write(connection);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read(connection);
    }
  }
  void runFor(double time) {
    for (const double end = bench::wallTime() + time; bench::wallTime() < end;) turn();
  }

  double serversCPU() const {
    timespec now;
    clock_gettime(clock_, &now);
    return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
  }
  double serversMemory() const {
    std::FILE* file = std::fopen(("/proc/" + std::to_string(server_) + "/statm").c_str(), "r");
    long size = 0, resident = 0;
    if (!file || std::fscanf(file, "%ld %ld", &size, &resident) != 2) fail("statm");
    std::fclose(file);
    return double(resident) * double(sysconf(_SC_PAGESIZE));
  }

  const pid_t server_;
  const std::size_t size_;
  const std::string message_;
  sockaddr_in address_{};
  clockid_t clock_{};
  SSL_CTX* tls_ = nullptr;
  const int set_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<char> buffer_ = std::vector<char>(256 * 1024);
  long opened_ = 0, done_ = 0;
  std::size_t idle_ = 0;
  bool again_ = false;   // after a round trip the next
  bool closes_ = false;  // that one on a connection of its own
};

void runOnThisCore(pid_t process) {
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &core);
  if (sched_setaffinity(process, sizeof core, &core) != 0) fail("sched_setaffinity");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) return 2;
  const std::string_view kind = argv[1];
  const int connections = std::atoi(argv[2]);
  const std::size_t size = std::strtoul(argv[3], nullptr, 10);
  const bool tls = argv[4] == std::string_view("tls");
  runOnThisCore(0);
  std::vector<const char*> names;
  std::vector<std::unique_ptr<Load>> loads;
  for (int i = 5; i + 1 < argc; i += 2) {
    names.push_back(argv[i]);
    runOnThisCore(std::atoi(argv[i]));
    loads.push_back(std::make_unique<Load>(std::atoi(argv[i]), std::atoi(argv[i + 1]), size, tls));
  }
  std::vector<std::vector<double>> seen(loads.size());
  if (kind == "memory") {
    for (std::size_t i = 0; i < loads.size(); ++i) seen[i] = {loads[i]->memory(connections)};
  } else {
    for (auto& load : loads) load->prepare(connections, kind == "echo");
    for (int slice = 0; slice < kSlices; ++slice) {
      for (std::size_t i = 0; i < loads.size(); ++i) seen[i].push_back(loads[i]->slice());
    }
  }
  for (std::size_t i = 0; i < loads.size(); ++i) {
    std::sort(seen[i].begin(), seen[i].end());
    bench::report(names[i], seen[i][seen[i].size() / 2]);
  }
}
