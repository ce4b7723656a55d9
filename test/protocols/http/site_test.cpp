#include <protocols/http/site.hpp>

#include <doctest/doctest.h>

#include <stdexcept>

#include <deferred/functions.hpp>
#include <protocols/http/get_page.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

/// Sends what it is told to, and keeps what comes.
class RawClient final : public Protocol {
 public:
  void dataReceived(std::string_view data) override { got += data; }
  void connectionLost(const Failure&) override { lost = true; }
  std::string got;
  bool lost = false;
};

struct Fixture : TestFixture {
  std::shared_ptr<Site> site;
  std::shared_ptr<ListeningPort> port;

  Fixture() { serve({}); }
  ~Fixture() {
    port->stopListening();
    for (const auto& problem : finish()) FAIL_CHECK(problem);
  }
  void serve(SiteOptions options) {
    if (port) port->stopListening();
    site = std::make_shared<Site>(options, reactor);
    port = reactor.listenTCP(80, site);
    site->route("/", [] { return "root"; });
    site->route("/text", [](const Request&) { return std::string("text"); });
    site->route("POST", "/echo", [](const Request& r) { return r.path + '?' + r.query + ' ' + r.body; });
    site->route("/full", [] { return Response{201, {{"X-A", "b"}, {"Content-Type", "text/x"}}, "full"}; });
    site->route("/redirect", [] { return Response{302, {{"Location", "/text"}}}; });
    site->route("/throws", []() -> std::string { throw std::runtime_error("thrown"); });
    site->route("/fails", [] { return Deferred<std::string>(fail<std::string>(std::runtime_error("failed"))); });
    site->route("/fired", [] { return succeed(std::string("fired")); });
    site->route("/bad", [] { return Response{200, {{"X", "a\r\nY: b"}}, "bad"}; });
    site->route("/large", [] { return std::string(300'000, 'x'); });
    site->route("/files/*", [](const Request& r) { return "file " + r.path; });
    site->route("/files/deep/*", [](const Request& r) { return "deep " + r.path; });
    site->route("/files/deep/one", [] { return "one"; });
  }

  std::shared_ptr<RawClient> client() {
    auto c = std::make_shared<RawClient>();
    HostnameEndpoint("127.0.0.1", 80, reactor).connect(makeFactory([c] { return c; }));
    reactor.flush();
    return c;
  }
  /// What comes back for `request`, without Date and Server; then the client goes.
  std::string exchange(std::string_view request) {
    auto c = client();
    c->transport().write(request);
    reactor.flush();
    std::string got = clean(c->got);
    got += c->lost ? "[closed]" : "[open]";
    c->transport().loseConnection();
    reactor.flush();
    return got;
  }
  static std::string clean(std::string text) {
    for (std::string_view name : {"Date: ", "Server: "}) {
      for (auto at = text.find(name); at != text.npos; at = text.find(name)) {
        text.erase(at, text.find("\r\n", at) + 2 - at);
      }
    }
    return text;
  }
};

std::string answer(std::string_view status, std::string_view body) {
  return "HTTP/1.1 " + std::string(status) +
         "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}
std::string closing(std::string_view status, std::string_view body) {
  return "HTTP/1.1 " + std::string(status) +
         "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\nConnection: close\r\n\r\n" + std::string(body);
}
std::string refusal(std::string_view status) {
  return closing(status, std::string(status) + '\n') + "[closed]";
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "Site answers with text, a Response, or a Deferred of either") {
  CHECK(exchange("GET / HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "root") + "[open]");
  CHECK(exchange("GET /text?x=y HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "text") + "[open]");
  CHECK(exchange("GET /full HTTP/1.1\r\nHost: h\r\n\r\n") ==
        "HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Type: text/x\r\nContent-Length: 4\r\n\r\nfull[open]");
  CHECK(exchange("GET /redirect HTTP/1.1\r\nHost: h\r\n\r\n") ==
        "HTTP/1.1 302 Found\r\nLocation: /text\r\nContent-Length: 0\r\n\r\n[open]");
  CHECK(exchange("GET /fired HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "fired") + "[open]");

  Resolver<Response> later;
  site->route("/later", [&] { return later.deferred(); });
  auto c = client();
  c->transport().write("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
  reactor.flush();
  CHECK(c->got == "");
  later.callback(Response{.body = "at last"});
  reactor.flush();
  CHECK(clean(c->got) == answer("200 OK", "at last"));
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "a handler may be a coroutine, which may use the request until it ends") {
  Resolver<std::string> word;
  site->route("POST", "/coroutine", [&, prefix = std::string("got ")](const Request& request) -> Deferred<std::string> {
    const std::string value = co_await word.deferred();
    co_return prefix + value + " for " + request.body;
  });
  auto c = client();
  c->transport().write("POST /coroutine HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nme");
  reactor.flush();
  word.callback("it");
  reactor.flush();
  CHECK(clean(c->got) == answer("200 OK", "got it for me"));
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "Site adds Date and Server") {
  auto c = client();
  c->transport().write("GET / HTTP/1.0\r\n\r\n");
  reactor.flush();
  CHECK(c->got.find("\r\nServer: Torsion\r\n") != std::string::npos);
  const auto at = c->got.find("\r\nDate: ");
  REQUIRE(at != std::string::npos);
  CHECK(parseHttpDate(c->got.substr(at + 8, 29)));
}

TEST_CASE_FIXTURE(Fixture, "routes: an exact path, then the longest prefix") {
  CHECK(exchange("GET /files/a/b HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "file /files/a/b") + "[open]");
  CHECK(exchange("GET /files/deep/x HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "deep /files/deep/x") + "[open]");
  CHECK(exchange("GET /files/deep/one HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "one") + "[open]");
  CHECK(exchange("GET /files HTTP/1.1\r\nHost: h\r\n\r\n") == answer("404 Not Found", "404 Not Found\n") + "[open]");
  CHECK(exchange("GET http://h/text HTTP/1.1\r\nHost: h\r\n\r\n") == answer("200 OK", "text") + "[open]");
  CHECK(exchange("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n") == "HTTP/1.1 204 No Content\r\n\r\n[open]");
  CHECK_THROWS_AS(site->route("nope", [] { return ""; }), std::invalid_argument);
}

TEST_CASE_FIXTURE(Fixture, "methods: HEAD, 405 and 501") {
  CHECK(exchange("HEAD /text HTTP/1.1\r\nHost: h\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\n[open]");
  CHECK(exchange("HEAD /nope HTTP/1.1\r\nHost: h\r\n\r\n") ==
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n\r\n[open]");
  CHECK(exchange("DELETE /text HTTP/1.1\r\nHost: h\r\n\r\n") ==
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 23\r\n\r\n405 Method Not Allowed\n[open]");
  CHECK(exchange("BREW /text HTTP/1.1\r\nHost: h\r\n\r\n") ==
        answer("501 Not Implemented", "501 Not Implemented\n") + "[open]");
}

TEST_CASE_FIXTURE(Fixture, "a handler that fails is logged and answered with 500") {
  const std::string page = answer("500 Internal Server Error", "500 Internal Server Error\n") + "[open]";
  CHECK(exchange("GET /throws HTTP/1.1\r\nHost: h\r\n\r\n") == page);
  CHECK(exchange("GET /fails HTTP/1.1\r\nHost: h\r\n\r\n") == page);
  CHECK(flushLoggedErrors<std::runtime_error>().size() == 2);
  CHECK(exchange("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n") == page);
}

TEST_CASE_FIXTURE(Fixture, "requests on one connection are answered in order, also when they come at once") {
  for (std::size_t piece : {std::size_t{65536}, std::size_t{1}}) {
    CAPTURE(piece);
    reactor.setPieceSize(piece);
    Resolver<std::string> first, second;
    site->route("/first", [&] { return first.deferred(); });
    site->route("/second", [&] { return second.deferred(); });
    auto c = client();
    c->transport().write(
        "GET /first HTTP/1.1\r\nHost: h\r\n\r\nGET /text HTTP/1.1\r\nHost: h\r\n\r\n"
        "POST /echo?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        "GET /fired HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n"
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /text HTTP/1.0\r\n\r\nGET /text HTTP/1.1\r\n");
    reactor.flush();
    CHECK(c->got == "");
    first.callback("one");
    reactor.flush();
    const std::string begin =
        answer("200 OK", "one") + answer("200 OK", "text") + answer("200 OK", "/echo?q hi") + answer("200 OK", "fired");
    CHECK(clean(c->got) == begin);
    second.callback("two");
    reactor.flush();
    std::string old = answer("200 OK", "root");
    old.insert(old.find("\r\n\r\n"), "\r\nConnection: keep-alive");
    CHECK(clean(c->got) == begin + answer("200 OK", "two") + old + closing("200 OK", "text"));
    CHECK(c->lost);
  }
}

TEST_CASE_FIXTURE(Fixture, "many pipelined requests at once use no stack") {
  auto c = client();
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += "GET /fired HTTP/1.1\r\nHost: h\r\n\r\n";
  c->transport().write(many);
  for (int i = 0; i < 100 && reactor.flush(); ++i) {
  }
  std::size_t answers = 0;
  for (auto at = c->got.find("fired"); at != std::string::npos; at = c->got.find("fired", at + 1)) ++answers;
  CHECK(answers == 20'000);
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "Connection: close is heeded, from the client and from the handler") {
  CHECK(exchange("GET /text HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") ==
        closing("200 OK", "text") + "[closed]");
  CHECK(exchange("GET /text HTTP/1.0\r\n\r\n") == closing("200 OK", "text") + "[closed]");
  site->route("/bye", [] { return Response{200, {{"Connection", "close"}}, "bye"}; });
  CHECK(exchange("GET /bye HTTP/1.1\r\nHost: h\r\n\r\n") == closing("200 OK", "bye") + "[closed]");
}

TEST_CASE_FIXTURE(Fixture, "requests that no server should accept") {
  for (std::string_view bad :
       {"garbage\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "GET nope HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"}) {
    CAPTURE(bad);
    CHECK(exchange(bad) == refusal("400 Bad Request"));
  }
  CHECK(exchange("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n") == refusal("501 Not Implemented"));
  // What was asked before is answered before.
  CHECK(exchange("GET / HTTP/1.1\r\nHost: h\r\n\r\ngarbage\r\n\r\n") ==
        answer("200 OK", "root") + refusal("400 Bad Request"));
}

TEST_CASE_FIXTURE(Fixture, "limits of head and body") {
  serve({.maxHeader = 200, .maxBody = 10});
  CHECK(exchange("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(200, 'x') + "\r\n\r\n") ==
        refusal("431 Request Header Fields Too Large"));
  CHECK(exchange("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(5000, 'x')) ==
        refusal("431 Request Header Fields Too Large"));
  CHECK(exchange("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n") == refusal("413 Content Too Large"));
  CHECK(
      exchange("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n") ==
      refusal("413 Content Too Large"));
  CHECK(exchange("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789") ==
        answer("200 OK", "/echo? 0123456789") + "[open]");
}

TEST_CASE_FIXTURE(Fixture, "Expect: 100-continue is answered") {
  auto c = client();
  c->transport().write("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
  reactor.flush();
  CHECK(c->got == "HTTP/1.1 100 Continue\r\n\r\n");
  c->transport().write("hi");
  reactor.flush();
  CHECK(clean(c->got) == "HTTP/1.1 100 Continue\r\n\r\n" + answer("200 OK", "/echo? hi"));
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "a connection that idles is closed, a slow handler is not") {
  serve({.headTimeout = 0s});
  auto idle = client(), half = client(), slow = client();
  Resolver<std::string> later;
  site->route("/later", [&] { return later.deferred(); });
  half->transport().write("GET / HTTP/1.1\r\nHo");
  slow->transport().write("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
  reactor.flush();
  reactor.advance(59s);
  reactor.flush();
  half->transport().write("st");
  reactor.flush();
  CHECK_FALSE(idle->lost);
  reactor.advance(1s);
  reactor.flush();
  CHECK(idle->lost);
  CHECK_FALSE(half->lost);
  CHECK_FALSE(slow->lost);
  reactor.advance(59s);
  reactor.flush();
  CHECK(half->lost);
  reactor.advance(200s);
  later.callback("late");
  reactor.flush();
  CHECK(clean(slow->got) == answer("200 OK", "late"));
  slow->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "a request that comes a byte at a time is refused in the end") {
  auto c = client();
  SUBCASE("its head") {
    c->transport().write("GET / HTTP/1.1\r\nX: ");
    for (int i = 0; i < 61; ++i) {
      CHECK(c->got.empty());
      c->transport().write("y");
      reactor.flush();
      reactor.advance(500ms);
    }
  }
  SUBCASE("its body") {
    c->transport().write("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    reactor.flush();
    for (int i = 0; i < 41; ++i) {
      CHECK(c->got.empty());
      c->transport().write("y");
      reactor.flush();
      reactor.advance(500ms);
    }
  }
  c->transport().write("y");
  reactor.flush();
  reactor.advance(2s);
  reactor.flush();
  CHECK(clean(c->got) + (c->lost ? "[closed]" : "[open]") == refusal("408 Request Timeout"));
}

TEST_CASE_FIXTURE(Fixture, "a body that comes fast enough may take long") {
  auto c = client();
  c->transport().write("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n");
  for (int i = 0; i < 60; ++i) {
    c->transport().write(std::string(1000, 'y'));
    reactor.flush();
    reactor.advance(1s);
  }
  CHECK(clean(c->got) == answer("200 OK", "/echo? " + std::string(60000, 'y')));
  // The next request has its own time.
  c->transport().write("GET / HT");
  reactor.flush();
  reactor.advance(29s);
  c->transport().write("TP/1.1\r\nHost: h\r\n\r\n");
  reactor.flush();
  CHECK(clean(c->got).ends_with(answer("200 OK", "root")));
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "a Host that names none is refused") {
  for (const std::string host : {"a b/c", "a/b", "user@h", "h:port", "[::1", "h?x", "h#y", "h\tx", "h, i"}) {
    CAPTURE(host);
    CHECK(exchange("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n") == refusal("400 Bad Request"));
  }
  for (const std::string host :
       {"", "h", "h:", "h:80", "10.0.0.1:8080", "[::1]:80", "a_b.example", "xn--bcher-kva.example"}) {
    CAPTURE(host);
    CHECK(exchange("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n") == answer("200 OK", "root") + "[open]");
  }
}

TEST_CASE_FIXTURE(Fixture, "a client that has shut its writing side is answered, and the connection closed") {
  struct HalfClient final : Protocol, HalfCloseableProtocol {
    void dataReceived(std::string_view data) override { got += data; }
    void readConnectionLost() override { transport().loseConnection(); }
    void writeConnectionLost() override {}
    void connectionLost(const Failure& reason) override { lost = reason; }
    std::string got;
    std::optional<Failure> lost;
  };
  auto c = std::make_shared<HalfClient>();
  HostnameEndpoint("127.0.0.1", 80, reactor).connect(makeFactory([c] { return c; }));
  reactor.flush();
  Resolver<std::string> later;
  site->route("/later", [&] { return later.deferred(); });
  std::string expected;
  SUBCASE("at once") {
    c->transport().write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expected = answer("200 OK", "root");
  }
  SUBCASE("later") {
    c->transport().write("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
    expected = answer("200 OK", "late");
  }
  SUBCASE("later, one after another") {
    c->transport().write("GET /later HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expected = answer("200 OK", "late") + answer("200 OK", "root");
  }
  SUBCASE("in pieces") {
    c->transport().write("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    expected = answer("200 OK", std::string(300'000, 'x'));
  }
  SUBCASE("in the middle of a request") {
    c->transport().write("GET /later HT");
  }
  c->transport().loseWriteConnection();
  reactor.flush();
  later.callback("late");
  reactor.flush();
  // The last answer may say that the connection is closed.
  std::string got = clean(c->got);
  if (const auto at = got.find("Connection: close\r\n"); at != got.npos) got.erase(at, 19);
  CHECK(got == expected);
  REQUIRE(c->lost);
  CHECK(c->lost->check<ConnectionDone>());
}

TEST_CASE_FIXTURE(Fixture, "a handler that is a coroutine lives until it has ended, also when its route is replaced") {
  Resolver<void> go;
  auto wait = std::make_shared<Deferred<void>>(go.deferred());
  site->route("/later", [wait, text = std::string(100, 'x')]() -> Deferred<std::string> {
    co_await std::move(*wait);
    co_return text;
  });
  auto c = client();
  c->transport().write("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
  reactor.flush();
  site->route("/later", [] { return "another"; });
  go.callback();
  reactor.flush();
  CHECK(clean(c->got) == answer("200 OK", std::string(100, 'x')));
  c->transport().loseConnection();
  reactor.flush();
}

TEST_CASE_FIXTURE(Fixture, "a client that does not read holds its own answers back, and is dropped in the end") {
  auto c = client();
  c->transport().pauseProducing();
  int served = 0;
  site->route("/count", [&] {
    ++served;
    return std::string(50'000, 'x');
  });
  std::string requests = "GET /large HTTP/1.1\r\nHost: h\r\n\r\n";
  for (int i = 0; i < 100; ++i) requests += "GET /count HTTP/1.1\r\nHost: h\r\n\r\n";
  c->transport().write(requests);
  reactor.flush();
  const auto pump = reactor.connections().front();
  CHECK(pump->serverIO().queued() < 200'000);
  CHECK(served == 0);
  c->transport().resumeProducing();
  for (int i = 0; i < 10; ++i) reactor.flush();
  CHECK(served == 100);

  c->transport().pauseProducing();
  c->transport().write(requests);
  reactor.flush();
  CHECK(pump->serverIO().queued() < 200'000);
  reactor.advance(60s);
  c->transport().resumeProducing();
  reactor.flush();
  CHECK(c->lost);
}

TEST_CASE_FIXTURE(Fixture, "when the client goes away the handler's Deferred is cancelled") {
  bool cancelled = false;
  site->route("/hang", [&] {
    Resolver<std::string> never;
    never.onCancel([&](const Resolver<std::string>&) { cancelled = true; });
    site->route("/keep", [never] { return ""; });  // keeps it from breaking
    return never.deferred();
  });
  Deferred<std::string> d = getPage("http://127.0.0.1/hang", {}, reactor);
  reactor.flush();
  CHECK_FALSE(cancelled);
  d.cancel();
  failureResultOf<CancelledError>(d);
  reactor.flush();
  CHECK(cancelled);
  CHECK(reactor.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "getPage and Site understand each other") {
  for (std::size_t piece : {std::size_t{65536}, std::size_t{13}}) {
    reactor.setPieceSize(piece);
    const auto get = [&](const std::string& path, PageOptions options = {}) {
      Deferred<std::string> d = getPage("http://127.0.0.1" + path, std::move(options), reactor);
      for (int i = 0; i < 100 && reactor.flush(); ++i) {
      }
      return d;
    };
    auto d = get("/redirect");
    CHECK(successResultOf(d) == "text");
    d = get("/echo?a=b", {.method = "POST", .postdata = std::string(100'000, 'y')});
    CHECK(successResultOf(d) == "/echo?a=b " + std::string(100'000, 'y'));
    d = get("/large", {.method = "HEAD"});
    CHECK(successResultOf(d) == "");
    if (piece > 1000) {
      d = get("/large");
      CHECK(successResultOf(d) == std::string(300'000, 'x'));
    }
    d = get("/nope");
    CHECK(failureResultOf<HttpError>(d).get<HttpError>()->status == 404);
  }
}
