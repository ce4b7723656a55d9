// Step 13: what knows the users is a service, too. Usage: finger13 [ENDPOINT [SETTER_ENDPOINT]]
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/service.hpp>

using namespace torsion;

class FingerService : public Service {
 public:
  explicit FingerService(std::map<std::string, std::string> statuses) : statuses_(std::move(statuses)) {}
  Deferred<std::string> getUser(std::string_view user) const {
    const auto found = statuses_.find(std::string(user));
    return succeed(found == statuses_.end() ? std::string("No such user") : found->second);
  }
  void setUser(std::string_view user, std::string_view status) {
    statuses_.insert_or_assign(std::string(user), status);
  }

 private:
  std::map<std::string, std::string> statuses_;
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

class FingerSetterProtocol : public LineReceiver {
 public:
  explicit FingerSetterProtocol(std::shared_ptr<FingerService> service) : service_(std::move(service)) {}
  void lineReceived(std::string_view line) override {
    if (lines_.size() < 2) lines_.emplace_back(line);
  }
  void connectionLost(const Failure&) override {
    if (lines_.size() == 2) service_->setUser(lines_[0], lines_[1]);
  }

 private:
  std::shared_ptr<FingerService> service_;
  std::vector<std::string> lines_;
};

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    auto all = std::make_shared<MultiService>();
    auto finger = all->addService(
        std::make_shared<FingerService>(std::map<std::string, std::string>{{"moshez", "Happy and well"}}));
    all->addService(std::make_shared<StreamServerEndpointService>(
        serverFromString(reactor, argument(argc, argv, 1, "tcp:79")), forProtocol<FingerProtocol>(finger)));
    all->addService(std::make_shared<StreamServerEndpointService>(
        serverFromString(reactor, argument(argc, argv, 2, "tcp:1079")), forProtocol<FingerSetterProtocol>(finger)));
    return all;
  });
}
