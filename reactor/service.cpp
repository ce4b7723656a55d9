#include <reactor/service.hpp>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string_view>

#include <deferred/detail/require.hpp>
#include <deferred/list.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

const Logger kLog("torsion.service");

Deferred<void> stopped(Service& service) {
  return maybeDeferred([&] { return service.stopService(); });
}

// sd_notify(3). Nobody need be there to hear.
void notifySystemd(std::string_view state) {
  const char* path = ::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = path ? std::string_view(path).copy(address.sun_path, sizeof address.sun_path) : 0;
  if (size == 0 || size == sizeof address.sun_path) return;
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const detail::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  if (::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), length) < 0) {
    kLog.warn("$NOTIFY_SOCKET ({path}) cannot be told {state}", {{"path", path}, {"state", state}});
  }
}

}  // namespace

// ---- Service and MultiService

void Service::setName(std::string name) {
  if (parent_) throw std::logic_error("setName: the service has a parent, which knows it by its name");
  name_ = std::move(name);
}

void Service::setServiceParent(MultiService& parent) {
  const auto self = shared_from_this();
  if (parent_) disownServiceParent();
  parent.addService(self);
}

Deferred<void> Service::disownServiceParent() {
  if (!parent_) throw std::logic_error("disownServiceParent: the service has no parent");
  return parent_->removeService(*this);
}

MultiService::~MultiService() {
  for (const auto& service : services_) service->parent_ = nullptr;
}

void MultiService::startService() {
  Service::startService();
  const auto all = services_;
  for (auto it = all.begin(); it != all.end(); ++it) {
    try {
      (*it)->startService();
    } catch (...) {
      setRunning(false);
      while (it != all.begin()) {
        stopped(**--it).addErrback([](const Failure& f) { kLog.failure("A service failed to stop", f); });
      }
      throw;
    }
  }
}

Deferred<void> MultiService::stopService() {
  setRunning(false);
  std::vector<Deferred<void>> stopping;
  const auto all = services_;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    stopping.push_back(stopped(**it).addErrback([](const Failure& f) { kLog.failure("A service failed to stop", f); }));
  }
  return DeferredList(std::move(stopping)).addCallback([](const auto&) {});
}

void MultiService::add(std::shared_ptr<Service> service) {
  detail::require(service, "addService: there is no service");
  if (service->parent_) throw std::logic_error("addService: the service has a parent; disownServiceParent() first");
  for (const auto& other : services_) {
    if (!service->name().empty() && other->name() == service->name()) {
      throw std::logic_error("addService: there is a service named " + service->name());
    }
  }
  service->parent_ = this;
  services_.push_back(service);
  if (running()) service->startService();
}

Deferred<void> MultiService::removeService(Service& service) {
  const auto found =
      std::find_if(services_.begin(), services_.end(), [&](const auto& s) { return s.get() == &service; });
  if (found == services_.end()) throw std::logic_error("removeService: the service is not here");
  const auto kept = *found;
  services_.erase(found);
  kept->parent_ = nullptr;
  if (!running()) return succeed();
  return stopped(*kept).addBoth([kept](Result<void> result) { return result; });
}

std::shared_ptr<Service> MultiService::getServiceNamed(const std::string& name) const {
  for (const auto& service : services_) {
    if (service->name() == name) return service;
  }
  throw std::out_of_range("getServiceNamed: there is no service named " + name);
}

// ---- TimerService and StreamServerEndpointService

void TimerService::startService() {
  Service::startService();
  finished_ = loop_.start(step_).addErrback(
      [](const Failure& f) { kLog.failure("The function of a TimerService failed, and is called no more", f); });
}

Deferred<void> TimerService::stopService() {
  if (loop_.running()) loop_.stop();
  setRunning(false);
  return std::exchange(finished_, succeed());
}

void StreamServerEndpointService::startService() {
  Service::startService();
  struct Start {
    bool underWay = true;
    std::optional<Failure> failure;
  };
  const auto start = std::make_shared<Start>();
  listening_ = endpoint_->listen(factory_).addCallbacks(
      [this, self = weak_from_this()](std::shared_ptr<ListeningPort> port) {
        if (self.lock()) port_ = std::move(port);
      },
      [start](const Failure& f) {
        if (start->underWay) {
          start->failure = f;
        } else if (!f.check<CancelledError>()) {
          kLog.failure("A server cannot listen", f);
        }
      });
  start->underWay = false;
  if (!start->failure) return;
  setRunning(false);
  start->failure->raise();
}

Deferred<void> StreamServerEndpointService::stopService() {
  setRunning(false);
  listening_.cancel();
  return std::exchange(listening_, succeed()).addBoth([this, self = shared_from_this()](Result<void>) {
    const auto port = std::exchange(port_, nullptr);
    return port ? port->stopListening() : succeed();
  });
}

// ---- runService

int runService(const std::function<std::shared_ptr<Service>(Reactor&)>& make, Duration stopWithin, Reactor& reactor) {
  int status = 0;
  std::shared_ptr<Service> service;
  const auto start = [&] {
    try {
      service = make(reactor);
      service->startService();
      notifySystemd("READY=1");
    } catch (...) {
      status = 1;
      service.reset();
      kLog.failure("The service cannot be started", Failure::current());
      reactor.stop();
    }
  };
  reactor.addSystemEventTrigger(Phase::before, SystemEvent::shutdown, [&]() -> Deferred<void> {
    if (!service) return succeed();
    notifySystemd("STOPPING=1");
    return stopped(*service).addTimeout(stopWithin, reactor).addErrback([&](const Failure& f) {
      status = 1;
      kLog.failure("The service did not stop well", f);
    });
  });
  reactor.callWhenRunning(start);
  reactor.run();
  return status;
}

}  // namespace torsion
