// What getpages and getpages_coroutine share: where the URLs come from, what is printed, and the site that they fetch
// from when they are given no URL.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <deferred/sync.hpp>
#include <protocols/http/get_page.hpp>
#include <protocols/http/site.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>

namespace getpages {

using namespace torsion;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Gives URLs one by one, from a list or from the lines of a file, which is read as they are asked for.
class Source {
 public:
  explicit Source(std::vector<std::string> urls) : urls_(std::move(urls)) {}
  /// "-" is standard input. Throws std::system_error.
  explicit Source(const std::string& path) : fd_(path == "-" ? dup(0) : open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), path);
  }
  Source(const Source&) = delete;
  ~Source() {
    if (fd_ >= 0) close(fd_);
  }

  /// How many there are; 0 if that is not known.
  std::size_t total() const { return urls_.size(); }
  /// The next URL, or nothing when there are no more or the reactor has been stopped. Who asks while another one waits,
  /// waits in turn.
  Deferred<std::optional<std::string>> next() {
    return lock_.run([this] { return take(); });
  }

 private:
  Deferred<std::optional<std::string>> take() {
    if (!reactor().running()) return succeed(std::optional<std::string>());
    if (fd_ < 0) return succeed(next_ < urls_.size() ? std::optional(urls_[next_++]) : std::nullopt);
    while (true) {
      if (const auto end = text_.find('\n', start_); end != text_.npos || (ended_ && start_ < text_.size())) {
        std::string line = text_.substr(start_, end - start_);
        start_ = end == text_.npos ? text_.size() : end + 1;
        if (line.ends_with('\r')) line.pop_back();
        if (line.find_first_not_of(" \t") != line.npos) return succeed(std::optional(std::move(line)));
        continue;
      }
      if (ended_) return succeed(std::optional<std::string>());
      // A pipe may have nothing to read for long, and the pages that are under way must not wait for it.
      pollfd ready{fd_, POLLIN, 0};
      if (poll(&ready, 1, 0) == 0) return deferLater(reactor(), 20ms, [this] { return take(); });
      text_.erase(0, std::exchange(start_, 0));
      char buffer[16384];
      const ssize_t n = read(fd_, buffer, sizeof buffer);
      if (n < 0) throw std::system_error(errno, std::generic_category(), "reading URLs");
      ended_ = n == 0;
      text_.append(buffer, static_cast<std::size_t>(n));
    }
  }

  std::vector<std::string> urls_;
  std::size_t next_ = 0, start_ = 0;
  int fd_ = -1;
  std::string text_;
  bool ended_ = false;
  DeferredLock lock_;
};

/// Prints a row for each page, and on a terminal a bar below them.
class Report {
 public:
  explicit Report(std::size_t total) : total_(total) {}

  void succeeded(const std::string& url, const PageResponse& page, Clock::time_point start) {
    row(url, std::to_string(page.status) + ' ' + page.message, page.body.size(), start);
  }
  void failed(const std::string& url, const Failure& failure, Clock::time_point start) {
    ++failed_;
    const auto* answer = failure.get<HttpError>();
    row(url, failure.getErrorMessage(), answer ? answer->response.size() : 0, start);
  }
  void summary() {
    ended_ = true;
    std::printf("%s%zu page%s: %zu succeeded, %zu failed; %zu bytes in %lld ms\n", clear(), pages_,
                pages_ == 1 ? "" : "s", pages_ - failed_, failed_, bytes_, milliseconds(start_));
    std::fflush(stdout);
  }
  /// 1 if a page failed, or if not all were fetched.
  int exitStatus() const { return ended_ && failed_ == 0 && std::ferror(stdout) == 0 ? 0 : 1; }

 private:
  static long long milliseconds(Clock::time_point since) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count();
  }
  /// What a stranger wrote goes to a terminal: nothing but printable ASCII.
  static std::string printable(const std::string& text) {
    std::string result;
    for (const char c : text) {
      if (c >= ' ' && c <= '~') {
        result += c;
      } else {
        char escaped[4];
        std::snprintf(escaped, sizeof escaped, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
        result += escaped;
      }
    }
    return result;
  }
  const char* clear() const { return terminal_ ? "\r\x1b[K" : ""; }
  void row(const std::string& url, const std::string& outcome, std::size_t bytes, Clock::time_point start) {
    ++pages_;
    bytes_ += bytes;
    std::printf("%s%s  %s  %zu bytes  %lld ms\n", clear(), printable(url).c_str(), printable(outcome).c_str(), bytes,
                milliseconds(start));
    if (terminal_ && total_ > 0) {
      const std::string done(40 * pages_ / total_, '#');
      std::printf("[%-40s] %zu of %zu", done.c_str(), pages_, total_);
    } else if (terminal_) {
      std::printf("[%zu done]", pages_);
    }
    if (std::fflush(stdout) != 0 && reactor().running()) reactor().stop();  // nobody reads this any more
  }

  const std::size_t total_;
  const bool terminal_ = isatty(1) == 1;
  const Clock::time_point start_ = Clock::now();
  std::size_t pages_ = 0, failed_ = 0, bytes_ = 0;
  bool ended_ = false;
};

/// Serves pages that are large, slow, redirecting and failing on 127.0.0.1, and gives their URLs.
inline std::vector<std::string> serveDemo() {
  auto site = std::make_shared<Site>();
  site->route("/", [] { return "hello\n"; });
  site->route("/large", [] { return std::string(10'000'000, 'x'); });
  site->route("/slow", [] { return deferLater(reactor(), 1s, [] { return std::string("at last\n"); }); });
  site->route("/moved", [] { return Response{301, {{"Location", "/elsewhere"}}}; });
  site->route("/elsewhere", [] { return Response{302, {{"Location", "/"}}}; });
  site->route("/failing", [] { return Response{500, {}, "out of order\n"}; });
  const auto port = reactor().listenTCP(0, site, 50, "127.0.0.1");
  const std::string base = "http://127.0.0.1:" + std::to_string(std::get<IPv4Address>(port->getHost()).port);
  std::printf("No URL given: fetching from a site of my own, %s, where two pages are made to fail.\n", base.c_str());
  std::vector<std::string> urls;
  for (const char* path : {"/", "/large", "/slow", "/moved", "/failing", "/missing"}) urls.push_back(base + path);
  return urls;
}

/// What the command line asks for.
struct Arguments {
  std::optional<Source> source;
  PageOptions options;
  std::size_t max = 100;
};

/// Reads the command line. Gives an exit status if the program is to end at once.
inline std::optional<int> parse(int argc, char** argv, Arguments& arguments) {
  std::vector<std::string> urls;
  std::string file;
  double timeout = 30;
  CLI::App app(
      "Fetches pages at once and prints a row for each: URL, status or error, bytes, milliseconds.\n"
      "Without a URL it fetches from a small site of its own.\n"
      "Exit status: 0 all succeeded, 1 some failed, 2 bad usage.");
  app.add_option("url", urls, "what to fetch");
  app.add_option("--file", file, "read the URLs from this file, one a line; - is standard input")->excludes("url");
  app.add_option("--timeout", timeout, "seconds that a page may take")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--max", arguments.max, "how many pages to fetch at once")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    if (urls == std::vector<std::string>{"-"}) file = "-";
    if (!file.empty()) {
      arguments.source.emplace(file);
    } else {
      arguments.source.emplace(urls.empty() ? serveDemo() : std::move(urls));
    }
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::system_error& e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 2;
  }
  arguments.options.timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout));
  return std::nullopt;
}

}  // namespace getpages
