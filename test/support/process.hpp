// Programs that a test needs for a while: `openssl s_server`, `openssl s_client`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <reactor/testing/temporary_directory.hpp>
#include <test/support/certificates.hpp>

namespace torsion::test {

using torsion::TemporaryDirectory;

/// A program found in PATH, its output (standard and error) in a file; killed, if it still runs, when this goes.
class Process {
 public:
  /// `input` is its standard input; it runs in `directory` (empty: in that of the test).
  explicit Process(const std::vector<std::string>& arguments, std::string_view input = {},
                   const std::string& directory = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// What it has written so far.
  std::string output() const;
  /// Waits until the output contains `text`, and gives the output. Throws std::runtime_error, with the output, if the
  /// program ends before or takes longer than a minute.
  std::string waitFor(std::string_view text);
  /// Waits for its end and gives its exit status (128 + the signal, if one killed it).
  int wait();

 private:
  bool running();
  TemporaryDirectory directory_;
  pid_t pid_ = -1;
  int status_ = 0;
};

/// `openssl s_server` on a port of 127.0.0.1 that the system chose. `arguments` are added to its own: {"-www"}, or
/// {"-WWW"} to serve `files` (names and contents).
class OpenSSLServer {
 public:
  explicit OpenSSLServer(const Issued& certificate, const std::vector<std::string>& arguments = {},
                         const std::vector<std::pair<std::string, std::string>>& files = {});
  std::uint16_t port() const noexcept { return port_; }
  Process& process() noexcept { return process_; }

 private:
  TemporaryDirectory directory_;
  Process process_;
  std::uint16_t port_;
};

}  // namespace torsion::test
