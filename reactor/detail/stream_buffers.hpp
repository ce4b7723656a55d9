// The memory that the connections of one reactor share, so that an idle one holds none.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace torsion::detail {

class StreamBuffers {
 public:
  // More than the 64 KiB that many peers write at once, in TLS records too: a read that does not fill the buffer is
  // known to have emptied the socket.
  static constexpr std::size_t kReadSize = 72 * 1024;

  /// Where bytes are received; good until the call of the protocol returns.
  std::span<char> readBuffer() {
    if (!read_) read_ = std::make_unique_for_overwrite<char[]>(kReadSize);
    return {read_.get(), kReadSize};
  }
  /// An empty string, with capacity where there is one to be had: the start of an output queue.
  std::string takeSpare() noexcept {
    if (spares_.empty()) return {};
    std::string spare = std::move(spares_.back());
    spares_.pop_back();
    return spare;
  }
  void giveSpare(std::string&& used) {
    if (used.capacity() > kMaxSpareSize || spares_.size() == kMaxSpares) return;
    used.clear();
    spares_.push_back(std::move(used));
  }

 private:
  static constexpr std::size_t kMaxSpareSize = 65536;
  static constexpr std::size_t kMaxSpares = 16;

  std::unique_ptr<char[]> read_;
  std::vector<std::string> spares_;
};

}  // namespace torsion::detail
