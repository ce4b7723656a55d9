#include <doctest/doctest.h>

#include <protocols/http/headers.hpp>

using namespace torsion;

TEST_CASE("headers keep their order and compare names without case") {
  Headers h{{"Set-Cookie", "a=1"}, {"Content-Type", "text/plain"}, {"set-cookie", "b=2"}};
  CHECK(h.size() == 3);
  CHECK(h.getHeader("CONTENT-TYPE") == "text/plain");
  CHECK(h.getHeaders("Set-Cookie") == std::vector<std::string_view>{"a=1", "b=2"});
  CHECK_FALSE(h.getHeader("Host"));
  CHECK(h[2] == Headers::Field("set-cookie", "b=2"));
  std::string all;
  for (const auto& [name, value] : h) all.append(name).append(1, '=').append(value).append(1, ';');
  CHECK(all == "Set-Cookie=a=1;Content-Type=text/plain;set-cookie=b=2;");
}

TEST_CASE("setHeader replaces every field of the name, removeHeader removes them") {
  Headers h{{"A", "1"}, {"B", "2"}, {"a", "3"}};
  h.setHeader("A", *h.getHeader("b"));
  CHECK(h.size() == 2);
  CHECK(h.getHeader("a") == "2");
  h.removeHeader("a");
  CHECK_FALSE(h.hasHeader("A"));
  h.clear();
  CHECK(h.empty());
  h.addHeader("C", "");
  CHECK(h.getHeader("c") == "");
}

TEST_CASE("many and long headers") {
  Headers h;
  const std::string value(5000, 'v');
  for (int i = 0; i < 100; ++i) h.addHeader("X-" + std::to_string(i), value);
  CHECK(h.size() == 100);
  CHECK(h.getHeader("x-99") == value);
  const Headers copy = h;
  h.clear();
  CHECK(copy.getHeader("x-0") == value);
}

TEST_CASE("what may be sent") {
  CHECK(isToken("X-Header"));
  CHECK(isToken("GET"));
  for (std::string_view bad : {"", "a b", "a:b", "a\r\n", "a\n", "\xc3\xa4", "a(", "a\t"}) CHECK_FALSE(isToken(bad));
  CHECK(isHeaderValue(""));
  CHECK(isHeaderValue("a b\tc \xc3\xa4"));
  for (std::string_view bad : {std::string_view("a\r\nX: y"), std::string_view("a\n"), std::string_view("a\0b", 3),
                               std::string_view("\x7f"), std::string_view("\x1b[1m")}) {
    CHECK_FALSE(isHeaderValue(bad));
  }
}

TEST_CASE("tokens of a list") {
  const Headers h{{"Connection", "Keep-Alive , TE"}, {"connection", "close"}};
  CHECK(hasToken(h, "Connection", "te"));
  CHECK(hasToken(h, "Connection", "close"));
  CHECK(hasToken(h, "Connection", "keep-alive"));
  CHECK_FALSE(hasToken(h, "Connection", "keep"));
  CHECK_FALSE(hasToken(h, "TE", "te"));
}
