#include <doctest/doctest.h>

#include <string>

#include <protocols/http/cookies.hpp>

using namespace torsion;

namespace {
const URI kPage = URI::parse("http://h.example/dir/page?x");
}

TEST_CASE("a cookie goes back to the host that set it, and to no other") {
  CookieJar jar;
  jar.setCookieReceived(kPage, "a=1; path=/");
  jar.setCookieReceived(kPage, "b=2; Path=/; Domain=example");
  CHECK(jar.cookieHeader(kPage) == "a=1; b=2");
  CHECK(jar.cookieHeader(URI::parse("https://h.example:8443/")) == "a=1; b=2");
  CHECK(jar.cookieHeader(URI::parse("http://example/")) == "");
  CHECK(jar.cookieHeader(URI::parse("http://x.h.example/")) == "");
  CHECK(jar.get("a", "H.example") == "1");
  CHECK_FALSE(jar.get("a", "other"));
}

TEST_CASE("the path of a cookie") {
  CookieJar jar;
  jar.setCookieReceived(kPage, "deep=1");
  jar.setCookieReceived(kPage, "top=2; path=/");
  CHECK(jar.cookieHeader(kPage) == "deep=1; top=2");
  CHECK(jar.cookieHeader(URI::parse("http://h.example/dir")) == "deep=1; top=2");
  CHECK(jar.cookieHeader(URI::parse("http://h.example/directory")) == "top=2");
  jar.setCookieReceived(kPage, "deepest=3; path=/dir/page");
  CHECK(jar.cookieHeader(kPage) == "deepest=3; deep=1; top=2");
}

TEST_CASE("a cookie is replaced in place and taken back") {
  CookieJar jar;
  jar.set("a", "1", "H.example");
  jar.set("b", "2", "h.example");
  jar.setCookieReceived(kPage, "a=\"3\"; path=/; HttpOnly");
  CHECK(jar.cookieHeader(kPage) == "a=\"3\"; b=2");
  jar.setCookieReceived(kPage, "a=; path=/; Max-Age=0");
  jar.setCookieReceived(kPage, "b=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(jar.empty());
}

TEST_CASE("lifetimes of cookies") {
  CookieJar jar;
  jar.setCookieReceived(kPage, "a=1; path=/; max-age=10; expires=Thu, 01 Jan 1970 00:00:00 GMT", 1000);
  jar.setCookieReceived(kPage, "b=2; path=/; max-age=junk", 1000);
  jar.setCookieReceived(kPage, "c=3; path=/; expires=junk", 1000);
  CHECK(jar.cookieHeader(kPage, 1009) == "a=1; b=2; c=3");
  CHECK(jar.cookieHeader(kPage, 1010) == "b=2; c=3");
}

TEST_CASE("a secure cookie is set and sent by https alone") {
  CookieJar jar;
  jar.setCookieReceived(kPage, "a=1; path=/; Secure");
  CHECK(jar.empty());
  jar.setCookieReceived(URI::parse("https://h.example/"), "a=1; path=/; Secure");
  CHECK(jar.cookieHeader(kPage) == "");
  CHECK(jar.cookieHeader(URI::parse("https://h.example/")) == "a=1");
}

TEST_CASE("what is no cookie is ignored") {
  CookieJar jar;
  for (std::string_view bad : {"", "=", "=x", ";", "noequals", "a=1\r\nX: y", ";a=1"})
    jar.setCookieReceived(kPage, bad);
  CHECK(jar.empty());
}

TEST_CASE("a cookie that would end its header or itself is refused") {
  CookieJar jar;
  for (std::string_view bad : {"x\r\nX-Injected: y", "x;y", "x\n", "\x7f"}) {
    CHECK_THROWS_AS(jar.set("a", bad, "h.example"), InvalidRequest);
    CHECK_THROWS_AS(jar.set(bad, "1", "h.example"), InvalidRequest);
  }
  CHECK_THROWS_AS(jar.set("a=b", "1", "h.example"), InvalidRequest);
  CHECK(jar.empty());
}

TEST_CASE("a server cannot fill the jar") {
  CookieJar jar;
  SUBCASE("with many cookies: the oldest of its host go") {
    jar.set("mine", "1", "other.example");
    for (int i = 0; i < 200; ++i) jar.setCookieReceived(kPage, "c" + std::to_string(i) + "=x; path=/");
    CHECK(jar.cookies().size() == 181);
    CHECK(jar.get("mine", "other.example"));
    CHECK_FALSE(jar.get("c19", "h.example"));
    CHECK(jar.get("c20", "h.example"));
    jar.setCookieReceived(kPage, "c20=y; path=/");
    CHECK(jar.get("c21", "h.example"));
  }
  SUBCASE("under many names") {
    for (int i = 0; i < 3010; ++i) {
      jar.setCookieReceived(URI::parse("http://h" + std::to_string(i) + ".example/"), "c=x");
    }
    CHECK(jar.cookies().size() == 3000);
    CHECK_FALSE(jar.get("c", "h9.example"));
    CHECK(jar.get("c", "h10.example"));
  }
  SUBCASE("with large ones") {
    jar.setCookieReceived(kPage, "c=" + std::string(4096, 'x'));
    CHECK(jar.empty());
    jar.setCookieReceived(kPage, "c=" + std::string(4095, 'x'));
    CHECK(jar.cookies().size() == 1);
  }
  SUBCASE("what is out of date goes with the next") {
    jar.setCookieReceived(kPage, "old=1; Max-Age=10", 1000);
    jar.setCookieReceived(kPage, "new=1", 1010);
    CHECK(jar.cookies().size() == 1);
  }
}

TEST_CASE("dates of HTTP") {
  CHECK(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777);
  CHECK(parseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777);
  CHECK(parseHttpDate("Sun Nov  6 08:49:37 1994") == 784111777);
  CHECK(parseHttpDate("Wed, 09 Jun 2021 10:18:14 GMT") == 1623233894);
  CHECK_FALSE(parseHttpDate(""));
  CHECK_FALSE(parseHttpDate("Sun, 31 Feb 1994 08:49:37 GMT"));
  CHECK_FALSE(parseHttpDate("Sun, 06 Nov 1994 24:49:37 GMT"));
  CHECK_FALSE(parseHttpDate("Sun, 06 Nov 1994"));
}
