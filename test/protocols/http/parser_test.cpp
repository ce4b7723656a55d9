#include <doctest/doctest.h>

#include <protocols/http/parser.hpp>

using namespace torsion;

namespace {

/// Feeds `input` in pieces of `piece` bytes; says what came out, in a line for each message.
template <class Parser>
std::string run(Parser& parser, std::string_view input, std::size_t piece) {
  std::string log, body;
  const auto take = [&](std::string_view data) {
    while (true) {
      switch (parser.next(data)) {
        case HttpEvent::needMore:
          CHECK(data.empty());
          return;
        case HttpEvent::head: {
          const auto& head = parser.head();
          if constexpr (std::is_same_v<Parser, ResponseParser>) {
            log += std::to_string(head.status) + ' ' + head.message;
          } else {
            log += head.method + ' ' + head.target;
          }
          log += " 1." + std::to_string(head.version % 10) + (head.keepAlive ? " keep" : " close");
          for (const auto& [name, value] : head.headers) log.append(1, '|').append(name).append(1, '=').append(value);
          log += '\n';
          body.clear();
          break;
        }
        case HttpEvent::body:
          CHECK(parser.inBody());
          body.append(parser.body());
          break;
        case HttpEvent::end:
          log += "[" + body + "]\n";
          break;
      }
    }
  };
  for (; !input.empty(); input.remove_prefix(std::min(piece, input.size()))) take(input.substr(0, piece));
  if (parser.inBody()) log += parser.finish() ? "[" + body + "] at the end\n" : "[" + body + "] cut short\n";
  return log;
}

std::string response(std::string_view input, bool noBody = false) {
  std::string first;
  for (std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}, input.size()}) {
    CAPTURE(piece);
    ResponseParser parser;
    if (noBody) parser.expectNoBody();
    const std::string log = run(parser, input, piece);
    if (!first.empty()) CHECK(log == first);
    first = log;
  }
  return first;
}

std::string request(std::string_view input) {
  std::string first;
  for (std::size_t piece : {std::size_t{1}, std::size_t{5}, input.size()}) {
    CAPTURE(piece);
    RequestParser parser;
    const std::string log = run(parser, input, piece);
    if (!first.empty()) CHECK(log == first);
    first = log;
  }
  return first;
}

int refused(std::string_view input) {
  int status = 0;
  for (std::size_t piece : {std::size_t{1}, input.size()}) {
    RequestParser parser;
    try {
      run(parser, input, piece);
      return 0;
    } catch (const HttpParseError& e) {
      status = e.status;
    }
  }
  return status;
}

}  // namespace

TEST_CASE("responses, however they are cut") {
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") == "200 OK 1.1 keep|Content-Length=5\n[hello]\n");
  CHECK(response("HTTP/1.0 200 OK\r\n\r\nuntil-close") == "200 OK 1.0 close\n[until-close] at the end\n");
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort") ==
        "200 OK 1.1 keep|Content-Length=50\n[short] cut short\n");
  CHECK(response("HTTP/1.1 204 No Content\r\n\r\n") == "204 No Content 1.1 keep\n[]\n");
  CHECK(response("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n") ==
        "304 Not Modified 1.1 keep|Content-Length=5\n[]\n");
  CHECK(response("HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") ==
        "200 OK 1.1 close|X-A=one two|Content-Length=0|Connection=close\n[]\n");
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true) == "200 OK 1.1 keep|Content-Length=5\n[]\n");
}

TEST_CASE("a status line without a reason") {
  CHECK(response("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok") == "200  1.1 keep|Content-Length=2\n[ok]\n");
  CHECK(response("HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\nno") == "404  1.1 keep|Content-Length=2\n[no]\n");
}

TEST_CASE("heads of responses as servers send them") {
  // Lines that end in LF alone, all or some of them.
  CHECK(response("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Type: text/plain\n\nhi") ==
        "200 OK 1.1 keep|Content-Length=2|Content-Type=text/plain\n[hi]\n");
  CHECK(response("HTTP/1.0 200 OK\nServer: GoAhead\r\nPragma: no-cache\nX: y\r\n\n<html>\nx\n") ==
        "200 OK 1.0 close|Server=GoAhead|Pragma=no-cache|X=y\n[<html>\nx\n] at the end\n");
  CHECK(response("HTTP/1.1 200\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 None\n\n") ==
        "200  1.1 keep|Content-Length=2\n[hi]\n204 None 1.1 keep\n[]\n");
  // Folded ones, of any length.
  std::string folded = "HTTP/1.1 200 OK\r\nX-Long: one", value = "one";
  for (int i = 0; i < 80; ++i) {
    folded += "\r\n\t  " + std::string(70, 'y');
    value += ' ' + std::string(70, 'y');
  }
  CHECK(response(folded + "\r\nContent-Length: 2\r\n\r\nhi") ==
        "200 OK 1.1 keep|X-Long=" + value + "|Content-Length=2\n[hi]\n");
  // Not the head's end: the body's own lines stay as they are.
  CHECK(response("HTTP/1.1 200 OK\nContent-Length: 6\n\n\n b\n\nc") ==
        "200 OK 1.1 keep|Content-Length=6\n[\n b\n\nc]\n");
}

TEST_CASE("a head that never ends is too large, whatever its lines end in") {
  for (const std::string_view line : {"X: y\n", "X: y\r\n", "X: y\n z\n"}) {
    ResponseParser parser(1000);
    std::string text = "HTTP/1.1 200 OK\n";
    while (text.size() <= 1000) text += line;
    CHECK_THROWS_AS(run(parser, text, 7), HttpLimitError);
  }
}

TEST_CASE("requests are not mended") {
  CHECK_THROWS_AS(request("GET / HTTP/1.1\nHost: h\n\n"), HttpParseError);
  CHECK_THROWS_AS(request("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nhi\r\n0\r\n\r\n"),
                  HttpParseError);
}

TEST_CASE("chunked bodies are decoded") {
  constexpr std::string_view kHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
  constexpr std::string_view kLog = "200 OK 1.1 keep|Transfer-Encoding=Chunked\n";
  const auto chunked = [&](std::string_view body) {
    return response(std::string(kHead).append(body)).substr(kLog.size());
  };
  CHECK(chunked("5\r\nhello\r\n0\r\n\r\n") == "[hello]\n");
  CHECK(chunked("0\r\n\r\n") == "[]\n");
  CHECK(chunked("5;ext=\"x\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer: t\r\nContent-Type: x\r\n\r\n") ==
        "[hello0123456789]\n");
  CHECK(chunked("5  \r\nhello\r\n2\t;ext\r\nhi\r\n0  \r\n\r\n") == "[hellohi]\n");
  CHECK(chunked("5\r\nhel") == "[hel] cut short\n");
  CHECK(chunked("5\r\nhello\r\n0\r\n") == "[hello] cut short\n");
  for (std::string_view bad :
       {"x\r\n\r\n", "5\r\nhelloX\r\n\r\n", "-1\r\n\r\n", "11111111111111111\r\n", "5 5\r\nhello\r\n"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(chunked(bad), HttpParseError);
  }
}

TEST_CASE("messages one after another") {
  CHECK(response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") ==
        "100 Continue 1.1 keep\n[]\n103 Early Hints 1.1 keep|Link=x\n[]\n200 OK 1.1 keep|Content-Length=2\n[ok]\n");
  CHECK(
      request(
          "GET /a HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nokGET /c "
          "HTTP/1.0\r\n\r\n") ==
      "GET /a 1.1 keep|Host=h\n[]\nPOST /b 1.1 keep|Host=h|Content-Length=2\n[ok]\nGET /c 1.0 close\n[]\n");
  CHECK(request("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") ==
        "POST / 1.1 keep|Host=h|Transfer-Encoding=chunked\n[abc]\nGET / 1.1 close|Host=h|Connection=close\n[]\n");
}

TEST_CASE("responses that say two things about where they end, or are no HTTP") {
  for (std::string_view bad :
       {"garbage\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"}) {
    CAPTURE(bad);
    for (std::size_t piece : {std::size_t{1}, bad.size()}) {
      ResponseParser parser;
      CHECK_THROWS_AS(run(parser, bad, piece), HttpParseError);
    }
  }
}

TEST_CASE("requests that a server must not accept") {
  CHECK(refused("GET / HTTP/1.1\r\n\r\n") == 400);
  CHECK(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == 400);
  CHECK(refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n") == 501);
  CHECK(refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n") == 400);
  CHECK(refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
  CHECK(refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n") == 400);
  CHECK(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
  CHECK(refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n") == 400);
  CHECK(refused("GET /\r\n\r\n") == 400);
  CHECK(refused("GET / HTTP/1.1 \r\nHost: a\r\n\r\n") == 400);
  CHECK(refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
  CHECK(refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
  CHECK(refused("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\nY : y\r\n\r\n") == 400);
  CHECK(refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n") == 0);
}

TEST_CASE("the limit of a head counts all of it, however it comes") {
  const std::string big = "HTTP/1.1 200 OK\r\nX: " + std::string(1000, 'x') + "\r\n\r\n";
  std::string many = "HTTP/1.1 200 OK\r\n";
  for (int i = 0; i < 100; ++i) many += "X: 0123456\r\n";
  many += "\r\n";
  const std::string endless = "HTTP/1.1 200 OK\r\nX: " + std::string(2000, 'x');
  const std::string chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + std::string(2000, 'x');
  const std::string trailers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + many.substr(17);
  for (const std::string& input : {big, many, endless, chunk, trailers}) {
    CAPTURE(input.substr(0, 60));
    for (std::size_t piece : {std::size_t{1}, std::size_t{10}, std::size_t{300}}) {
      ResponseParser parser(1000);
      CHECK_THROWS_AS(run(parser, input, piece), HttpLimitError);
    }
  }
  ResponseParser parser(1100);
  CHECK(run(parser, big, 10).starts_with("200 OK"));
}
