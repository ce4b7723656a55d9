#include <reactor/log_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

namespace torsion {
namespace {

using TimePoint = std::chrono::system_clock::time_point;

// Takes what was written off `text`. Returns 0, or errno.
int writeAll(int fd, std::string_view& text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

[[noreturn]] void throwErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::tuple<int, int, int> localDate(TimePoint time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  return {local.tm_year + 1900, local.tm_mon + 1, local.tm_mday};
}

LogObserver toDescriptor(int descriptor, std::string (*format)(const LogEvent&)) {
  return [descriptor, format](const LogEvent& event) {
    const std::string line = format(event) + "\n";
    std::string_view rest = line;
    writeAll(descriptor, rest);
  };
}

LogObserver toFile(std::shared_ptr<BaseLogFile> file, std::string (*format)(const LogEvent&)) {
  return [file = std::move(file), format](const LogEvent& event) { file->write(format(event) + "\n", event.time); };
}

}  // namespace

// ---- BaseLogFile

BaseLogFile::BaseLogFile(std::string path, std::optional<unsigned> mode) : path_(std::move(path)) {
  open(mode);
}

BaseLogFile::~BaseLogFile() = default;

void BaseLogFile::open(std::optional<unsigned> mode) {
  detail::UniqueFd opened(
      ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, mode ? 0600 : 0666));
  struct stat status{};
  if (!opened || ::fstat(opened.get(), &status) != 0) throwErrno("cannot open the log " + path_);
  if (mode && S_ISREG(status.st_mode)) ::fchmod(opened.get(), *mode);  // not ours to set: then it stays as it is
  file_ = std::move(opened);
  device_ = status.st_dev;
  inode_ = status.st_ino;
  lastWrite_.reset();
  if (status.st_size > 0) lastWrite_ = std::chrono::system_clock::from_time_t(status.st_mtime);
  midLine_ = false;
}

void BaseLogFile::write(std::string_view text, TimePoint now) noexcept {
  const std::lock_guard lock(mutex_);
  bool good = true;
  try {
    struct stat status{};
    if (::stat(path_.c_str(), &status) != 0 || status.st_dev != device_ || status.st_ino != inode_) {
      open({});
      if (::fstat(file_.get(), &status) != 0) throwErrno("cannot look at the log " + path_);
    }
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (S_ISREG(status.st_mode) && size > 0 && shouldRotate(size, lastWrite_.value_or(now), now)) {
      rotateLocked(status.st_mode);
    }
  } catch (const std::exception& e) {
    good = false;
    complain(e.what());
  }
  // A line that was cut short, when the disk was full, say, is ended first.
  std::string_view lineEnd = midLine_ ? "\n" : "";
  std::string_view rest = text;
  int error = writeAll(file_.get(), lineEnd);
  if (error == 0) {
    error = writeAll(file_.get(), rest);
    midLine_ = error != 0 && rest.size() < text.size();
  }
  if (error != 0) {
    good = false;
    complain(std::string("cannot write the log ") + path_ + ": " + std::generic_category().message(error));
  }
  if (good) complained_ = false;
  lastWrite_ = std::max(lastWrite_.value_or(now), now);
}

void BaseLogFile::rotate() noexcept {
  const std::lock_guard lock(mutex_);
  try {
    struct stat status{};
    if (::fstat(file_.get(), &status) == 0 && S_ISREG(status.st_mode)) rotateLocked(status.st_mode);
  } catch (const std::exception& e) {
    complain(e.what());
  }
}

void BaseLogFile::rotateLocked(unsigned mode) {
  moveAway(lastWrite_.value_or(std::chrono::system_clock::now()));
  open(mode & 07777);
}

void BaseLogFile::complain(const std::string& what) noexcept {
  if (!std::exchange(complained_, true)) std::fprintf(stderr, "torsion: %s; lines may be lost\n", what.c_str());
}

// ---- LogFile

LogFile::LogFile(std::string path, LogFileOptions options)
    : BaseLogFile(std::move(path), options.defaultMode), options_(options) {
  if (options.maxRotatedFiles && *options.maxRotatedFiles == 0) {
    throw std::invalid_argument("LogFile: maxRotatedFiles is at least 1");
  }
}

bool LogFile::shouldRotate(std::uint64_t size, TimePoint, TimePoint) const {
  return options_.rotateLength != 0 && size >= options_.rotateLength;
}

void LogFile::moveAway(TimePoint) {
  const std::filesystem::path current = std::filesystem::absolute(path());
  const std::string prefix = current.filename().string() + ".";
  std::vector<unsigned> numbers;
  for (const auto& entry : std::filesystem::directory_iterator(current.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    unsigned number = 0;
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number);
    if (number > 0 && name == prefix + std::to_string(number)) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end(), std::greater<>());
  for (const unsigned number : numbers) {
    const std::string old = path() + "." + std::to_string(number);
    if (options_.maxRotatedFiles && number >= *options_.maxRotatedFiles) {
      std::filesystem::remove(old);
    } else {
      std::filesystem::rename(old, path() + "." + std::to_string(number + 1));
    }
  }
  std::filesystem::rename(path(), path() + ".1");
}

// ---- DailyLogFile

DailyLogFile::DailyLogFile(std::string path, std::optional<unsigned> defaultMode)
    : BaseLogFile(std::move(path), defaultMode) {}

bool DailyLogFile::shouldRotate(std::uint64_t, TimePoint lastWrite, TimePoint now) const {
  return localDate(lastWrite) < localDate(now);
}

void DailyLogFile::moveAway(TimePoint lastWrite) {
  const auto [year, month, day] = localDate(lastWrite);
  const std::string to = path() + "." + std::to_string(year) + "_" + std::to_string(month) + "_" + std::to_string(day);
  if (!std::filesystem::exists(to)) std::filesystem::rename(path(), to);
}

// ---- observers

LogObserver textFileLogObserver(std::shared_ptr<BaseLogFile> file) {
  return toFile(std::move(file), &eventAsText);
}
LogObserver jsonFileLogObserver(std::shared_ptr<BaseLogFile> file) {
  return toFile(std::move(file), &eventAsJSON);
}
LogObserver textFileLogObserver(int descriptor) {
  return toDescriptor(descriptor, &eventAsText);
}
LogObserver jsonFileLogObserver(int descriptor) {
  return toDescriptor(descriptor, &eventAsJSON);
}

}  // namespace torsion
