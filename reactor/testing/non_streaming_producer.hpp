// NonStreamingProducer: a pull producer for tests of what consumes (twisted.internet.testing).
#pragma once

#include <stdexcept>
#include <string>

#include <deferred/deferred.hpp>
#include <deferred/resolver.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// Writes "0" to "9", one each time that it is asked, then unregisters itself. Wrong use throws std::logic_error.
///
///   NonStreamingProducer producer(transport);
///   transport.registerProducer(producer, false);
class NonStreamingProducer final : public Producer {
 public:
  explicit NonStreamingProducer(Transport& consumer) noexcept : consumer_(&consumer) {}

  /// How many it has written.
  int counter() const noexcept { return counter_; }
  /// True once stopProducing() was called.
  bool stopped() const noexcept { return stopped_; }
  /// Fires when it has written all or was stopped. Once.
  Deferred<void> result() { return result_.deferred(); }

  void resumeProducing() override {
    if (!consumer_) throw std::logic_error("NonStreamingProducer: asked for more after it was done or stopped");
    consumer_->write(std::to_string(counter_));
    if (++counter_ < 10) return;
    consumer_->unregisterProducer();
    done();
  }
  void pauseProducing() override { throw std::logic_error("NonStreamingProducer: a pull producer is never paused"); }
  void stopProducing() override {
    stopped_ = true;
    done();
  }

 private:
  void done() {
    consumer_ = nullptr;
    if (!result_.called()) result_.callback();
  }

  Transport* consumer_;
  Resolver<void> result_;
  int counter_ = 0;
  bool stopped_ = false;
};

}  // namespace torsion
