#include <reactor/client_service.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <random>
#include <stdexcept>

#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

const Logger kLog("torsion.service");

double uniform() {
  thread_local std::mt19937 generator{std::random_device()()};
  return std::uniform_real_distribution<double>()(generator);
}

}  // namespace

RetryPolicy backoffPolicy(Duration initialDelay, Duration maxDelay, double factor, Duration jitter) {
  return [=](int attempt) {
    const double delay = static_cast<double>(initialDelay.count()) * std::pow(factor, std::min(attempt, 100));
    const bool most = !(delay < static_cast<double>(maxDelay.count()));
    return (most ? maxDelay : Duration(static_cast<Duration::rep>(delay))) +
           Duration(static_cast<Duration::rep>(static_cast<double>(jitter.count()) * uniform()));
  };
}

ClientService::ClientService(std::shared_ptr<StreamClientEndpoint> endpoint, std::shared_ptr<Factory> factory,
                             ClientServiceOptions options, Time& time)
    : endpoint_(std::move(endpoint)), factory_(std::move(factory)), options_(std::move(options)), time_(time) {}

ClientService::~ClientService() {
  if (retry_.active()) retry_.cancel();
  attempt_.cancel();
  if (connection_) connection_->transport().loseConnection();
}

// The service may be gone when it is called.
template <class F>
auto ClientService::ifAlive(F f) {
  return [weak = weak_from_this(), f = std::move(f)](auto&&... args) mutable
    requires std::invocable<F&, decltype(args)...>
  {
    if (const auto self = weak.lock()) f(std::forward<decltype(args)>(args)...);
  };
}

void ClientService::startService() {
  Service::startService();
  if (state_ == State::disconnecting) {
    failures_ = 0;
    state_ = State::restarting;
  } else if (state_ == State::initial || state_ == State::stopped) {
    connect();
  }
}

Deferred<void> ClientService::stopService() {
  setRunning(false);
  if (state_ == State::initial || state_ == State::stopped) {
    state_ = State::stopped;
    return succeed();
  }
  Deferred<void> done = stopWaiters_.emplace_back().deferred();
  switch (state_) {
    case State::waiting:
      if (retry_.active()) retry_.cancel();  // not if the retryPolicy threw
      finishStopping(State::stopped);
      break;
    case State::connecting:
      state_ = State::disconnecting;
      attempt_.cancel();  // ends in connectionFailed()
      break;
    case State::connected:
      state_ = State::disconnecting;
      connection_->transport().loseConnection();
      break;
    default:
      state_ = State::disconnecting;
  }
  return done;
}

Deferred<std::shared_ptr<Protocol>> ClientService::whenConnected(std::optional<int> failAfterFailures) {
  if (failAfterFailures && *failAfterFailures < 1) {
    throw std::invalid_argument("whenConnected: failAfterFailures is at least 1");
  }
  if (state_ == State::connected) return succeed(connection_);
  if (state_ == State::stopped) return fail<std::shared_ptr<Protocol>>(CancelledError());
  return waiters_.emplace_back(Waiter{Resolver<std::shared_ptr<Protocol>>(), failAfterFailures}).resolver.deferred();
}

void ClientService::connect() {
  state_ = State::connecting;
  auto connected = maybeDeferred([this] { return endpoint_->connect(factory_); });
  auto attempt =
      std::move(connected).addCallback([prepare = options_.prepareConnection](std::shared_ptr<Protocol> protocol) {
        if (!prepare) return succeed(std::move(protocol));
        return maybeDeferred(prepare, protocol)
            .addCallbacks([protocol] { return protocol; },
                          [protocol](const Failure& f) {
                            protocol->transport().loseConnection();
                            return Result<std::shared_ptr<Protocol>>(f);
                          });
      });
  attempt_ = attempt.canceller();
  std::move(attempt).addCallbacks(ifAlive([this](std::shared_ptr<Protocol> p) { connectionMade(std::move(p)); }),
                                  ifAlive([this](const Failure& f) { connectionFailed(f); }));
}

void ClientService::connectionMade(std::shared_ptr<Protocol> protocol) {
  failures_ = 0;
  connection_ = std::move(protocol);
  if (!connection_->connected()) {  // lost while it was prepared
    state_ = State::connected;
    return disconnected();
  }
  connection_->notifyOnDisconnect(ifAlive([this] { disconnected(); }));
  if (state_ == State::disconnecting || state_ == State::restarting) {
    return connection_->transport().loseConnection();
  }
  state_ = State::connected;
  const auto current = connection_;
  for (auto& waiter : std::exchange(waiters_, {})) waiter.resolver.callback(current);
}

void ClientService::connectionFailed(const Failure& reason) {
  if (state_ == State::disconnecting) return finishStopping(State::stopped);
  if (state_ == State::restarting) return finishStopping(State::connecting);
  wait();
  std::vector<Waiter> waiting;
  std::vector<Waiter> failed;
  for (auto& waiter : std::exchange(waiters_, {})) {
    if (waiter.resolver.called()) continue;  // cancelled
    const bool last = waiter.failuresLeft && --*waiter.failuresLeft == 0;
    (last ? failed : waiting).push_back(std::move(waiter));
  }
  waiters_ = std::move(waiting);
  for (auto& waiter : failed) waiter.resolver.errback(reason);
}

void ClientService::disconnected() {
  connection_.reset();
  if (state_ == State::disconnecting) return finishStopping(State::stopped);
  if (state_ == State::restarting) return finishStopping(State::connecting);
  wait();
}

void ClientService::wait() {
  state_ = State::waiting;
  const Duration delay = options_.retryPolicy(++failures_);
  kLog.info("Retry {attempt} to connect in {seconds} s",
            {{"attempt", failures_}, {"seconds", std::chrono::duration<double>(delay).count()}});
  try {
    retry_ = time_.callLater(delay, ifAlive([this] { connect(); }));
  } catch (const ReactorNotRunning&) {
    // The reactor is being destroyed, which is why the connection went.
  }
}

void ClientService::finishStopping(State next) {
  state_ = next;
  const auto stopped = std::exchange(stopWaiters_, {});
  if (next == State::connecting) {
    connect();
  } else {
    for (auto& waiter : std::exchange(waiters_, {})) waiter.resolver.errback(CancelledError());
  }
  for (const auto& waiter : stopped) waiter.callback();
}

}  // namespace torsion
