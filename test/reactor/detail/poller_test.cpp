#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <vector>

#include <boost/asio/io_context.hpp>

#include <reactor/detail/poller.hpp>
#include <reactor/detail/unique_fd.hpp>

using torsion::detail::Poller;
using torsion::detail::UniqueFd;

namespace {

struct Recorder final : torsion::detail::Watcher {
  void ready(std::uint32_t events) override {
    seen.push_back(events);
    if (then) then();
  }
  std::vector<std::uint32_t> seen;
  std::function<void()> then;
};

struct SocketPair {
  SocketPair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    near = UniqueFd(fds[0]);
    far = UniqueFd(fds[1]);
  }
  void send() { REQUIRE(::send(far.get(), "x", 1, MSG_NOSIGNAL) == 1); }
  UniqueFd near, far;
};

struct Loop {
  // Calls all that is due now.
  void turn() {
    context.restart();
    context.poll_one();
    while (poller.pending()) poller.dispatchOne();
  }
  boost::asio::io_context context;
  Poller poller{context};
};

}  // namespace

TEST_CASE("edge by edge: an event is told once, however long it lasts") {
  Loop loop;
  SocketPair pair;
  Recorder recorder;
  REQUIRE(loop.poller.add(pair.near.get(), EPOLLIN | EPOLLET, recorder) == 0);
  loop.turn();
  CHECK(recorder.seen.empty());
  pair.send();
  loop.turn();
  loop.turn();
  CHECK(recorder.seen == std::vector<std::uint32_t>{EPOLLIN});
  pair.send();
  loop.turn();
  CHECK(recorder.seen.size() == 2);
}

TEST_CASE("without EPOLLET it is told as long as it lasts and is asked for") {
  Loop loop;
  SocketPair pair;
  Recorder recorder;
  REQUIRE(loop.poller.add(pair.near.get(), EPOLLIN, recorder) == 0);
  pair.send();
  loop.turn();
  loop.turn();
  CHECK(recorder.seen.size() == 2);
  loop.poller.change(pair.near.get(), 0, recorder);
  loop.turn();
  CHECK(recorder.seen.size() == 2);
  loop.poller.change(pair.near.get(), EPOLLOUT, recorder);
  loop.turn();
  CHECK(recorder.seen.back() == EPOLLOUT);
  loop.poller.remove(pair.near.get(), recorder);
  loop.turn();
  CHECK(recorder.seen.size() == 3);
}

TEST_CASE("a descriptor that was closed and opened again unsaid is watched when something changes") {
  Loop loop;
  SocketPair pair, later;
  Recorder recorder;
  const int fd = pair.near.get();
  REQUIRE(loop.poller.add(fd, EPOLLIN, recorder) == 0);
  pair.near.reset();
  CHECK(loop.poller.change(fd, EPOLLIN, recorder) == EBADF);
  pair.near = UniqueFd(::dup3(later.near.get(), fd, O_CLOEXEC));
  CHECK(loop.poller.change(fd, EPOLLIN, recorder) == 0);
  later.send();
  loop.turn();
  CHECK(recorder.seen == std::vector<std::uint32_t>{EPOLLIN});
}

TEST_CASE("a descriptor that is another watcher's by now is left alone") {
  Loop loop;
  SocketPair pair, later;
  Recorder first, second;
  const int fd = pair.near.get();
  REQUIRE(loop.poller.add(fd, EPOLLIN, first) == 0);
  pair.near.reset();
  pair.near = UniqueFd(::dup3(later.near.get(), fd, O_CLOEXEC));
  REQUIRE(loop.poller.add(fd, EPOLLIN, second) == 0);
  CHECK(loop.poller.change(fd, 0, first) == EEXIST);
  CHECK(loop.poller.add(fd, EPOLLIN, first) == EEXIST);
  loop.poller.remove(fd, first);
  later.send();
  loop.turn();
  CHECK(first.seen.empty());
  CHECK(second.seen == std::vector<std::uint32_t>{EPOLLIN});
}

TEST_CASE("another watcher takes over") {
  Loop loop;
  SocketPair pair;
  Recorder first, second;
  REQUIRE(loop.poller.add(pair.near.get(), EPOLLIN, first) == 0);
  pair.send();
  loop.turn();
  loop.poller.hand(pair.near.get(), second);
  loop.turn();
  CHECK(first.seen.size() == 1);
  CHECK(second.seen.size() == 1);
}

TEST_CASE("a descriptor closed by an earlier event of the same batch is not told, nor is its successor") {
  Loop loop;
  SocketPair pairs[2];
  Recorder recorders[2], successor;
  SocketPair later;
  for (int i : {0, 1}) {
    const int other = 1 - i;
    recorders[i].then = [&, other] {
      const int fd = pairs[other].near.get();
      loop.poller.forget(fd);
      pairs[other].near.reset();
      pairs[other].near = UniqueFd(::dup3(later.near.get(), fd, O_CLOEXEC));
      REQUIRE(loop.poller.add(fd, EPOLLIN, successor) == 0);
    };
    REQUIRE(loop.poller.add(pairs[i].near.get(), EPOLLIN | EPOLLET, recorders[i]) == 0);
    pairs[i].send();
  }
  loop.turn();
  CHECK(recorders[0].seen.size() + recorders[1].seen.size() == 1);
  CHECK(successor.seen.empty());
  later.send();
  loop.turn();
  CHECK(successor.seen.size() == 1);
}

TEST_CASE("events of a closed descriptor that lives on elsewhere reach nobody") {
  Loop loop;
  SocketPair pair, later;
  Recorder recorder, successor;
  const int fd = pair.near.get();
  REQUIRE(loop.poller.add(fd, EPOLLIN | EPOLLET, recorder) == 0);
  const UniqueFd elsewhere(::dup(fd));  // as in a child process
  loop.poller.forget(fd);
  pair.near.reset();
  pair.near = UniqueFd(::dup3(later.near.get(), fd, O_CLOEXEC));
  REQUIRE(loop.poller.add(fd, EPOLLIN, successor) == 0);
  pair.send();
  loop.turn();
  CHECK(recorder.seen.empty());
  CHECK(successor.seen.empty());
}

TEST_CASE("more events than a batch holds are all told") {
  Loop loop;
  constexpr int kCount = 300;
  std::vector<SocketPair> pairs(kCount);
  std::vector<Recorder> recorders(kCount);
  for (int i = 0; i < kCount; ++i) {
    REQUIRE(loop.poller.add(pairs[i].near.get(), EPOLLIN | EPOLLET, recorders[i]) == 0);
    pairs[i].send();
  }
  for (int i = 0; i < 3; ++i) loop.turn();
  for (const Recorder& recorder : recorders) CHECK(recorder.seen.size() == 1);
}

TEST_CASE("what cannot be watched is an errno") {
  Loop loop;
  Recorder recorder;
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(loop.poller.add(file.get(), EPOLLIN, recorder) == EPERM);
}
