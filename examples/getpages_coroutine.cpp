// getpages_coroutine: getpages as a coroutine. A row for each page is printed as it ends.
//
//   getpages_coroutine http://localhost/ http://localhost/other
//   getpages_coroutine --file urls.txt --max 500 --timeout 5
#include "getpages.hpp"

#include <deferred/list.hpp>

using namespace getpages;

namespace {

/// Fetches one page after another. Many lanes make many pages at once, and never more than there are lanes.
Deferred<void> lane(Source& source, Report& report, const PageOptions& options) {
  while (true) {
    std::optional<std::string> url;
    try {
      url = co_await source.next();
    } catch (...) {
      report.failed("(reading URLs)", Failure::current(), Clock::now());
    }
    if (!url) co_return;
    const auto start = Clock::now();
    try {
      const PageResponse page = co_await getPageResponse(*url, options);
      report.succeeded(*url, page, start);
    } catch (...) {
      report.failed(*url, Failure::current(), start);
    }
  }
}

Deferred<void> fetchAll(Source& source, Report& report, const PageOptions& options, std::size_t max) {
  std::vector<Deferred<void>> lanes;
  for (std::size_t i = 0; i < max && (source.total() == 0 || i < source.total()); ++i) {
    lanes.push_back(lane(source, report, options));
  }
  co_await DeferredList(std::move(lanes));
  report.summary();
  if (reactor().running()) reactor().stop();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const auto status = parse(argc, argv, arguments)) return *status;
  Report report(arguments.source->total());

  reactor().callWhenRunning([&] { fetchAll(*arguments.source, report, arguments.options, arguments.max); });
  reactor().run();
  return report.exitStatus();
}
