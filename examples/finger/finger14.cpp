// Step 14: the service reads a file, again and again. Usage: finger14 [FILE [ENDPOINT [SECONDS]]]
#include <chrono>
#include <cstddef>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <deferred/time.hpp>
#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/service.hpp>

using namespace torsion;

std::string strip(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

class FingerService : public Service {
 public:
  FingerService(std::string fileName, Duration interval) : fileName_(std::move(fileName)), interval_(interval) {}
  void startService() override {
    read();
    readAgain();
    Service::startService();
  }
  Deferred<void> stopService() override {
    call_.cancel();
    return Service::stopService();
  }
  Deferred<std::string> getUser(std::string_view user) const {
    const auto found = statuses_.find(std::string(user));
    return succeed(found == statuses_.end() ? std::string("No such user") : found->second);
  }

 private:
  void read() {
    std::ifstream file(fileName_);
    if (!file) throw std::runtime_error("cannot read " + fileName_);
    std::map<std::string, std::string> statuses;
    for (std::string user, status; std::getline(file, user, ':') && std::getline(file, status);) {
      statuses.insert_or_assign(strip(user), strip(status));
    }
    statuses_ = std::move(statuses);
  }
  void readAgain() {
    call_ = reactor().callLater(interval_, [this] {
      readAgain();
      read();
    });
  }

  std::string fileName_;
  Duration interval_;
  std::map<std::string, std::string> statuses_;
  DelayedCall call_;
};

class FingerProtocol : public LineReceiver {
 public:
  explicit FingerProtocol(std::shared_ptr<FingerService> service) : service_(std::move(service)) {}
  void lineReceived(std::string_view user) override {
    service_->getUser(user)
        .addErrback([](const Failure&) { return std::string("Internal error in server"); })
        .addCallback(hold([this](const std::string& status) {
          sendLine(status);
          transport().loseConnection();
        }));
  }

 private:
  std::shared_ptr<FingerService> service_;
};

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    auto all = std::make_shared<MultiService>();
    auto finger = std::make_shared<FingerService>(argument(argc, argv, 1, "/etc/users"),
                                                  std::chrono::seconds(std::stol(argument(argc, argv, 3, "30"))));
    all->addService(std::make_shared<StreamServerEndpointService>(
        serverFromString(reactor, argument(argc, argv, 2, "tcp:79")), forProtocol<FingerProtocol>(finger)));
    all->addService(finger);
    return all;
  });
}
