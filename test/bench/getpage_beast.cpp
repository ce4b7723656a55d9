// Pages fetched with plain Beast: an object a page, callbacks, tcp_stream's own expiry of 30 s armed for the
// connection, the write and the read.
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <string>

#include "getpage.hpp"

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

namespace {

constexpr std::chrono::seconds kTimeout(bench::kTimeoutSeconds);

class Page : public std::enable_shared_from_this<Page> {
 public:
  Page(asio::io_context& context, bench::Pages& pages) : context_(context), pages_(pages), stream_(context) {}

  void fetch(const tcp::endpoint& server) {
    server_ = server;
    request_.version(11);
    request_.method(http::verb::get);
    request_.target("/");
    request_.set(http::field::host, std::string("127.0.0.1:") + pages_.port);
    request_.set(http::field::user_agent, "Beast");
    request_.keep_alive(false);
    stream_.expires_after(kTimeout);
    stream_.async_connect(server, beast::bind_front_handler(&Page::connected, shared_from_this()));
  }

 private:
  void connected(beast::error_code error) {
    if (error) bench::Pages::fail(error.message().c_str());
    stream_.expires_after(kTimeout);
    http::async_write(stream_, request_, beast::bind_front_handler(&Page::written, shared_from_this()));
  }
  void written(beast::error_code error, std::size_t) {
    if (error) bench::Pages::fail(error.message().c_str());
    stream_.expires_after(kTimeout);
    http::async_read(stream_, buffer_, response_, beast::bind_front_handler(&Page::read, shared_from_this()));
  }
  void read(beast::error_code error, std::size_t) {
    if (error) bench::Pages::fail(error.message().c_str());
    stream_.close();
    pages_.got(response_.result_int(), response_.body().size());
    if (pages_.more()) std::make_shared<Page>(context_, pages_)->fetch(server_);
  }

  asio::io_context& context_;
  bench::Pages& pages_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  http::request<http::empty_body> request_;
  http::response<http::string_body> response_;
  tcp::endpoint server_;
};

}  // namespace

int main(int, char** argv) {
  bench::Pages pages(argv);
  asio::io_context context(1);
  const tcp::endpoint server(asio::ip::make_address("127.0.0.1"),
                             static_cast<unsigned short>(std::strtoul(pages.port, nullptr, 10)));
  for (int i = 0; i < bench::kInFlight && pages.more(); ++i) std::make_shared<Page>(context, pages)->fetch(server);
  context.run();
}
