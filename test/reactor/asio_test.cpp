// The bridge to Asio: any asynchronous operation as a Deferred.
#include <reactor/asio.hpp>

#include <doctest/doctest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect_pipe.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/readable_pipe.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/writable_pipe.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>

#include <reactor/testing/assertions.hpp>

using namespace torsion;
using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

template <class T>
Result<T> waitFor(Reactor& reactor, Deferred<T> d) {
  std::optional<Result<T>> result;
  std::move(d).addBoth([&](Result<T> r) { result.emplace(std::move(r)); });
  while (!result) reactor.iterate(1s);
  return std::move(*result);
}
void spin(Reactor& reactor) {
  for (int i = 0; i < 20; ++i) reactor.iterate();
}

// An operation of our own that completes with `signature`'s arguments.
template <class Signature, class... T>
auto completeWith(Reactor& reactor, T... values) {
  return asio::async_initiate<const UseDeferred, Signature>(
      [&reactor](auto handler, T... values) {
        asio::post(context(reactor),
                   [handler = std::move(handler), values...]() mutable { handler(std::move(values)...); });
      },
      use_deferred, std::move(values)...);
}

using Socket = asio::local::stream_protocol::socket;

// Reads one HTTP message, with all that Beast writes to among its locals.
Deferred<std::string> readMessage(Socket& socket, bool& gone) {
  struct Mark {
    bool& gone;
    ~Mark() { gone = true; }
  } mark{gone};
  boost::beast::flat_buffer buffer;
  http::request<http::string_body> message;
  Deferred<std::size_t> reading = http::async_read(socket, buffer, message, use_deferred);
  co_await std::move(reading);
  co_return message.body();
}

}  // namespace

TEST_CASE("an operation gives its value, its void, its tuple, or its error") {
  Reactor reactor;
  using Code = boost::system::error_code;
  Deferred<int> one = completeWith<void(Code, int)>(reactor, Code(), 7);
  CHECK(waitFor(reactor, std::move(one)).value() == 7);
  Deferred<void> none = completeWith<void(Code)>(reactor, Code());
  CHECK(waitFor(reactor, std::move(none)).ok());
  Deferred<std::tuple<int, std::string>> two =
      completeWith<void(Code, int, std::string)>(reactor, Code(), 7, std::string("x"));
  CHECK(waitFor(reactor, std::move(two)).value() == std::tuple(7, std::string("x")));
  Deferred<int> plain = completeWith<void(int)>(reactor, 7);
  CHECK(waitFor(reactor, std::move(plain)).value() == 7);

  Deferred<int> failed = completeWith<void(Code, int)>(reactor, Code(asio::error::eof), 0);
  auto result = waitFor(reactor, std::move(failed));
  REQUIRE(result.failure().get<std::system_error>());
  CHECK(result.failure().get<std::system_error>()->code() == std::error_code(Code(asio::error::eof)));

  std::exception_ptr problem = std::make_exception_ptr(std::range_error("x"));
  Deferred<int> thrown = completeWith<void(std::exception_ptr, int)>(reactor, problem, 0);
  CHECK(waitFor(reactor, std::move(thrown)).failure().check<std::range_error>());
}

TEST_CASE("pipes and timers") {
  Reactor reactor;
  asio::readable_pipe readable(context(reactor));
  asio::writable_pipe writable(context(reactor));
  asio::connect_pipe(readable, writable);
  std::string in(5, '\0');
  const std::string out = "hello";
  Deferred<std::size_t> reading = asio::async_read(readable, asio::buffer(in), use_deferred);
  Deferred<std::size_t> writing = asio::async_write(writable, asio::buffer(out), use_deferred);
  CHECK(waitFor(reactor, std::move(reading)).value() == 5);
  CHECK(waitFor(reactor, std::move(writing)).value() == 5);
  CHECK(in == "hello");

  asio::steady_timer timer(context(reactor), 1ms);
  Deferred<void> tick = timer.async_wait(use_deferred);
  CHECK(waitFor(reactor, std::move(tick)).ok());
}

TEST_CASE("cancel: the Deferred fires when the operation has ended, with CancelledError") {
  Reactor reactor;
  asio::steady_timer timer(context(reactor), 1h);
  Deferred<void> tick = timer.async_wait(use_deferred);
  tick.cancel();
  CHECK_FALSE(tick.called());
  tick.cancel();
  auto result = waitFor(reactor, std::move(tick));
  CHECK(result.failure().check<CancelledError>());
}

TEST_CASE("cancel of an operation that has ended already, but not told yet, is a cancel too") {
  Reactor reactor;
  Deferred<int> d = completeWith<void(boost::system::error_code, int)>(reactor, boost::system::error_code(), 7);
  d.cancel();
  CHECK_FALSE(d.called());
  CHECK(waitFor(reactor, std::move(d)).failure().check<CancelledError>());
}

TEST_CASE("a coroutine that owns the buffers of a Beast read keeps them until the cancelled read has ended") {
  Reactor reactor;
  Socket near(context(reactor)), far(context(reactor));
  asio::local::connect_pair(near, far);
  bool gone = false;
  Deferred<std::string> d = readMessage(near, gone);
  std::string part = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbegin";
  SUBCASE("before anything came") {}
  SUBCASE("in the middle of the body") {
    asio::write(far, asio::buffer(part));
    spin(reactor);
  }
  SUBCASE("with bytes that have come but were not read") {
    asio::write(far, asio::buffer(part));
  }
  d.cancel();
  CHECK_FALSE(gone);
  asio::write(far, asio::buffer(std::string(1000, 'x')));
  CHECK(waitFor(reactor, std::move(d)).failure().check<CancelledError>());
  CHECK(gone);
}

TEST_CASE("the same read, not cancelled") {
  Reactor reactor;
  Socket near(context(reactor)), far(context(reactor));
  asio::local::connect_pair(near, far);
  bool gone = false;
  Deferred<std::string> d = readMessage(near, gone);
  http::request<http::string_body> message(http::verb::post, "/", 11, "the body");
  message.prepare_payload();
  http::write(far, message);
  CHECK(waitFor(reactor, std::move(d)).value() == "the body");
  CHECK(gone);
}

TEST_CASE("an operation whose Deferred was dropped ends by itself, and one whose reactor goes is broken") {
  auto reactor = std::make_unique<Reactor>();
  std::optional<asio::steady_timer> timer(std::in_place, context(*reactor), 1h);
  {
    auto dropped = timer->async_wait(use_deferred).addErrback([](const std::system_error&) {});
  }
  timer->cancel();
  spin(*reactor);
  timer->expires_after(1h);
  Deferred<void> pending = timer->async_wait(use_deferred);
  timer.reset();
  reactor.reset();
  auto failure = failureResultOf(pending);
  CHECK((failure.check<std::system_error>() || failure.check<BrokenDeferred>()));
}
