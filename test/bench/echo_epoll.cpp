// An echo server on bare epoll: level triggered, one buffer for all, what the socket does not take is kept.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "echo.hpp"

namespace {

struct Connection {
  int fd;
  std::string rest;
};

int set;

void watch(int operation, int fd, unsigned events, void* what) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = what;
  ::epoll_ctl(set, operation, fd, &event);
}

bool send(Connection& connection, const char* data, std::size_t size) {
  const ssize_t n = ::send(connection.fd, data, size, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return false;
  const std::size_t sent = n < 0 ? 0 : static_cast<std::size_t>(n);
  const std::string rest(data + sent, size - sent);
  if (connection.rest.empty() != rest.empty()) {
    watch(EPOLL_CTL_MOD, connection.fd, rest.empty() ? EPOLLIN : EPOLLOUT, &connection);
  }
  connection.rest = rest;
  return true;
}

}  // namespace

int main() {
  bench::raiseDescriptorLimit();
  set = ::epoll_create1(EPOLL_CLOEXEC);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  sockaddr_in address{};
  socklen_t length = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) < 0) return 1;
  ::listen(listener, bench::kBacklog);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  watch(EPOLL_CTL_ADD, listener, EPOLLIN, nullptr);
  bench::serving(ntohs(address.sin_port));

  static char buffer[65536];
  epoll_event events[256];
  for (;;) {
    const int count = ::epoll_wait(set, events, 256, -1);
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (!connection) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) watch(EPOLL_CTL_ADD, fd, EPOLLIN, new Connection{fd, {}});
        continue;
      }
      bool open = true;
      if (!connection->rest.empty()) {
        const std::string rest = connection->rest;
        open = send(*connection, rest.data(), rest.size());
      } else {
        const ssize_t n = ::recv(connection->fd, buffer, sizeof buffer, 0);
        open = n > 0 ? send(*connection, buffer, static_cast<std::size_t>(n)) : n < 0 && errno == EAGAIN;
      }
      if (!open) {
        ::close(connection->fd);
        delete connection;
      }
    }
  }
}
