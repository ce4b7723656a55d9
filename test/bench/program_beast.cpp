// The program of program_torsion.cpp on plain Beast, callbacks: fetches the URLs given, all at once, and says of each
// how many bytes it has or why it failed.
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
  Page(asio::io_context& context, std::string url) : url_(std::move(url)), resolver_(context), stream_(context) {}

  void fetch() {
    const std::string rest = url_.substr(url_.find("://") + 3);
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
      std::cout << url_ << ": " << response_.result_int() << " " << response_.reason() << "\n";
    } else {
      std::cout << url_ << ": " << response_.body().size() << " bytes\n";
    }
  }
  void failed(beast::error_code error) { std::cout << url_ << ": " << error.message() << "\n"; }

  std::string url_;
  tcp::resolver resolver_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  http::request<http::empty_body> request_;
  http::response<http::string_body> response_;
};

int main(int argc, char** argv) {
  asio::io_context context;
  for (int i = 1; i < argc; ++i) std::make_shared<Page>(context, argv[i])->fetch();
  context.run();
}
