// What examples/getpage.cpp does, on plain Beast with callbacks: for http alone, without redirects.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

class Page : public std::enable_shared_from_this<Page> {
 public:
  explicit Page(asio::io_context& context) : resolver_(context), stream_(context) {}

  bool succeeded() const { return succeeded_; }
  void fetch(const std::string& url) {
    const std::string rest = url.substr(url.find("://") + 3);
    const std::string authority = rest.substr(0, rest.find('/'));
    const std::size_t colon = authority.find(':');
    const std::string port = colon == std::string::npos ? "80" : authority.substr(colon + 1);
    request_ = {http::verb::get, authority.size() < rest.size() ? rest.substr(authority.size()) : "/", 11};
    request_.set(http::field::host, authority);
    request_.keep_alive(false);
    resolver_.async_resolve(authority.substr(0, colon), port,
                            beast::bind_front_handler(&Page::resolved, shared_from_this()));
  }

 private:
  void resolved(beast::error_code error, tcp::resolver::results_type addresses) {
    if (error) return failed(error);
    stream_.expires_after(std::chrono::seconds(30));
    stream_.async_connect(addresses, beast::bind_front_handler(&Page::connected, shared_from_this()));
  }
  void connected(beast::error_code error, const tcp::endpoint&) {
    if (error) return failed(error);
    http::async_write(stream_, request_, beast::bind_front_handler(&Page::written, shared_from_this()));
  }
  void written(beast::error_code error, std::size_t) {
    if (error) return failed(error);
    http::async_read(stream_, buffer_, response_, beast::bind_front_handler(&Page::read, shared_from_this()));
  }
  void read(beast::error_code error, std::size_t) {
    if (error) return failed(error);
    if (response_.result_int() != 200) {
      std::cerr << "the server says " << response_.result_int() << ' ' << response_.reason() << '\n';
      return;
    }
    std::cout << response_.body();
    succeeded_ = true;
  }
  void failed(beast::error_code error) { std::cerr << error.message() << '\n'; }

  bool succeeded_ = false;
  tcp::resolver resolver_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  http::request<http::empty_body> request_;
  http::response<http::string_body> response_;
};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: getpage URL\n";
    return 2;
  }
  asio::io_context context;
  const auto page = std::make_shared<Page>(context);
  page->fetch(argv[1]);
  context.run();
  return page->succeeded() ? 0 : 1;
}
