// Log files that are rotated, and the observers that write them (twisted.python.logfile; textFileLogObserver and
// jsonFileLogObserver of twisted.logger).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include <reactor/detail/unique_fd.hpp>
#include <reactor/logger.hpp>

namespace torsion {

/// What LogFile and DailyLogFile have in common. May be used from any thread.
///
/// A file that another program has moved away or deleted is made anew with the next line, so that logrotate needs no
/// signal. Only regular files are rotated.
class BaseLogFile {
 public:
  virtual ~BaseLogFile();
  BaseLogFile(const BaseLogFile&) = delete;
  BaseLogFile& operator=(const BaseLogFile&) = delete;

  /// Appends `text`, of whole lines, after rotating the file if that is due at `now`. What cannot be written (the disk
  /// is full, say) is lost, which standard error is told once; the program goes on.
  void write(std::string_view text,
             std::chrono::system_clock::time_point now = std::chrono::system_clock::now()) noexcept;
  /// Rotates it now. Where that is impossible it goes on as it is, which standard error is told once.
  void rotate() noexcept;
  const std::string& path() const noexcept { return path_; }

 protected:
  /// Opens the file, made with these permissions if it is not there (none: as the umask says). Throws
  /// std::system_error if it cannot be written.
  BaseLogFile(std::string path, std::optional<unsigned> mode);

 private:
  virtual bool shouldRotate(std::uint64_t size, std::chrono::system_clock::time_point lastWrite,
                            std::chrono::system_clock::time_point now) const = 0;
  /// Gives the file another name. Throws std::system_error.
  virtual void moveAway(std::chrono::system_clock::time_point lastWrite) = 0;

  void open(std::optional<unsigned> mode);
  void rotateLocked(unsigned mode);
  void complain(const std::string& what) noexcept;

  const std::string path_;
  std::mutex mutex_;
  detail::UniqueFd file_;
  std::uint64_t device_ = 0, inode_ = 0;                            // of file_
  std::optional<std::chrono::system_clock::time_point> lastWrite_;  // none: it is empty
  bool midLine_ = false;
  bool complained_ = false;
};

struct LogFileOptions {
  /// Before a line is written to a file of this many bytes, "log" becomes "log.1", that "log.2", and so on. 0: never.
  std::uint64_t rotateLength = 1'000'000;
  /// Of the files with numbers so many are kept, at least one; none given: all.
  std::optional<unsigned> maxRotatedFiles = {};
  /// Permissions, as 0640; none given: those of the file that is there, or as the umask says.
  std::optional<unsigned> defaultMode = {};
};

/// Rotated by its length. A daemon that logs JSON into files of a megabyte, ten of them at most:
///
///   int main() {
///     LogPublisher::global().addObserver(
///         jsonFileLogObserver(std::make_shared<LogFile>("/var/log/shop/log", LogFileOptions{.maxRotatedFiles = 9})));
///     return runService(makeShop);
///   }
class LogFile final : public BaseLogFile {
 public:
  /// Throws std::system_error if the file cannot be opened.
  explicit LogFile(std::string path, LogFileOptions options = {});

 private:
  bool shouldRotate(std::uint64_t size, std::chrono::system_clock::time_point lastWrite,
                    std::chrono::system_clock::time_point now) const override;
  void moveAway(std::chrono::system_clock::time_point lastWrite) override;

  LogFileOptions options_;
};

/// Rotated by the first line of each day of local time: what was written on a day then lies in "log.2026_11_4".
class DailyLogFile final : public BaseLogFile {
 public:
  /// Throws std::system_error if the file cannot be opened.
  explicit DailyLogFile(std::string path, std::optional<unsigned> defaultMode = {});

 private:
  bool shouldRotate(std::uint64_t size, std::chrono::system_clock::time_point lastWrite,
                    std::chrono::system_clock::time_point now) const override;
  void moveAway(std::chrono::system_clock::time_point lastWrite) override;
};

/// Writes each event as eventAsText() gives it.
LogObserver textFileLogObserver(std::shared_ptr<BaseLogFile> file);
/// Writes each event as eventAsJSON() gives it, one a line.
LogObserver jsonFileLogObserver(std::shared_ptr<BaseLogFile> file);
/// The same to a descriptor, as STDERR_FILENO, which stays the caller's; what cannot be written is lost.
LogObserver textFileLogObserver(int descriptor);
LogObserver jsonFileLogObserver(int descriptor);

}  // namespace torsion
