// getpages_coroutine: getpages as a coroutine. A row for each page is printed as it ends.
//
//   getpages_coroutine http://localhost/ http://localhost/other
//   getpages_coroutine --file urls.txt --max 500 --timeout 5
#include "getpages.hpp"

#include <CLI/CLI.hpp>
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
  std::vector<std::string> urls;
  std::string file;
  double timeout = 30;
  std::size_t max = 100;
  CLI::App app(
      "Fetches pages at once and prints a row for each: URL, status or error, bytes, milliseconds.\n"
      "Without a URL it fetches from a small site of its own.\n"
      "Exit status: 0 all succeeded, 1 some failed, 2 bad usage.");
  app.add_option("url", urls, "what to fetch");
  app.add_option("--file", file, "read the URLs from this file, one a line; - is standard input")->excludes("url");
  app.add_option("--timeout", timeout, "seconds that a page may take")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--max", max, "how many pages to fetch at once")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }

  std::optional<Source> source;
  try {
    if (urls == std::vector<std::string>{"-"}) file = "-";
    if (!file.empty()) {
      source.emplace(file);
    } else {
      source.emplace(urls.empty() ? serveDemo() : std::move(urls));
    }
  } catch (const std::system_error& e) {
    std::fprintf(stderr, "getpages_coroutine: %s\n", e.what());
    return 2;
  }
  Report report(source->total());
  PageOptions options;
  options.timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout));

  reactor().callWhenRunning([&] { fetchAll(*source, report, options, max); });
  reactor().run();
  return report.exitStatus();
}
