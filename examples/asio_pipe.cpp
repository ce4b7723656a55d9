// Torsion knows nothing of pipes. Boost.Asio does, and with `use_deferred` each of its operations is a Deferred: here a
// coroutine reads lines from a pipe while a chain of callbacks writes them, and a limit ends the last read.
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect_pipe.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/readable_pipe.hpp>
#include <boost/asio/writable_pipe.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <string>

#include <reactor/asio.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>

using namespace torsion;
using namespace std::chrono_literals;
namespace asio = boost::asio;

Deferred<void> printLines(asio::readable_pipe& pipe) {
  std::string text;  // lives until the operation is over, even if it is cancelled
  for (;;) {
    Deferred<std::size_t> reading = asio::async_read_until(pipe, asio::dynamic_buffer(text), '\n', use_deferred);
    const std::size_t size = co_await std::move(reading);
    std::cout << "read: " << text.substr(0, size);
    text.erase(0, size);
  }
}

Deferred<void> writeLine(asio::writable_pipe& pipe, const std::string& line) {
  return asio::async_write(pipe, asio::buffer(line), use_deferred).addCallback([](std::size_t) {});
}

int main() {
  asio::readable_pipe in(context());
  asio::writable_pipe out(context());
  asio::connect_pipe(in, out);
  const std::string first = "hello\n", second = "world\n";

  auto written =
      writeLine(out, first).addCallback([&] { return writeLine(out, second); }).addErrback([](const Failure& failure) {
        std::cout << failure.getErrorMessage() << '\n';
      });
  auto printed = printLines(in)
                     .addTimeout(200ms, reactor())
                     .addErrback([](const TimeoutError&) { std::cout << "no more lines\n"; })
                     .addErrback([](const Failure& failure) { std::cout << failure.getErrorMessage() << '\n'; })
                     .addCallback([] { reactor().stop(); });
  reactor().run();
}
