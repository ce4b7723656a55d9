// Every row of the table of getPage's behaviour, in memory: the server is a table too.
#include <protocols/http/get_page.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <system_error>

#include <deferred/functions.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

std::string ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}
std::string redirect(int status, std::string_view reason, std::string_view location) {
  return "HTTP/1.1 " + std::to_string(status) + ' ' + std::string(reason) + "\r\nLocation: " + std::string(location) +
         "\r\nContent-Length: 0\r\n\r\n";
}

const std::map<std::string, std::string> kReplies = {
    {"/ok", ok("hello")},
    {"/close", "HTTP/1.0 200 OK\r\n\r\nuntil-close"},
    {"/empty", ok("")},
    {"/201", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"},
    {"/202", "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"},
    {"/203", "HTTP/1.1 203 NonAuth\r\nContent-Length: 2\r\n\r\nok"},
    {"/204", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"/206", "HTTP/1.1 206 Partial\r\nContent-Length: 2\r\n\r\nok"},
    {"/304", "HTTP/1.1 304 Not Modified\r\n\r\n"},
    {"/404", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-Why: gone\r\n\r\nnope"},
    {"/500", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"},
    {"/short", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"},
    {"/404short", "HTTP/1.1 404 Not Found\r\nContent-Length: 50\r\n\r\nshort"},
    {"/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
    {"/chunkedshort", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
    {"/extra", ok("hello") + "EXTRA"},
    {"/fold", "HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 0\r\n\r\n"},
    {"/noreason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"},
    {"/100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok("ok")},
    {"/101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"},
    {"/nothing", ""},
    {"/half", "HTTP/1.1 200 OK\r\nContent-"},
    {"/garbage", "garbage\r\n\r\n"},
    {"/both", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
    {"/gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxxxx"},
    {"/lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
    {"/301", redirect(301, "Moved", "/ok")},
    {"/302", redirect(302, "Found", "/ok")},
    {"/303", redirect(303, "See", "/ok")},
    {"/307", "HTTP/1.1 307 Temp\r\nLocation: /ok\r\nContent-Length: 2\r\n\r\nxx"},
    {"/308", "HTTP/1.1 308 Perm\r\nLocation: /ok\r\nContent-Length: 2\r\n\r\nxx"},
    {"/302echo", redirect(302, "Found", "/echo")},
    {"/303echo", redirect(303, "See", "/echo")},
    {"/307echo", redirect(307, "Temp", "/echo")},
    {"/loop", redirect(302, "Found", "/loop")},
    {"/noloc", "HTTP/1.1 302 Found\r\nContent-Length: 3\r\n\r\nabc"},
    {"/d/rel", redirect(302, "Found", "ok?x=1#frag")},
    {"/d/ok?x=1", ok("relative")},
    {"/away", redirect(302, "Found", "http://other.example:8080/echo")},
    {"/there-and-back", redirect(302, "Found", "http://other.example:8080/back")},
    {"/back", redirect(302, "Found", "http://h.example/echo")},
    {"/ftp", redirect(302, "Found", "ftp://h.example/x")},
    {"/badloc", redirect(302, "Found", "http://[")},
    {"/hangbody", redirect(302, "Found", "/hang")},
    {"/cookie", "HTTP/1.1 302 Found\r\nSet-Cookie: a=b; path=/\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n"},
    {"/setcookie", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; path=/\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n"},
    {"/cookieaway",
     "HTTP/1.1 302 Found\r\nSet-Cookie: a=b; path=/\r\nLocation: http://other.example:8080/echo\r\n\r\n"},
    {"/lie", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhello"},
    {"/rest", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nWORLD"},
    {"/wrongrest", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-9/10\r\nContent-Length: 5\r\n\r\nWORLD"},
};

/// Answers each request by kReplies and closes; /echo gives the request back, /hang nothing, /drip a body that never
/// ends.
class CannedServer final : public Protocol {
 public:
  explicit CannedServer(std::vector<std::string>& seen, int& lost) : seen_(seen), lost_(lost) {}
  void dataReceived(std::string_view data) override {
    got_ += data;
    const auto end = got_.find("\r\n\r\n");
    if (answered_ || end == got_.npos) return;
    std::size_t length = 0;
    if (const auto at = got_.find("Content-Length: "); at < end) length = std::stoul(got_.substr(at + 16));
    if (got_.size() < end + 4 + length) return;
    answered_ = true;
    seen_.push_back(got_);
    const auto space = got_.find(' ');
    const std::string path = got_.substr(space + 1, got_.find(' ', space + 1) - space - 1);
    if (path == "/hang") return;
    if (path == "/drip") return transport().write("HTTP/1.1 200 OK\r\n\r\ndrop");
    if (path == "/keepsopen") return transport().write(ok("hello"));
    const auto reply = kReplies.find(path);
    transport().write(reply == kReplies.end() ? ok(got_) : reply->second);
    transport().loseConnection();
  }
  void connectionLost(const Failure&) override { ++lost_; }

 private:
  std::vector<std::string>& seen_;
  int& lost_;
  std::string got_;
  bool answered_ = false;
};

struct Fixture : TestFixture {
  std::vector<std::string> seen;  // requests
  int lost = 0;                   // connections that ended, as the server saw it
  std::vector<std::shared_ptr<ListeningPort>> ports;

  Fixture() {
    reactor.addName("h.example", {"10.0.0.1"});
    reactor.addName("other.example", {"10.0.0.2"});
    for (std::uint16_t port : {80, 8080}) {
      ports.push_back(
          reactor.listenTCP(port, makeFactory([this] { return std::make_shared<CannedServer>(seen, lost); })));
    }
  }
  ~Fixture() {
    for (const auto& port : ports) port->stopListening();
    for (const auto& problem : finish()) FAIL_CHECK(problem);
    CHECK(static_cast<std::size_t>(lost) == seen.size());
  }

  /// What getPage gives: the body in quotes, or the error.
  std::string get(std::string_view path, PageOptions options = {}) {
    const std::string url = path.starts_with('/') ? "http://h.example" + std::string(path) : std::string(path);
    Deferred<std::string> d = getPage(url, std::move(options), reactor);
    assertNoResult(d);
    reactor.flush();
    reactor.advance(0s);
    if (!d.called()) return "pending";
    return describe(std::move(d));
  }
  static std::string describe(Deferred<std::string> d) {
    std::string text;
    std::move(d).addBoth([&text](Result<std::string> r) {
      if (r.ok()) {
        text = '"' + r.value() + '"';
        return;
      }
      const Failure& f = r.failure();
      const auto name = [&]() -> std::string {
        if (f.check<PartialDownloadError>()) return "PartialDownloadError";
        if (f.check<PageRedirect>()) return "PageRedirect";
        if (f.check<InfiniteRedirection>()) return "InfiniteRedirection";
        if (f.check<HttpError>()) return "HttpError";
        if (f.check<HttpLimitError>()) return "HttpLimitError";
        if (f.check<HttpParseError>()) return "HttpParseError";
        if (f.check<InvalidURL>()) return "InvalidURL";
        if (f.check<InvalidRequest>()) return "InvalidRequest";
        if (f.check<TimeoutError>()) return "TimeoutError";
        if (f.check<CancelledError>()) return "CancelledError";
        if (f.check<ConnectionRefusedError>()) return "ConnectionRefusedError";
        if (f.check<DNSLookupError>()) return "DNSLookupError";
        if (f.check<ConnectionDone>()) return "ConnectionDone";
        return "another error";
      };
      text = name() + ": " + f.getErrorMessage();
      if (const auto* e = f.get<HttpError>(); e && !e->response.empty()) text += " [" + e->response + "]";
    });
    return text;
  }
  /// The request lines seen since the last call.
  std::string requests() {
    std::string lines;
    for (const std::string& request : seen) {
      if (!lines.empty()) lines += ", ";
      lines += request.substr(0, request.find(" HTTP/1.1"));
      if (!request.ends_with("\r\n\r\n")) lines += " BODY";
    }
    lost -= static_cast<int>(seen.size());
    seen.clear();
    return lines;
  }
};

std::string file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return in ? text.str() : "(none)";
}

struct TemporaryFile {
  std::filesystem::path path;
  TemporaryFile() {
    std::string name = (std::filesystem::temp_directory_path() / "torsion-XXXXXX").string();
    const int fd = mkstemp(name.data());
    REQUIRE(fd >= 0);
    close(fd);
    path = name;
    std::filesystem::remove(path);
  }
  ~TemporaryFile() { std::filesystem::remove(path); }
};

}  // namespace

TEST_CASE("getPage: one that is connecting when its reactor goes fails") {
  std::optional<MemoryReactor> reactor(std::in_place);
  auto d = getPage("http://10.0.0.1/", {.timeout = 10s}, *reactor);
  assertNoResult(d);
  reactor.reset();
  failureResultOf<ConnectError>(std::move(d));
}

TEST_CASE("getPage: the factories that it connects with say that the client speaks first") {
  MemoryReactor reactor;
  reactor.addName("h.example", {"10.0.0.1"});
  std::vector<Deferred<std::string>> pages;
  for (const char* url : {"http://10.0.0.1/", "http://h.example/", "https://10.0.0.1/"}) {
    pages.push_back(getPage(url, {}, reactor));
  }
  reactor.advance(0s);
  const auto clients = reactor.tcpClients();
  CHECK(clients.size() == pages.size());
  for (const auto& client : clients) CHECK(client.factory->clientSpeaksFirst());
  for (auto& page : pages) {
    page.cancel();
    page.addErrback([](const CancelledError&) { return std::string(); });
  }
}

TEST_CASE_FIXTURE(Fixture, "getPage: the bytes of a request") {
  CHECK(get("/echo?x=1#frag") ==
        "\"GET /echo?x=1 HTTP/1.1\r\nHost: h.example\r\nUser-Agent: Torsion PageGetter\r\nConnection: close\r\n\r\n\"");
  CHECK(get("http://h.example") ==
        "\"GET / HTTP/1.1\r\nHost: h.example\r\nUser-Agent: Torsion PageGetter\r\nConnection: close\r\n\r\n\"");
  CHECK(get("http://other.example:8080/echo") ==
        "\"GET /echo HTTP/1.1\r\nHost: other.example:8080\r\nUser-Agent: Torsion PageGetter\r\nConnection: "
        "close\r\n\r\n\"");
  auto jar = std::make_shared<CookieJar>();
  jar->set("c1", "v1", "h.example");
  jar->set("c9", "v9", "other.example");
  CHECK(get("/echo", {.method = "POST",
                      .postdata = "k=v",
                      .headers = {{"X-H", "1"},
                                  {"content-length", "99"},
                                  {"Host", "virtual.example"},
                                  {"User-Agent", "mine"},
                                  {"Connection", "keep-alive"},
                                  {"Cookie", "c0=v0"}},
                      .agent = "AG",
                      .cookies = jar}) ==
        "\"POST /echo HTTP/1.1\r\nHost: virtual.example\r\nUser-Agent: AG\r\nContent-Length: 3\r\nX-H: 1\r\n"
        "Connection: close\r\nCookie: c0=v0; c1=v1\r\n\r\nk=v\"");
  CHECK(get("/echo", {.method = "PUT", .postdata = ""}) ==
        "\"PUT /echo HTTP/1.1\r\nHost: h.example\r\nUser-Agent: Torsion PageGetter\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n\"");
  requests();
  get("/ok", {.postdata = "k=v"});
  CHECK(requests() == "GET /ok BODY");  // the method stays what it is
}

TEST_CASE("getPage: statuses and bodies, in whole pieces and byte by byte") {
  for (std::size_t piece : {std::size_t{65536}, std::size_t{1}, std::size_t{7}}) {
    CAPTURE(piece);
    Fixture f;
    f.reactor.setPieceSize(piece);
    CHECK(f.get("/ok") == "\"hello\"");
    CHECK(f.get("/close") == "\"until-close\"");
    CHECK(f.get("/empty") == "\"\"");
    CHECK(f.get("/201") == "\"ok\"");
    CHECK(f.get("/202") == "\"ok\"");
    CHECK(f.get("/203") == "HttpError: 203 NonAuth [ok]");
    CHECK(f.get("/204") == "HttpError: 204 No Content");
    CHECK(f.get("/206") == "HttpError: 206 Partial [ok]");
    CHECK(f.get("/304") == "HttpError: 304 Not Modified");
    CHECK(f.get("/404") == "HttpError: 404 Not Found [nope]");
    CHECK(f.get("/500") == "HttpError: 500 Oops");
    CHECK(f.get("/short") == "PartialDownloadError: 200 OK [short]");
    CHECK(f.get("/404short") == "HttpError: 404 Not Found [short]");
    CHECK(f.get("/chunked") == "\"hello\"");
    CHECK(f.get("/chunkedshort") == "PartialDownloadError: 200 OK [hello]");
    CHECK(f.get("/extra") == "\"hello\"");
    CHECK(f.get("/fold") == "\"\"");
    CHECK(f.get("/noreason") == "\"ok\"");
    CHECK(f.get("/100") == "\"ok\"");
    CHECK(f.get("/nothing") == "ConnectionDone: the server closed the connection before it had answered");
    CHECK(f.get("/half") == "ConnectionDone: the server closed the connection before it had answered");
    CHECK(f.get("/garbage").starts_with("HttpParseError: "));
    CHECK(f.get("/101").starts_with("HttpParseError: "));
    CHECK(f.get("/keepsopen") == "\"hello\"");
  }
}

TEST_CASE_FIXTURE(Fixture, "getPage: answers that are ambiguous about where they end are errors") {
  for (const char* path : {"/both", "/gzip", "/lengths"}) CHECK(get(path).starts_with("HttpParseError: "));
}

TEST_CASE("getPage: what a test leaves behind is named with the place of the call") {
  TestFixture fixture;
  fixture.reactor.addName("example.com", {"10.0.0.1"});
  auto page = getPage("http://example.com/", {.timeout = 5s}, fixture.reactor);
  const auto problems = fixture.finish();
  CHECK(problems.size() == 2);  // the timeout, and the attempt to connect
  for (const std::string& problem : problems) CHECK(problem.find("get_page_test.cpp:") != std::string::npos);
  page.addErrback([](const Failure&) { return std::string(); });
}

TEST_CASE_FIXTURE(Fixture, "getPage: HEAD") {
  CHECK(get("/ok", {.method = "HEAD"}) == "\"\"");
  CHECK(get("/lie", {.method = "HEAD"}) == "\"\"");
  CHECK(get("/100", {.method = "HEAD"}) == "\"\"");
  CHECK(get("/404", {.method = "HEAD"}) == "HttpError: 404 Not Found");
  requests();
  CHECK(get("/301", {.method = "HEAD"}) == "\"\"");
  CHECK(requests() == "HEAD /301, HEAD /ok");
  CHECK(get("/303", {.method = "HEAD"}) == "\"\"");
  CHECK(requests() == "HEAD /303, HEAD /ok");
}

TEST_CASE_FIXTURE(Fixture, "getPage: redirects are followed") {
  for (const char* path : {"/301", "/302", "/303", "/307", "/308"}) {
    CHECK(get(path) == "\"hello\"");
    CHECK(requests() == "GET " + std::string(path) + ", GET /ok");
  }
  CHECK(get("/d/rel") == "\"relative\"");
  CHECK(requests() == "GET /d/rel, GET /d/ok?x=1");
  CHECK(get("/noloc") == "HttpError: 302 Found [abc]");
  CHECK(get("/ftp").starts_with("InvalidURL: Invalid URL 'ftp://h.example/x'"));
  CHECK(get("/badloc").starts_with("InvalidURL: "));
}

TEST_CASE_FIXTURE(Fixture, "getPage: what a redirect does to method and body") {
  const PageOptions post{.method = "POST", .postdata = "DATA", .headers = {{"Content-Type", "text/x"}, {"X-A", "b"}}};
  for (const char* path : {"/301", "/302", "/307", "/308"}) {
    CHECK(get(path, post) == "\"hello\"");
    CHECK(requests() == "POST " + std::string(path) + " BODY, POST /ok BODY");
  }
  CHECK(get("/303", post) == "\"hello\"");
  CHECK(requests() == "POST /303 BODY, GET /ok");
  PageOptions found = post;
  found.afterFoundGet = true;
  CHECK(get("/302", found) == "\"hello\"");
  CHECK(requests() == "POST /302 BODY, GET /ok");
  CHECK(get("/307", found) == "\"hello\"");
  CHECK(requests() == "POST /307 BODY, POST /ok BODY");
  // What described the body goes with it.
  const std::string echoed = get("/303echo", post);
  CHECK(echoed.find("Content-") == echoed.npos);
  CHECK(echoed.find("X-A: b\r\n") != echoed.npos);
  CHECK(get("/307echo", post).find("Content-Type: text/x\r\n") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "getPage: followRedirect = false") {
  CHECK(get("/302", {.followRedirect = false}) == "PageRedirect: 302 Found to /ok");
  CHECK(get("/303", {.followRedirect = false}) == "PageRedirect: 303 See to /ok");
  CHECK(get("/noloc", {.followRedirect = false}) == "HttpError: 302 Found [abc]");
  Deferred<std::string> d = getPage("http://h.example/302", {.followRedirect = false}, reactor);
  reactor.flush();
  const Failure f = failureResultOf<PageRedirect>(d);
  CHECK(f.get<PageRedirect>()->location == "/ok");
  CHECK(f.get<PageRedirect>()->response == "");
  CHECK(f.get<PageRedirect>()->headers.hasHeader("location"));
}

TEST_CASE_FIXTURE(Fixture, "getPage: a loop of redirects ends") {
  CHECK(get("/loop") == "InfiniteRedirection: 302 Infinite redirection detected to /loop");
  CHECK(seen.size() == 20);
  for (int limit : {3, 1, 0}) {
    requests();
    CHECK(get("/loop", {.redirectLimit = limit}) == "InfiniteRedirection: 302 Infinite redirection detected to /loop");
    CHECK(seen.size() == static_cast<std::size_t>(std::max(limit, 1)));
  }
  Deferred<std::string> d = getPage("http://h.example/302", {.redirectLimit = 1}, reactor);
  reactor.flush();
  CHECK(failureResultOf<InfiniteRedirection>(d).get<InfiniteRedirection>()->location == "/ok");
}

TEST_CASE_FIXTURE(Fixture, "getPage: credentials do not cross origins") {
  const PageOptions secret{.headers = {{"authorization", "Basic c2VjcmV0"},
                                       {"Proxy-Authorization", "Basic c2VjcmV0"},
                                       {"Cookie", "session=secret"},
                                       {"Host", "virtual.example"},
                                       {"X-Kept", "yes"}}};
  std::string echoed = get("/302echo", secret);
  CHECK(echoed.find("authorization: Basic c2VjcmV0\r\n") != echoed.npos);
  CHECK(echoed.find("Cookie: session=secret\r\n") != echoed.npos);
  CHECK(echoed.find("Host: virtual.example\r\n") != echoed.npos);
  for (const char* path : {"/away", "/there-and-back"}) {
    echoed = get(path, secret);
    CHECK(echoed.find("X-Kept: yes\r\n") != echoed.npos);
    CHECK(echoed.find("c2VjcmV0") == echoed.npos);
    CHECK(echoed.find("session") == echoed.npos);
    CHECK(echoed.find("virtual") == echoed.npos);
  }
}

TEST_CASE_FIXTURE(Fixture, "getPage: cookies are kept, and go to their own host alone") {
  auto jar = std::make_shared<CookieJar>();
  jar->set("c1", "v1", "h.example");
  CHECK(get("/cookie", {.cookies = jar}).find("Cookie: c1=v1; a=b\r\n") != std::string::npos);
  CHECK(jar->get("a", "h.example") == "b");
  CHECK(get("/setcookie", {.cookies = jar}) == "\"\"");
  CHECK(jar->get("c", "h.example") == "d");
  CHECK(get("/echo", {.cookies = jar}).find("Cookie: c1=v1; a=b; c=d\r\n") != std::string::npos);
  CHECK(get("/cookieaway", {.cookies = jar}).find("Cookie") == std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "getPage: what cannot be sent fails on the next turn, and nothing is sent") {
  for (std::string_view url :
       {"", "notaurl", "ftp://h.example/x", "http://h.example/ok\r\nX: y", "http://h.example/a b", "http:///x",
        "http://h.example:99999/", "http://user:pass@h.example/"}) {
    CAPTURE(url);
    Deferred<std::string> d = getPage(url, {}, reactor);
    assertNoResult(d);
    reactor.advance(0s);
    failureResultOf<InvalidURL>(d);
  }
  for (const PageOptions& options :
       {PageOptions{.method = "GET\r\nX: y"}, PageOptions{.method = "G T"}, PageOptions{.method = ""},
        PageOptions{.headers = {{"X", "a\r\nY: b"}}}, PageOptions{.headers = {{"X\r\nY", "a"}}},
        PageOptions{.headers = {{"", "a"}}}, PageOptions{.headers = {{"X Y", "a"}}},
        PageOptions{.headers = {{"X", std::string_view("a\0b", 3)}}}, PageOptions{.headers = {{"Host", "a\nb"}}},
        PageOptions{.headers = {{"Cookie", "a\nb"}}}, PageOptions{.headers = {{"Transfer-Encoding", "chunked"}}},
        PageOptions{.agent = "x\r\ny"}}) {
    CHECK(get("/echo", options).starts_with("InvalidRequest: "));
  }
  CHECK(seen.empty());
  CHECK(reactor.connections().empty());

  Deferred<std::string> d = getPage("notaurl", {}, reactor);
  d.cancel();
  failureResultOf<CancelledError>(d);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "getPage: no connection") {
  CHECK(get("http://h.example:81/").starts_with("ConnectionRefusedError: "));
  CHECK(get("http://no-such.invalid/").starts_with("DNSLookupError: "));
}

TEST_CASE_FIXTURE(Fixture, "getPage: one deadline, from the name to the last byte") {
  for (const char* path : {"/hang", "/drip", "/hangbody"}) {
    CAPTURE(path);
    Deferred<std::string> d = getPage("http://h.example" + std::string(path), {.timeout = 100ms}, reactor);
    reactor.advance(60ms);
    reactor.flush();
    assertNoResult(d);
    reactor.advance(39ms);
    reactor.flush();
    assertNoResult(d);
    reactor.advance(1ms);
    reactor.flush();
    const std::string last = path == std::string("/hangbody") ? "/hang" : path;
    CHECK(failureResultOf<TimeoutError>(d).getErrorMessage() ==
          "Getting http://h.example" + last + " took longer than 0.1 seconds.");
    CHECK(reactor.connections().empty());
    CHECK(reactor.getDelayedCalls().empty());
  }
  // While it connects, too.
  Deferred<std::string> d = getPage("http://h.example/ok", {.timeout = 2s}, reactor);
  reactor.advance(2s);
  failureResultOf<TimeoutError>(d);
  CHECK(reactor.tcpClients().empty());
  // In time, nothing is left of it.
  CHECK(get("/ok", {.timeout = 2s}) == "\"hello\"");
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "getPage: cancel closes the connection at once") {
  for (const char* path : {"/hang", "/drip"}) {
    Deferred<std::string> d = getPage("http://h.example" + std::string(path), {.timeout = 10s}, reactor);
    reactor.flush();
    CHECK(reactor.connections().size() == 1);
    d.cancel();
    failureResultOf<CancelledError>(d);
    CHECK(reactor.getDelayedCalls().empty());
    reactor.flush();
    CHECK(reactor.connections().empty());
  }
  Deferred<std::string> d = getPage("http://h.example/ok", {.timeout = 10s}, reactor);
  d.cancel();
  failureResultOf<CancelledError>(d);
  CHECK(reactor.tcpClients().empty());
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "getPage: the result comes when the connection is closed") {
  bool closed = false;
  Deferred<bool> d = getPage("http://h.example/keepsopen", {}, reactor).addCallback([&](std::string) {
    return closed = reactor.connections().empty() || !reactor.connections().front()->connected();
  });
  reactor.flush();
  successResultOf(d);
  CHECK(reactor.connections().empty());
}

TEST_CASE_FIXTURE(Fixture, "getPage: limits") {
  CHECK(get("/ok", {.maxBody = 5}) == "\"hello\"");
  CHECK(get("/ok", {.maxBody = 4}) == "HttpLimitError: the page of 5 bytes is larger than the limit (maxBody) of 4");
  CHECK(get("/chunked", {.maxBody = 4}) == "HttpLimitError: the page is larger than the limit (maxBody) of 4 bytes");
  CHECK(get("/close", {.maxBody = 4}).starts_with("HttpLimitError: "));
  CHECK(get("/close", {.maxBody = 0}) == "\"until-close\"");
  CHECK(get("/lie").starts_with("HttpLimitError: the page of 99999999999 bytes"));
  CHECK(get("/lie", {.maxBody = 0}).starts_with("PartialDownloadError: "));
  CHECK(get("/404", {.maxHeader = 20}) == "HttpLimitError: the head is larger than the limit (maxHeader) of 20 bytes");
}

TEST_CASE_FIXTURE(Fixture, "getPageResponse gives what came beside the page") {
  Deferred<PageResponse> d = getPageResponse("http://h.example/301", {}, reactor);
  reactor.flush();
  const PageResponse page = successResultOf(d);
  CHECK(page.status == 200);
  CHECK(page.message == "OK");
  CHECK(page.version == 11);
  CHECK(page.headers.getHeader("content-length") == "5");
  CHECK(page.body == "hello");
  CHECK(page.url == "http://h.example/ok");

  Deferred<PageResponse> e = getPageResponse("http://h.example/404", {}, reactor);
  reactor.flush();
  CHECK(failureResultOf<HttpError>(e).get<HttpError>()->headers.getHeader("X-Why") == "gone");
}

TEST_CASE_FIXTURE(Fixture, "downloadPage writes a file") {
  TemporaryFile t;
  const auto download = [&](std::string_view path, PageOptions options = {}) {
    Deferred<void> d = downloadPage("http://h.example" + std::string(path), t.path, std::move(options), reactor);
    reactor.flush();
    return d;
  };
  auto d = download("/301");
  successResultOf(d);
  CHECK(file(t.path) == "hello");

  d = download("/404");
  CHECK(failureResultOf<HttpError>(d).get<HttpError>()->response == "nope");
  CHECK(file(t.path) == "hello");

  d = download("/short");
  CHECK(failureResultOf<PartialDownloadError>(d).get<PartialDownloadError>()->response == "");
  CHECK(file(t.path) == "short");
  // The file is closed by the time that anybody hears of it.
  std::string then;
  downloadPage("http://h.example/short", t.path, {}, reactor).addErrback([&](const PartialDownloadError&) {
    then = file(t.path);
  });
  reactor.flush();
  CHECK(then == "short");

  d = download("/rest", {.supportPartial = true});
  CHECK(seen.back().find("Range: bytes=5-\r\n") != std::string::npos);
  successResultOf(d);
  CHECK(file(t.path) == "shortWORLD");
  d = download("/ok", {.supportPartial = true});  // the server sends all of it
  successResultOf(d);
  CHECK(file(t.path) == "hello");
  d = download("/wrongrest", {.supportPartial = true});
  failureResultOf<HttpParseError>(d);
  CHECK(file(t.path) == "hello");
  d = download("/rest");
  failureResultOf<HttpError>(d);

  std::filesystem::remove(t.path);
  d = download("/ok", {.supportPartial = true});
  CHECK(seen.back().find("Range") == std::string::npos);
  successResultOf(d);
  CHECK(file(t.path) == "hello");
}

TEST_CASE_FIXTURE(Fixture, "downloadPage: a file that cannot be written") {
  Deferred<void> d = downloadPage("http://h.example/ok", "/no/such/directory/page", {}, reactor);
  reactor.flush();
  CHECK(failureResultOf<std::system_error>(d).get<std::system_error>()->code() == std::errc::no_such_file_or_directory);
  d = downloadPage("http://h.example/ok", "/dev/full", {}, reactor);
  reactor.flush();
  CHECK(failureResultOf<std::system_error>(d).get<std::system_error>()->code() == std::errc::no_space_on_device);
  CHECK(reactor.connections().empty());
}

TEST_CASE_FIXTURE(Fixture, "downloadPage gives the pieces to a function") {
  std::string got;
  const auto sink = [&got](std::string_view piece) { got.append(piece); };
  Deferred<void> d = downloadPage("http://h.example/chunked", sink, {}, reactor);
  reactor.flush();
  successResultOf(d);
  CHECK(got == "hello");
  d = downloadPage("http://h.example/close", sink, {.maxBody = 4}, reactor);
  reactor.flush();
  failureResultOf<HttpLimitError>(d);
  d = downloadPage("http://h.example/ok", [](std::string_view) { throw std::domain_error("full"); }, {}, reactor);
  reactor.flush();
  failureResultOf<std::domain_error>(d);
}
