// Services: the parts of a program that are started and stopped together (twisted.application.service and internet).
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <deferred/time.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>

namespace torsion {

class MultiService;

/// Derive from it, and call these from what you override. Made with std::make_shared.
class Service : public std::enable_shared_from_this<Service> {
 public:
  Service() noexcept = default;
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  virtual ~Service() = default;

  /// What it throws ends a start: see MultiService and runService.
  virtual void startService() { running_ = true; }
  /// Fires when it has come to rest.
  virtual Deferred<void> stopService() {
    running_ = false;
    return succeed();
  }
  bool running() const noexcept { return running_; }

  /// Of use with MultiService::getServiceNamed. Throws std::logic_error once it has a parent.
  void setName(std::string name);
  const std::string& name() const noexcept { return name_; }
  MultiService* parent() const noexcept { return parent_; }
  /// As parent.addService(this), after disownServiceParent().
  void setServiceParent(MultiService& parent);
  /// As parent()->removeService(this). Throws std::logic_error if there is none.
  Deferred<void> disownServiceParent();

 protected:
  void setRunning(bool running) noexcept { running_ = running; }

 private:
  friend class MultiService;
  bool running_ = false;
  std::string name_;
  MultiService* parent_ = nullptr;
};

/// Starts its services in the order in which they were added, and stops them in the reverse order.
///
///   auto all = std::make_shared<MultiService>();
///   all->addService(std::make_shared<TimerService>(60s, [] { sweep(); }));
///   all->addService(std::make_shared<StreamServerEndpointService>(endpoint, factory));
class MultiService : public Service {
 public:
  ~MultiService() override;

  /// If one throws, those that have been started are stopped, and this throws what it threw.
  void startService() override;
  /// Stops all, none waiting for another. Fires when all have come to rest; an error of one is logged.
  Deferred<void> stopService() override;

  /// Keeps `service`, starts it if this is running, and returns it. Throws std::logic_error if it has a parent, or
  /// there is one of that name.
  template <class S>
  std::shared_ptr<S> addService(std::shared_ptr<S> service) {
    add(service);
    return service;
  }
  /// Stops it if this is running, and fires when it has come to rest. Throws std::logic_error if it is not here.
  Deferred<void> removeService(Service& service);
  /// Throws std::out_of_range.
  std::shared_ptr<Service> getServiceNamed(const std::string& name) const;
  const std::vector<std::shared_ptr<Service>>& services() const noexcept { return services_; }

 private:
  void add(std::shared_ptr<Service> service);
  std::vector<std::shared_ptr<Service>> services_;
};

/// Calls a function every `step`, at once at first (see LoopingCall). What it throws, or its Deferred fails with, is
/// logged, and ends the calls.
class TimerService final : public Service {
 public:
  template <class F>
  TimerService(Duration step, F f, Time& time = reactor()) : step_(step), loop_(std::move(f), time) {}

  void startService() override;
  /// Fires when a call that is under way has ended.
  Deferred<void> stopService() override;

 private:
  Duration step_;
  LoopingCall loop_;
  Deferred<void> finished_ = succeed();
};

/// A server at an endpoint.
class StreamServerEndpointService final : public Service {
 public:
  StreamServerEndpointService(std::shared_ptr<StreamServerEndpoint> endpoint, std::shared_ptr<Factory> factory) noexcept
      : endpoint_(std::move(endpoint)), factory_(std::move(factory)) {}

  /// Throws what listening fails with (CannotListenError), if it fails at once; a later failure is logged.
  void startService() override;
  /// Fires when no more connections will be accepted; those that are open stay.
  Deferred<void> stopService() override;
  /// What it listens with; null while it does not.
  const std::shared_ptr<ListeningPort>& port() const noexcept { return port_; }

 private:
  std::shared_ptr<StreamServerEndpoint> endpoint_;
  std::shared_ptr<Factory> factory_;
  Deferred<void> listening_ = succeed();
  std::shared_ptr<ListeningPort> port_;
};

/// A daemon's main(): makes its service, starts it and runs the reactor; SIGINT, SIGTERM or stop() stop the service,
/// then the reactor. Returns the exit status: 0, or 1 if the service could not be made or started, or did not come to
/// rest within `stopWithin` or failed in it; all of that is logged. Under systemd (Type=notify; $NOTIFY_SOCKET) it
/// tells when it is ready and when it stops.
///
///   int main() {
///     return runService([](Reactor& reactor) {
///       auto all = std::make_shared<MultiService>();
///       ...
///       return all;
///     });
///   }
int runService(const std::function<std::shared_ptr<Service>(Reactor&)>& make,
               Duration stopWithin = std::chrono::seconds(30), Reactor& reactor = torsion::reactor());

}  // namespace torsion
