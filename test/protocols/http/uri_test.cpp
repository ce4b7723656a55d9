#include <doctest/doctest.h>

#include <protocols/http/uri.hpp>

using namespace torsion;

TEST_CASE("a URL is taken apart") {
  const URI u = URI::parse("HTTP://Example.COM/a/b?c=d#e");
  CHECK(u.scheme == "http");
  CHECK(u.host == "example.com");
  CHECK(u.port == 80);
  CHECK(u.originForm == "/a/b?c=d");
  CHECK(u.netloc() == "example.com");
  CHECK(u.toString() == "http://example.com/a/b?c=d");
}

TEST_CASE("defaults of a URL") {
  CHECK(URI::parse("http://h").originForm == "/");
  CHECK(URI::parse("http://h?x=1").originForm == "/?x=1");
  CHECK(URI::parse("http://h#frag").originForm == "/");
  CHECK(URI::parse("https://h").port == 443);
  CHECK(URI::parse("https://h:443/").netloc() == "h");
  CHECK(URI::parse("http://h:443/").netloc() == "h:443");
  CHECK(URI::parse("http://h:/").port == 80);
  CHECK(URI::parse("http://[::1]:8080/x").host == "::1");
  CHECK(URI::parse("http://[::1]:8080/x").netloc() == "[::1]:8080");
  CHECK(URI::parse("http://my_host.example./").host == "my_host.example.");
}

TEST_CASE("what no URL allows but many contain is percent-encoded") {
  CHECK(URI::parse("http://h/M\xc3\xbcnchen").originForm == "/M%C3%BCnchen");
  CHECK(URI::parse("http://h/?a[]=1|2&b={x}").originForm == "/?a%5B%5D=1%7C2&b=%7Bx%7D");
  CHECK(URI::parse("http://h/?q=100%").originForm == "/?q=100%25");
  CHECK(URI::parse("http://h/%20%e4/..//x;y=1,2").originForm == "/%20%e4/..//x;y=1,2");
}

TEST_CASE("bad URLs") {
  for (std::string_view bad : {"",
                               "notaurl",
                               "/path",
                               "//h/x",
                               "http:",
                               "http:/",
                               "http:h",
                               "http://",
                               "http:///x",
                               "http://:80/",
                               "ftp://127.0.0.1/x",
                               "file:///etc/passwd",
                               "javascript:alert(1)",
                               "http://h:0/",
                               "http://h:65536/",
                               "http://h:65617/",
                               "http://h:99999999999/",
                               "http://h:x/",
                               "http://h:8x/",
                               "http://[::1]x/",
                               "http://h:8:9/",
                               "http://h:80@x/",
                               "http://h:-1/",
                               "http://user@h/",
                               "http://user:pass@h/",
                               "http://h/a b",
                               " http://h/",
                               "http://h/\r\nX: y",
                               "http://h/\n",
                               "http://h/\t",
                               "http://h/\x7f",
                               "http://\xc3\xa4.example/",
                               "http://h%00/",
                               "http://h%2e/",
                               "http://a\\b/",
                               "http://[::1/",
                               "http://[1.2]/",
                               "http://<h>/",
                               "http://h|/"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(URI::parse(bad), InvalidURL);
  }
  CHECK_THROWS_AS(URI::parse(std::string_view("http://h/\0", 10)), InvalidURL);
  CHECK_THROWS_WITH(URI::parse("http://h/\r\nX: y"),
                    "Invalid URL 'http://h/\\x0D\\x0AX: y': it contains a control character");
  CHECK_THROWS_WITH(URI::parse("ftp://h/"), "Invalid URL 'ftp://h/': only http and https are supported");
}

TEST_CASE("references are joined as RFC 3986 5.4 says") {
  const URI base = URI::parse("http://a/b/c/d;p?q");
  const auto join = [&](std::string_view reference) { return base.join(reference).toString(); };
  CHECK(join("g") == "http://a/b/c/g");
  CHECK(join("./g") == "http://a/b/c/g");
  CHECK(join("g/") == "http://a/b/c/g/");
  CHECK(join("/g") == "http://a/g");
  CHECK(join("//g") == "http://g/");
  CHECK(join("?y") == "http://a/b/c/d;p?y");
  CHECK(join("g?y") == "http://a/b/c/g?y");
  CHECK(join("#s") == "http://a/b/c/d;p?q");
  CHECK(join("g#s") == "http://a/b/c/g");
  CHECK(join("") == "http://a/b/c/d;p?q");
  CHECK(join(".") == "http://a/b/c/");
  CHECK(join("..") == "http://a/b/");
  CHECK(join("../g") == "http://a/b/g");
  CHECK(join("../../../g") == "http://a/g");
  CHECK(join("../../../../g?../x") == "http://a/g?../x");
  CHECK(join("../../..") == "http://a/");
  CHECK(join("/./g/../../h") == "http://a/h");
  CHECK(join("/a%2Fb") == "http://a/a%2Fb");
  CHECK(join("%2e%2E/x%20y") == "http://a/b/x%20y");
  CHECK(join("g;x=%2f../y") == "http://a/b/c/g;x=%2f../y");
  CHECK(join("//h/a/../b%2Fc") == "http://h/b%2Fc");
  CHECK(join("http://h/a/./b/../c%2Fd") == "http://h/a/c%2Fd");
  CHECK(join("https://other:8443/x") == "https://other:8443/x");
  CHECK(join("/a b") == "http://a/a%20b");
  CHECK(join("/\xc3\xa4|") == "http://a/%C3%A4%7C");
  CHECK_THROWS_AS(join("ftp://a/x"), InvalidURL);
  CHECK_THROWS_AS(join("http://"), InvalidURL);
  CHECK_THROWS_AS(join("/a\nb"), InvalidURL);
  CHECK(URI::parse("https://[::1]:444/x").join("y").toString() == "https://[::1]:444/y");
}

TEST_CASE("origins") {
  const URI u = URI::parse("http://h/a");
  CHECK(u.sameOrigin(URI::parse("http://H:80/b")));
  CHECK_FALSE(u.sameOrigin(URI::parse("https://h/a")));
  CHECK_FALSE(u.sameOrigin(URI::parse("http://h:81/a")));
  CHECK_FALSE(u.sameOrigin(URI::parse("http://i/a")));
}
