// The part of docs/testing.md that is about HTTP.
#include <memory>
#include <string>

#include <protocols/http/error.hpp>
#include <protocols/http/get_page.hpp>
#include <protocols/http/site.hpp>
#include <reactor/testing/assertions.hpp>
#include <test/doctest_fixture.hpp>

using namespace torsion;

namespace {

Deferred<std::size_t> sizeOfPage(const std::string& url, NetworkReactor& reactor) {
  return getPage(url, {}, reactor).addCallback([](std::string page) { return page.size(); });
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "the size of a page") {
  auto site = std::make_shared<Site>(SiteOptions{}, reactor);
  site->route("/", [] { return "hello"; });
  reactor.listenTCP(80, site);
  reactor.addName("www.example", {"10.0.0.80"});
  reactor.setPieceSize(1);

  auto size = sizeOfPage("http://www.example/", reactor);
  auto missing = sizeOfPage("http://www.example/missing", reactor);
  reactor.flush();
  CHECK(successResultOf(size) == 5);
  CHECK(failureResultOf<HttpError>(missing).get<HttpError>()->status == 404);
}
