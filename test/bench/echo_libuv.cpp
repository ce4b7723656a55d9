// An echo server of libuv's: `echo_libuv BUFFER`. A buffer of BUFFER bytes for each connection, uv_try_write, and for
// what the socket does not take uv_write.
#include <netinet/in.h>
#include <uv.h>

#include <cstdlib>
#include <vector>

#include "echo.hpp"

namespace {

std::size_t bufferSize;

struct Connection {
  uv_tcp_t handle;
  uv_write_t request;
  std::vector<char> buffer = std::vector<char>(bufferSize);
};

Connection& of(uv_stream_t* stream) {
  return *static_cast<Connection*>(stream->data);
}

void closed(uv_handle_t* handle) {
  delete static_cast<Connection*>(handle->data);
}

void allocate(uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
  auto& memory = static_cast<Connection*>(handle->data)->buffer;
  *buffer = uv_buf_init(memory.data(), static_cast<unsigned>(memory.size()));
}

void received(uv_stream_t* stream, ssize_t n, const uv_buf_t* buffer);

void written(uv_write_t* request, int error) {
  uv_stream_t* stream = request->handle;
  if (error == 0) uv_read_start(stream, allocate, received);
}

void received(uv_stream_t* stream, ssize_t n, const uv_buf_t* buffer) {
  if (n == 0) return;
  if (n < 0) return uv_close(reinterpret_cast<uv_handle_t*>(stream), closed);
  uv_buf_t data = uv_buf_init(buffer->base, static_cast<unsigned>(n));
  const int sent = uv_try_write(stream, &data, 1);
  if (sent == n || (sent < 0 && sent != UV_EAGAIN)) return;
  const unsigned skipped = sent > 0 ? static_cast<unsigned>(sent) : 0;
  data = uv_buf_init(buffer->base + skipped, static_cast<unsigned>(n) - skipped);
  uv_read_stop(stream);  // the write uses the buffer
  uv_write(&of(stream).request, stream, &data, 1, written);
}

void connected(uv_stream_t* server, int error) {
  if (error) return;
  auto* connection = new Connection;
  uv_tcp_init(server->loop, &connection->handle);
  connection->handle.data = connection;
  auto* stream = reinterpret_cast<uv_stream_t*>(&connection->handle);
  if (uv_accept(server, stream) == 0) uv_read_start(stream, allocate, received);
}

}  // namespace

int main(int, char** argv) {
  bench::raiseDescriptorLimit();
  bufferSize = std::strtoul(argv[1], nullptr, 10);
  uv_loop_t* loop = uv_default_loop();
  uv_tcp_t server;
  sockaddr_in address;
  int length = sizeof address;
  uv_tcp_init(loop, &server);
  uv_ip4_addr("127.0.0.1", 0, &address);
  uv_tcp_bind(&server, reinterpret_cast<sockaddr*>(&address), 0);
  uv_tcp_nodelay(&server, 1);
  if (uv_listen(reinterpret_cast<uv_stream_t*>(&server), bench::kBacklog, connected) != 0) return 1;
  uv_tcp_getsockname(&server, reinterpret_cast<sockaddr*>(&address), &length);
  bench::serving(ntohs(address.sin_port));
  uv_run(loop, UV_RUN_DEFAULT);
}
