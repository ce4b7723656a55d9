#include <reactor/reconnecting.hpp>

#include <algorithm>
#include <random>

#include <reactor/error.hpp>

namespace torsion {
namespace {

double normal() {
  thread_local std::mt19937 generator{std::random_device()()};
  return std::normal_distribution<double>()(generator);
}

Duration scaled(Duration delay, double factor, Duration most) {
  const double scaled = static_cast<double>(delay.count()) * factor;
  // In floating point: the product may not fit a Duration.
  if (scaled >= static_cast<double>(most.count())) return most;
  return std::max(Duration::zero(), Duration(static_cast<Duration::rep>(scaled)));
}

}  // namespace

ReconnectingClientFactory::~ReconnectingClientFactory() {
  if (call_.active()) call_.cancel();
}

void ReconnectingClientFactory::clientConnectionFailed(Connector& connector, const Failure&) {
  retry(connector);
}
void ReconnectingClientFactory::clientConnectionLost(Connector& connector, const Failure&) {
  retry(connector);
}

void ReconnectingClientFactory::retry(Connector& connector) {
  connector_ = connector.weak_from_this();
  if (!trying_ || (maxRetries && retries_ >= *maxRetries)) return;
  ++retries_;
  if (delay_ == Duration::zero()) delay_ = std::min(initialDelay, maxDelay);
  const Duration wait = jitter == 0 ? delay_ : scaled(delay_, 1 + jitter * normal(), Duration::max());
  delay_ = scaled(delay_, factor, maxDelay);
  if (call_.active()) call_.cancel();
  try {
    call_ = time_.callLater(wait, [again = connector.shared_from_this()] { again->connect(); }, where_);
  } catch (const ReactorNotRunning&) {
    // The reactor is being destroyed, which is why the connection went.
  }
}

void ReconnectingClientFactory::stopTrying() {
  trying_ = false;
  if (call_.active()) call_.cancel();
  if (const auto connector = connector_.lock()) {
    try {
      connector->stopConnecting();
    } catch (const NotConnectingError&) {
    }
  }
}

void ReconnectingClientFactory::resetDelay() noexcept {
  delay_ = Duration::zero();
  retries_ = 0;
  trying_ = true;
}

}  // namespace torsion
