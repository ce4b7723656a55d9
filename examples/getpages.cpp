// getpages: fetches many pages at once, with callbacks. A row for each page is printed as it ends.
//
//   getpages http://localhost/ http://localhost/other
//   getpages --file urls.txt --max 500 --timeout 5
#include "getpages.hpp"

#include <CLI/CLI.hpp>
#include <deferred/list.hpp>

using namespace getpages;

namespace {

/// Fetches one page after another. Many lanes make many pages at once, and never more than there are lanes.
class Lane {
 public:
  Lane(Source& source, Report& report, const PageOptions& options)
      : source_(source), report_(report), options_(options) {}

  /// Fires when there are no more URLs.
  Deferred<void> run() {
    next();
    return done_.deferred();
  }

 private:
  void next() {
    source_.next().addCallbacks(
        [this](std::optional<std::string> url) { url ? fetch(std::move(*url)) : done_.callback(); },
        [this](Failure failure) {
          report_.failed("(reading URLs)", failure, Clock::now());
          done_.callback();
        });
  }

  void fetch(std::string url) {
    const auto start = Clock::now();
    getPageResponse(url, options_)
        .addCallbacks([this, url, start](PageResponse page) { report_.succeeded(url, page, start); },
                      [this, url, start](Failure failure) { report_.failed(url, failure, start); })
        .addBoth([this] { next(); });
  }

  Source& source_;
  Report& report_;
  const PageOptions& options_;
  Resolver<void> done_;
};

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
    std::fprintf(stderr, "getpages: %s\n", e.what());
    return 2;
  }
  Report report(source->total());
  PageOptions options;
  options.timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout));

  std::vector<std::unique_ptr<Lane>> lanes;
  reactor().callWhenRunning([&] {
    std::vector<Deferred<void>> done;
    for (std::size_t i = 0; i < max && (source->total() == 0 || i < source->total()); ++i) {
      lanes.push_back(std::make_unique<Lane>(*source, report, options));
      done.push_back(lanes.back()->run());
    }
    DeferredList(std::move(done)).addBoth([&report] {
      report.summary();
      if (reactor().running()) reactor().stop();
    });
  });
  reactor().run();
  return report.exitStatus();
}
