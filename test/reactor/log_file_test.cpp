#include <reactor/log_file.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <boost/json/parse.hpp>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/logger.hpp>
#include <reactor/reactor.hpp>
#include <reactor/service.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

std::string contentOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

unsigned modeOf(const std::string& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

struct Fixture {
  test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/log";

  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
      found.insert(entry.path().filename().string());
    }
    return found;
  }
};

using Names = std::set<std::string>;

// What `f` writes to standard error.
template <class F>
std::string standardErrorOf(const std::string& scratch, F f) {
  const detail::UniqueFd saved(::dup(STDERR_FILENO));
  const detail::UniqueFd file(::open(scratch.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600));
  ::dup2(file.get(), STDERR_FILENO);
  f();
  ::dup2(saved.get(), STDERR_FILENO);
  return contentOf(scratch);
}

// Noon, local time.
std::chrono::system_clock::time_point noonOf(int year, int month, int day) {
  std::tm tm{};
  tm.tm_year = year - 1900;
  tm.tm_mon = month - 1;
  tm.tm_mday = day;
  tm.tm_hour = 12;
  tm.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&tm));
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "LogFile: appends to what is there") {
  LogFile(path).write("1\n");
  LogFile(path).write("2\n");
  CHECK(contentOf(path) == "1\n2\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: rotated before the write that finds it too long") {
  LogFile log(path, {.rotateLength = 10});
  log.write("123\n");
  log.write("4567890\n");
  CHECK(names() == Names{"log"});
  log.write("1\n");
  CHECK(names() == Names{"log", "log.1"});
  CHECK(contentOf(path) == "1\n");
  CHECK(contentOf(path + ".1") == "123\n4567890\n");
  log.write("2345678901\n");
  log.write("2\n");
  CHECK(contentOf(path + ".2") == "123\n4567890\n");
  CHECK(contentOf(path + ".1") == "1\n2345678901\n");
  CHECK(contentOf(path) == "2\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: the length counts what was there before it was opened") {
  LogFile(path, {.rotateLength = 4}).write("1234\n");
  LogFile(path, {.rotateLength = 4}).write("5\n");
  CHECK(contentOf(path + ".1") == "1234\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: no rotation if the length is zero") {
  LogFile log(path, {.rotateLength = 0});
  for (int i = 0; i < 100; ++i) log.write("1234567890\n");
  CHECK(names() == Names{"log"});
}

TEST_CASE_FIXTURE(Fixture, "LogFile: maxRotatedFiles, of those with numbers; other files stay") {
  for (const char* name : {"log.9", "log.07", "log.x", "log.1.gz", "other.1"}) directory.write(name, "old");
  LogFile log(path, {.rotateLength = 1, .maxRotatedFiles = 2});
  for (const char* line : {"1\n", "2\n", "3\n", "4\n"}) log.write(line);
  CHECK(names() == Names{"log", "log.1", "log.2", "log.07", "log.x", "log.1.gz", "other.1"});
  CHECK(contentOf(path) == "4\n");
  CHECK(contentOf(path + ".1") == "3\n");
  CHECK(contentOf(path + ".2") == "2\n");
  CHECK_THROWS_AS(LogFile(path, {.maxRotatedFiles = 0}), std::invalid_argument);
}

TEST_CASE_FIXTURE(Fixture, "LogFile: more than nine rotated files") {
  LogFile log(path, {.rotateLength = 1});
  for (int i = 0; i < 13; ++i) log.write(std::to_string(i) + "\n");
  CHECK(contentOf(path + ".12") == "0\n");
  CHECK(contentOf(path + ".1") == "11\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: rotate()") {
  LogFile log(path);
  log.write("1\n");
  log.rotate();
  log.write("2\n");
  CHECK(contentOf(path + ".1") == "1\n");
  CHECK(contentOf(path) == "2\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: a name without a directory") {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  LogFile log("log", {.rotateLength = 1});
  log.write("1\n");
  log.write("2\n");
  std::filesystem::current_path(before);
  CHECK(names() == Names{"log", "log.1"});
}

TEST_CASE_FIXTURE(Fixture, "LogFile: permissions are those asked for, or those of the file before") {
  {
    LogFile log(path, {.rotateLength = 1, .defaultMode = 0640});
    CHECK(modeOf(path) == 0640);
    log.write("1\n");
    log.write("2\n");
    CHECK(modeOf(path) == 0640);
  }
  ::chmod(path.c_str(), 0604);
  LogFile log(path, {.rotateLength = 1});
  CHECK(modeOf(path) == 0604);
  log.write("3\n");
  CHECK(contentOf(path) == "3\n");
  CHECK(modeOf(path) == 0604);
}

TEST_CASE_FIXTURE(Fixture, "LogFile: a file that logrotate has moved away, or that was deleted, is made anew") {
  LogFile log(path);
  log.write("1\n");
  std::filesystem::rename(path, path + ".old");
  log.write("2\n");
  CHECK(contentOf(path + ".old") == "1\n");
  CHECK(contentOf(path) == "2\n");
  std::filesystem::remove(path);
  log.write("3\n");
  CHECK(contentOf(path) == "3\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: one that cannot be opened throws") {
  CHECK_THROWS_WITH_AS(LogFile(directory.path() + "/no/log"),
                       doctest::Contains(("cannot open the log " + directory.path() + "/no/log").c_str()),
                       std::system_error);
}

TEST_CASE_FIXTURE(Fixture, "LogFile: a full disk is told once, and is not the program's trouble") {
  LogFile log("/dev/full", {.rotateLength = 1});
  const std::string told = standardErrorOf(directory.path() + "/err", [&] {
    log.write("1\n");
    log.write("2\n");
  });
  CHECK(told == "torsion: cannot write the log /dev/full: No space left on device; lines may be lost\n");
  log.rotate();  // it is no regular file
  CHECK(std::filesystem::exists("/dev/full"));
}

TEST_CASE_FIXTURE(Fixture, "LogFile: a line that was cut short does not run into the next one") {
  LogFile log(path);
  log.write("1\n");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{6, before.rlim_max};
  const std::string told = standardErrorOf("/dev/null", [&] {
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    log.write("23456789\n");
    log.write("lost\n");
    ::setrlimit(RLIMIT_FSIZE, &before);
  });
  std::signal(SIGXFSZ, handler);
  log.write("last\n");
  CHECK(contentOf(path) == "1\n2345\nlast\n");
}

TEST_CASE_FIXTURE(Fixture, "LogFile: where it cannot be rotated it goes on") {
  LogFile log(path, {.rotateLength = 1});
  log.write("1\n");
  // A directory cannot be replaced by a file, whoever tries.
  std::filesystem::create_directories(path + ".1/full");
  std::filesystem::create_directories(path + ".2/full");
  LogFile other(path, {.rotateLength = 1, .maxRotatedFiles = 1});
  const std::string told = standardErrorOf(directory.path() + "/err", [&] {
    other.write("2\n");
    other.write("3\n");
  });
  CHECK(contentOf(path) == "1\n2\n3\n");
  CHECK(told.starts_with("torsion: "));
  CHECK(std::count(told.begin(), told.end(), '\n') == 1);
}

TEST_CASE_FIXTURE(Fixture, "DailyLogFile: rotated by the first line of the next day") {
  DailyLogFile log(path);
  log.write("1\n", noonOf(2031, 11, 4));
  log.write("2\n", noonOf(2031, 11, 4) + 11h);
  CHECK(names() == Names{"log"});
  log.write("3\n", noonOf(2031, 11, 4) + 13h);
  CHECK(contentOf(path + ".2031_11_4") == "1\n2\n");
  CHECK(contentOf(path) == "3\n");
  log.write("4\n", noonOf(2031, 11, 4));  // the clock was set back
  log.write("5\n", noonOf(2031, 12, 31));
  CHECK(contentOf(path + ".2031_11_5") == "3\n4\n");
  log.write("6\n", noonOf(2032, 1, 1));
  CHECK(names() == Names{"log", "log.2031_11_4", "log.2031_11_5", "log.2031_12_31"});
  CHECK(contentOf(path) == "6\n");
}

TEST_CASE_FIXTURE(Fixture, "DailyLogFile: knows the day of what is there when it is opened") {
  directory.write("log", "old\n");
  const std::time_t day = std::chrono::system_clock::to_time_t(noonOf(2020, 2, 29));
  const timespec times[2] = {{day, 0}, {day, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  DailyLogFile(path).write("new\n", noonOf(2020, 3, 1));
  CHECK(contentOf(path + ".2020_2_29") == "old\n");
  CHECK(contentOf(path) == "new\n");
}

TEST_CASE_FIXTURE(Fixture, "DailyLogFile: a day's file that is there already is not overwritten") {
  directory.write("log.2031_11_4", "kept\n");
  DailyLogFile log(path);
  log.write("1\n", noonOf(2031, 11, 4));
  log.write("2\n", noonOf(2031, 11, 5));
  CHECK(contentOf(path + ".2031_11_4") == "kept\n");
  CHECK(contentOf(path) == "1\n2\n");
}

TEST_CASE_FIXTURE(Fixture, "textFileLogObserver and jsonFileLogObserver write one line for each event") {
  LogPublisher publisher;
  const Logger log("shop.orders", publisher);
  publisher.addObserver(textFileLogObserver(std::make_shared<LogFile>(path)));
  publisher.addObserver(jsonFileLogObserver(std::make_shared<LogFile>(path + ".json")));
  const std::string both = directory.path() + "/fd";
  const detail::UniqueFd file(::open(both.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600));
  publisher.addObserver(textFileLogObserver(file.get()));
  publisher.addObserver(jsonFileLogObserver(file.get()));
  log.info("{count} orders", {{"count", 3}});
  const std::string text = contentOf(path);
  const std::string json = contentOf(path + ".json");
  CHECK(text.ends_with(" [shop.orders#info] 3 orders\n"));
  CHECK(std::count(json.begin(), json.end(), '\n') == 1);
  CHECK(boost::json::parse(json).at("log_text") == "3 orders");
  CHECK(contentOf(both) == text + json);
}

TEST_CASE_FIXTURE(Fixture, "a daemon logs JSON into a file") {
  const auto id = LogPublisher::global().addObserver(
      jsonFileLogObserver(std::make_shared<LogFile>(path, LogFileOptions{.maxRotatedFiles = 9})));
  Reactor reactor;
  const auto makeShop = [](Reactor&) -> std::shared_ptr<Service> { throw std::runtime_error("no\nshop"); };
  const int status = runService(makeShop, 1s, reactor);
  LogPublisher::global().removeObserver(id);
  CHECK(status == 1);
  std::ifstream lines(path);
  std::string line;
  REQUIRE(std::getline(lines, line));
  const auto json = boost::json::parse(line);
  CHECK(json.at("log_namespace") == "torsion.service");
  CHECK(json.at("log_level") == "critical");
  CHECK(json.at("log_text") == "The service cannot be started");
  CHECK(json.at("log_failure").at("message") == "no\nshop");
  while (std::getline(lines, line)) CHECK(boost::json::parse(line).is_object());
}

TEST_CASE_FIXTURE(Fixture, "LogFile: lines of many threads stay whole, also while it is rotated") {
  auto file = std::make_shared<LogFile>(path, LogFileOptions{.rotateLength = 2000});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) file->write("a line of some length\n");
    });
  }
  for (int i = 0; i < 5; ++i) file->rotate();
  for (auto& thread : threads) thread.join();
  std::string all;
  for (const auto& name : names()) all += contentOf(directory.path() + "/" + name);
  CHECK(all.size() == 400 * std::string_view("a line of some length\n").size());
  CHECK(std::count(all.begin(), all.end(), '\n') == 400);
}
