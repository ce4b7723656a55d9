#include <doctest/doctest.h>

#include <protocols/http/error.hpp>

using namespace torsion;

TEST_CASE("an HttpError says its status and message") {
  const HttpError e(404, "Not Found", "nope", {{"X", "y"}});
  CHECK(std::string(e.what()) == "404 Not Found");
  CHECK(e.status == 404);
  CHECK(e.message == "Not Found");
  CHECK(e.response == "nope");
  CHECK(e.headers.getHeader("x") == "y");
  CHECK(HttpError(503).message == "Service Unavailable");
  CHECK(std::string(HttpError(599).what()) == "599 Unknown Status");
}

TEST_CASE("redirects name where they lead") {
  const PageRedirect redirect(302, "Found", "/ok");
  CHECK(std::string(redirect.what()) == "302 Found to /ok");
  CHECK(redirect.message == "Found to /ok");
  CHECK(redirect.location == "/ok");
  const InfiniteRedirection loop(302, "Infinite redirection detected", "/loop");
  CHECK(loop.message == "Infinite redirection detected to /loop");
  CHECK_THROWS_AS(throw loop, HttpError);
}
