// TemporaryDirectory: a place for the files of a test.
#pragma once

#include <string>
#include <string_view>

namespace torsion {

/// A directory that goes, with what is in it, when this goes. Throws std::system_error if it cannot be made.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const noexcept { return path_; }
  /// Writes a file into it and gives its full name.
  std::string write(const std::string& name, std::string_view content) const;

 private:
  std::string path_;
};

}  // namespace torsion
