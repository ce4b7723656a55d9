// getpages: fetches many pages at once, with callbacks. A row for each page is printed as it ends.
//
//   getpages http://localhost/ http://localhost/other
//   getpages --file urls.txt --max 500 --timeout 5
#include "getpages.hpp"

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
  Arguments arguments;
  if (const auto status = parse(argc, argv, arguments)) return *status;
  Source& source = *arguments.source;
  Report report(source.total());

  std::vector<std::unique_ptr<Lane>> lanes;
  reactor().callWhenRunning([&] {
    std::vector<Deferred<void>> done;
    for (std::size_t i = 0; i < arguments.max && (source.total() == 0 || i < source.total()); ++i) {
      lanes.push_back(std::make_unique<Lane>(source, report, arguments.options));
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
