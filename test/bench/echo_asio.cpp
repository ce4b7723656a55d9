// An echo server of plain Asio's, or with TLS asio::ssl's: `echo_asio BUFFER [KEY CERTIFICATE]`. A shared object and a
// buffer of BUFFER bytes for each connection, callbacks, the io_context's own executor, no timeouts.
#include <openssl/ssl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "echo.hpp"

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Executor>;

template <class Stream>
class Connection : public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <class... Args>
  explicit Connection(std::size_t buffer, Socket socket, Args&... args)
      : stream_(std::move(socket), args...), buffer_(buffer) {}

  void start() {
    if constexpr (std::is_same_v<Stream, Socket>) {
      read();
    } else {
      stream_.async_handshake(asio::ssl::stream_base::server, [self = this->shared_from_this()](error_code error) {
        if (!error) self->read();
      });
    }
  }

 private:
  void read() {
    stream_.async_read_some(asio::buffer(buffer_), [self = this->shared_from_this()](error_code error, std::size_t n) {
      if (!error) self->write(n);
    });
  }
  void write(std::size_t n) {
    asio::async_write(stream_, asio::buffer(buffer_.data(), n),
                      [self = this->shared_from_this()](error_code error, std::size_t) {
                        if (!error) self->read();
                      });
  }

  Stream stream_;
  std::vector<char> buffer_;
};

class Server {
 public:
  Server(asio::io_context& context, std::size_t buffer, asio::ssl::context* tls)
      : buffer_(buffer), tls_(tls), acceptor_(context) {
    const asio::ip::tcp::endpoint any(asio::ip::address_v4::loopback(), 0);
    acceptor_.open(any.protocol());
    acceptor_.set_option(asio::ip::tcp::no_delay(true));  // which those accepted inherit
    acceptor_.bind(any);
    acceptor_.listen(bench::kBacklog);
  }

  void accept() {
    bench::serving(acceptor_.local_endpoint().port());
    acceptNext();
  }

 private:
  void acceptNext() {
    acceptor_.async_accept([this](error_code error, Socket socket) {
      if (!error && tls_) {
        std::make_shared<Connection<asio::ssl::stream<Socket>>>(buffer_, std::move(socket), *tls_)->start();
      } else if (!error) {
        std::make_shared<Connection<Socket>>(buffer_, std::move(socket))->start();
      }
      acceptNext();
    });
  }

  std::size_t buffer_;
  asio::ssl::context* tls_;
  Acceptor acceptor_;
};

}  // namespace

int main(int argc, char** argv) {
  bench::raiseDescriptorLimit();
  asio::io_context context(1);
  asio::ssl::context tls(asio::ssl::context::tls_server);
  if (argc > 3) {
    tls.use_private_key_file(argv[2], asio::ssl::context::pem);
    tls.use_certificate_chain_file(argv[3]);
    // As Torsion's; the stream sets SSL_MODE_RELEASE_BUFFERS itself.
    SSL_CTX* settings = tls.native_handle();
    SSL_CTX_set_min_proto_version(settings, TLS1_2_VERSION);
    SSL_CTX_set_options(settings, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(settings, SSL_SESS_CACHE_OFF);
  }
  Server server(context, std::strtoul(argv[1], nullptr, 10), argc > 3 ? &tls : nullptr);
  server.accept();
  context.run();
}
