// Canceller: a stop button for a Deferred that is somebody else's by now.
#pragma once

#include <utility>

#include <deferred/detail/chain.hpp>

namespace torsion {

/// Made by Deferred::canceller(). Copyable; keeps nothing alive.
class Canceller {
 public:
  Canceller() noexcept = default;
  explicit Canceller(detail::Chain& chain) noexcept : chain_(&chain) { chain_->addWatcher(); }
  Canceller(const Canceller& other) noexcept : chain_(other.chain_) {
    if (chain_) chain_->addWatcher();
  }
  Canceller(Canceller&& other) noexcept : chain_(std::exchange(other.chain_, nullptr)) {}
  Canceller& operator=(Canceller other) noexcept {
    std::swap(chain_, other.chain_);
    return *this;
  }
  ~Canceller() {
    if (chain_) chain_->dropWatcher();
  }

  /// As Deferred::cancel(); nothing if that Deferred's chain has ended.
  void cancel() const {
    if (chain_ && !chain_->dead()) chain_->cancel();
  }

 private:
  detail::Chain* chain_ = nullptr;
};

}  // namespace torsion
