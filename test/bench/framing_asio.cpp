// Asio: async_read_until and async_read with an asio::streambuf over a stream in memory, whose reads complete by way of
// the io_context, as a socket's would; a callback a message.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/completion_condition.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>

#include "framing.hpp"

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

struct Stream {
  using executor_type = asio::io_context::executor_type;
  executor_type get_executor() { return context.get_executor(); }

  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    const std::size_t n = asio::buffer_copy(buffers, asio::buffer(input.data(), std::min(read, input.size())));
    input.remove_prefix(n);
    // An operation that needs no byte reads none.
    const bool end = n == 0 && asio::buffer_size(buffers) > 0;
    asio::post(context, [handler = std::forward<Handler>(handler), end, n]() mutable {
      handler(end ? error_code(asio::error::eof) : error_code(), n);
    });
  }

  asio::io_context context{1};
  std::string_view input;
  std::size_t read;
};

struct Side {
  Side(std::string_view input, std::size_t read) {
    stream.input = input;
    stream.read = read;
    // A streambuf asks for as much as it has room for, and at least 512 bytes.
    buffer.prepare(bench::kRead);
  }
  Stream stream;
  asio::streambuf buffer;
  std::size_t bytes = 0;

  const char* data() const { return static_cast<const char*>(buffer.data().data()); }

  void line() {
    asio::async_read_until(stream, buffer, "\r\n", [this](error_code error, std::size_t size) {
      if (error) return;
      bytes += size - 2;
      buffer.consume(size);
      line();
    });
  }

  // As async_read does with a buffer that has more already: no read at all.
  template <class F>
  void atLeast(std::size_t size, F f) {
    asio::async_read(
        stream, buffer,
        [this, size](error_code error, std::size_t) {
          return error || buffer.size() >= size ? std::size_t{0} : bench::kRead;
        },
        [f](error_code error, std::size_t) mutable {
          if (!error) f();
        });
  }
  void netstring() {
    asio::async_read_until(stream, buffer, ':', [this](error_code error, std::size_t size) {
      if (error) return;
      std::size_t length = 0;
      for (std::size_t i = 0; i + 1 < size; ++i) length = length * 10 + static_cast<std::size_t>(data()[i] - '0');
      buffer.consume(size);
      atLeast(length + 1, [this, length] {
        if (data()[length] != ',') std::abort();
        bytes += length;
        buffer.consume(length + 1);
        netstring();
      });
    });
  }
  void int32() {
    atLeast(4, [this] {
      std::uint32_t length = 0;
      for (int i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(data()[i]);
      buffer.consume(4);
      atLeast(length, [this, length] {
        bytes += length;
        buffer.consume(length);
        int32();
      });
    });
  }
};

template <void (Side::*Start)()>
std::size_t feed(std::string_view input, std::size_t read) {
  Side side(input, read);
  (side.*Start)();
  side.stream.context.run();
  return side.bytes;
}

}  // namespace

int main() {
  bench::timeLines(feed<&Side::line>);
  bench::timeNetstrings(feed<&Side::netstring>);
  bench::timeInt32(feed<&Side::int32>);
}
