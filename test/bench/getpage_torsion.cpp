// Pages fetched with Torsion's getPage, its defaults but for a timeout, which the other sides have too.
#include <chrono>
#include <protocols/http/get_page.hpp>
#include <string>

#include "getpage.hpp"

namespace {

void fetch(bench::Pages& pages, const std::string& url) {
  if (!pages.more()) return;
  torsion::getPage(url, {.timeout = std::chrono::seconds(bench::kTimeoutSeconds)})
      .addCallback([&pages, &url](const std::string& body) {
        if (pages.got(200, body.size())) return torsion::reactor().stop();
        fetch(pages, url);
      })
      .addErrback([](const torsion::Failure& failure) { bench::Pages::fail(failure.getErrorMessage().c_str()); });
}

}  // namespace

int main(int, char** argv) {
  bench::Pages pages(argv);
  const std::string url = std::string("http://127.0.0.1:") + pages.port + "/";
  for (int i = 0; i < bench::kInFlight; ++i) fetch(pages, url);
  torsion::reactor().run();
}
