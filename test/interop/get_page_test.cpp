// getPage against servers that others wrote: httpbin on Twisted's own web server, nginx, and `openssl s_server`.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include <deferred/list.hpp>
#include <protocols/http/get_page.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/assertions.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using test::OpenSSLServer;
using test::Process;
using test::TemporaryDirectory;
using test::testPKI;

namespace {

/// Runs a reactor until `d` has fired.
template <class T>
Deferred<T> ended(Deferred<T> d, Reactor& reactor) {
  if (d.called()) return d;
  Resolver<T> copy;
  std::move(d).addBoth([&, copy](Result<T> result) {
    copy.resolve(std::move(result));
    reactor.stop();
  });
  reactor.run(false);
  return copy.deferred();
}

struct Fixture {
  Reactor reactor;
  Deferred<std::string> get(const std::string& url, PageOptions options = {}) {
    return ended(getPage(url, std::move(options), reactor), reactor);
  }
};

std::uint16_t freePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

const std::string& httpbin() {
  static Process server({"/usr/bin/python3", "-u", "-"}, R"(
from twisted.internet import reactor
from twisted.web.server import Site
from twisted.web.wsgi import WSGIResource
from httpbin import app
port = reactor.listenTCP(0, Site(WSGIResource(reactor, reactor.getThreadPool(), app)), interface='127.0.0.1')
print('<%d>' % port.getHost().port)
reactor.run()
)");
  static const std::string base = [] {
    const std::string output = server.waitFor(">");
    const auto at = output.find('<') + 1;
    return "http://127.0.0.1:" + output.substr(at, output.find('>') - at);
  }();
  return base;
}

/// nginx with a large file, redirects, and the same by https.
class Nginx {
 public:
  Nginx() {
    const std::string dir = directory_.path();
    for (const char* name : {"www", "tmp"}) std::filesystem::create_directory(dir + '/' + name);
    directory_.write("www/large", large());
    directory_.write("www/empty", "");
    directory_.write("cert.pem", testPKI().localhost.certificate);
    directory_.write("key.pem", testPKI().localhost.privateKey);
    const std::string conf = directory_.write(
        "nginx.conf",
        "daemon off;\nmaster_process off;\npid " + dir +
            "/pid;\n"
            "error_log stderr notice;\nevents {}\nhttp {\n  access_log off;\n  client_body_temp_path " +
            dir +
            "/tmp;\n"
            "  proxy_temp_path " +
            dir + "/tmp;\n  fastcgi_temp_path " + dir + "/tmp;\n  uwsgi_temp_path " + dir +
            "/tmp;\n"
            "  scgi_temp_path " +
            dir + "/tmp;\n  client_max_body_size 1m;\n  server {\n    listen 127.0.0.1:" + std::to_string(port) +
            ";\n    listen 127.0.0.1:" + std::to_string(tlsPort) +
            " ssl;\n"
            "    ssl_certificate " +
            dir + "/cert.pem;\n    ssl_certificate_key " + dir + "/key.pem;\n    root " + dir +
            "/www;\n"
            "    location /moved { return 301 /large; }\n    location /secure { return 302 https://localhost:" +
            std::to_string(tlsPort) +
            "/large; }\n    location /loop { return 302 /loop; }\n"
            "    location /slow { limit_rate 20k; alias " +
            dir +
            "/www/large; }\n"
            "    location /cut { return 444; }\n  }\n}\n");
    server_.emplace(std::vector<std::string>{"/usr/sbin/nginx", "-e", "stderr", "-p", dir, "-c", conf});
    server_->waitFor("getrlimit");
  }
  static std::string large() {
    std::string text;
    for (int i = 0; i < 300'000; ++i) text += std::to_string(i) + '\n';
    return text;
  }
  std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(port) + path; }
  std::string tlsURL(const std::string& path) const { return "https://localhost:" + std::to_string(tlsPort) + path; }

  const std::uint16_t port = freePort(), tlsPort = freePort();

 private:
  TemporaryDirectory directory_;
  std::optional<Process> server_;
};

PageOptions trusting(const std::string& authority) {
  PageOptions options;
  options.tls = optionsForClientTLS("localhost", {.trustRoots = authority});
  return options;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "httpbin: requests arrive as they should") {
  const std::string base = httpbin();
  CHECK(contains(successResultOf(get(base + "/get?x=1&y=%20#frag")), R"("args":{"x":"1","y":" "})"));
  CHECK(contains(successResultOf(get(base + "/user-agent")), "Torsion PageGetter"));
  PageOptions post{
      .method = "POST", .postdata = "a=b&c=d", .headers = {{"Content-Type", "application/x-www-form-urlencoded"}}};
  CHECK(contains(successResultOf(get(base + "/post", post)), R"("form":{"a":"b","c":"d"})"));
  CHECK(contains(successResultOf(get(base + "/put", {.method = "PUT", .postdata = std::string(200'000, 'x')})),
                 std::string(200'000, 'x')));
  CHECK(successResultOf(get(base + "/get", {.method = "HEAD"})).empty());
  CHECK(contains(successResultOf(get(base + "/basic-auth/u/p", {.headers = {{"Authorization", "Basic dTpw"}}})),
                 R"("authenticated":true)"));
}

TEST_CASE_FIXTURE(Fixture, "httpbin: statuses, redirects, cookies and chunked bodies") {
  const std::string base = httpbin();
  const Failure teapot = failureResultOf<HttpError>(get(base + "/status/418"));
  CHECK(teapot.get<HttpError>()->status == 418);
  CHECK(contains(teapot.get<HttpError>()->response, "teapot"));
  failureResultOf<HttpError>(get(base + "/basic-auth/u/p"));
  for (const char* path : {"/redirect/3", "/relative-redirect/3", "/absolute-redirect/3"}) {
    CHECK(contains(successResultOf(get(base + path)), R"("url":)"));
  }
  failureResultOf<InfiniteRedirection>(get(base + "/redirect/3", {.redirectLimit = 3}));
  failureResultOf<PageRedirect>(get(base + "/redirect/3", {.followRedirect = false}));
  const std::string echoed =
      successResultOf(get(base + "/redirect-to?status_code=307&url=/anything", {.method = "POST", .postdata = "kept"}));
  CHECK(contains(echoed, R"("method":"POST")"));
  CHECK(contains(echoed, R"("data":"kept")"));
  auto jar = std::make_shared<CookieJar>();
  CHECK(contains(successResultOf(get(base + "/cookies/set?k=v", {.cookies = jar})), R"("k":"v")"));
  CHECK(jar->get("k", "127.0.0.1") == "v");
  CHECK(contains(successResultOf(get(base + "/cookies/delete?k", {.cookies = jar})), R"("cookies":{})"));
  CHECK(successResultOf(get(base + "/stream-bytes/50000?chunk_size=999&seed=1")).size() == 50'000);
  const std::string lines = successResultOf(get(base + "/stream/7"));
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 7);
  CHECK(successResultOf(get(base + "/bytes/100000")).size() == 100'000);
}

TEST_CASE_FIXTURE(Fixture, "httpbin: many pages at once, a timeout among them") {
  std::vector<Deferred<std::string>> pages;
  for (int i = 0; i < 40; ++i) pages.push_back(getPage(httpbin() + "/anything/" + std::to_string(i), {}, reactor));
  pages.push_back(getPage(httpbin() + "/delay/10", {.timeout = 300ms}, reactor));
  auto results = successResultOf(ended(DeferredList(std::move(pages), {.consumeErrors = true}), reactor));
  for (int i = 0; i < 40; ++i) {
    REQUIRE(results[static_cast<std::size_t>(i)].ok());
    CHECK(contains(results[static_cast<std::size_t>(i)].value(), "/anything/" + std::to_string(i)));
  }
  CHECK(results[40].failure().check<TimeoutError>());
}

TEST_CASE_FIXTURE(Fixture, "nginx: large and empty pages, redirects, a slow page, a connection that is cut") {
  Nginx nginx;
  CHECK(successResultOf(get(nginx.url("/large"))) == Nginx::large());
  CHECK(successResultOf(get(nginx.url("/empty"))).empty());
  CHECK(successResultOf(get(nginx.url("/moved"))) == Nginx::large());
  CHECK(failureResultOf<HttpError>(get(nginx.url("/nope"))).get<HttpError>()->status == 404);
  CHECK(
      failureResultOf<HttpError>(get(nginx.url("/large"), {.method = "POST", .postdata = std::string(3'000'000, 'x')}))
          .get<HttpError>()
          ->status == 413);
  failureResultOf<InfiniteRedirection>(get(nginx.url("/loop")));
  failureResultOf<ConnectionDone>(get(nginx.url("/cut")));
  failureResultOf<TimeoutError>(get(nginx.url("/slow"), {.timeout = 200ms}));
  failureResultOf<HttpLimitError>(get(nginx.url("/large"), {.maxBody = 1000}));
  failureResultOf<ConnectionRefusedError>(get("http://127.0.0.1:" + std::to_string(freePort()) + "/"));
}

TEST_CASE_FIXTURE(Fixture, "nginx: downloadPage, whole and the rest of it") {
  Nginx nginx;
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/page";
  const auto content = [&] {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  successResultOf(ended(downloadPage(nginx.url("/large"), path, {}, reactor), reactor));
  CHECK(content() == Nginx::large());
  std::filesystem::resize_file(path, 100'000);
  successResultOf(ended(downloadPage(nginx.url("/large"), path, {.supportPartial = true}, reactor), reactor));
  CHECK(content() == Nginx::large());
}

TEST_CASE_FIXTURE(Fixture, "nginx: https") {
  Nginx nginx;
  const PageOptions options = trusting(testPKI().authority.certificate);
  CHECK(successResultOf(get(nginx.tlsURL("/large"), options)) == Nginx::large());
  CHECK(successResultOf(get(nginx.url("/secure"), options)) == Nginx::large());
  CHECK(successResultOf(get("https://127.0.0.1:" + std::to_string(nginx.tlsPort) + "/empty", options)).empty());
  failureResultOf<VerifyError>(get(nginx.tlsURL("/large")));  // the system does not trust this authority
  failureResultOf<VerifyError>(get(nginx.url("/secure")));
  CHECK(failureResultOf<HttpError>(get("http://127.0.0.1:" + std::to_string(nginx.tlsPort) + "/"))
            .get<HttpError>()
            ->status == 400);
  failureResultOf<SSLError>(get("https://127.0.0.1:" + std::to_string(nginx.port) + "/", options));
}

TEST_CASE_FIXTURE(Fixture, "openssl s_server: good, expired, wrong and untrusted certificates") {
  const PageOptions options = trusting(testPKI().authority.certificate);
  const auto url = [](const OpenSSLServer& server, const char* host) {
    return std::string("https://") + host + ':' + std::to_string(server.port()) + '/';
  };
  OpenSSLServer good(testPKI().localhost, {"-www"});
  CHECK(contains(successResultOf(get(url(good, "localhost"), options)), "s_server"));
  CHECK(contains(successResultOf(get(url(good, "127.0.0.1"), options)), "s_server"));
  OpenSSLServer expired(testPKI().expired, {"-www"}), notYet(testPKI().notYet, {"-www"}),
      wrongName(testPKI().wrongName, {"-www"}), selfSigned(testPKI().selfSigned, {"-www"});
  for (const OpenSSLServer* server : {&expired, &notYet, &wrongName, &selfSigned}) {
    failureResultOf<VerifyError>(get(url(*server, "localhost"), options));
    failureResultOf<VerifyError>(get(url(*server, "localhost")));
  }
}

TEST_CASE("a reactor that goes away fails the pages under way") {
  std::optional<Deferred<std::string>> d;
  {
    Reactor reactor;
    d.emplace(getPage(httpbin() + "/delay/10", {.timeout = 5s}, reactor));
    for (int i = 0; i < 5; ++i) reactor.iterate(10ms);
  }
  failureResultOf(*d);
}
