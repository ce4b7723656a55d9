// Step 12: a second port, to set what is answered. Usage: finger12 [ENDPOINT [SETTER_ENDPOINT]]
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

class Users {
 public:
  explicit Users(std::map<std::string, std::string> statuses) : statuses_(std::move(statuses)) {}
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
  explicit FingerProtocol(std::shared_ptr<Users> users) : users_(std::move(users)) {}
  void lineReceived(std::string_view user) override {
    users_->getUser(user)
        .addErrback([](const Failure&) { return std::string("Internal error in server"); })
        .addCallback(hold([this](const std::string& status) {
          sendLine(status);
          transport().loseConnection();
        }));
  }

 private:
  std::shared_ptr<Users> users_;
};

class FingerSetterProtocol : public LineReceiver {
 public:
  explicit FingerSetterProtocol(std::shared_ptr<Users> users) : users_(std::move(users)) {}
  void lineReceived(std::string_view line) override {
    if (lines_.size() < 2) lines_.emplace_back(line);
  }
  void connectionLost(const Failure&) override {
    if (lines_.size() == 2) users_->setUser(lines_[0], lines_[1]);
  }

 private:
  std::shared_ptr<Users> users_;
  std::vector<std::string> lines_;
};

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    auto users = std::make_shared<Users>(std::map<std::string, std::string>{{"moshez", "Happy and well"}});
    auto all = std::make_shared<MultiService>();
    all->addService(std::make_shared<StreamServerEndpointService>(
        serverFromString(reactor, argument(argc, argv, 1, "tcp:79")), forProtocol<FingerProtocol>(users)));
    all->addService(std::make_shared<StreamServerEndpointService>(
        serverFromString(reactor, argument(argc, argv, 2, "tcp:1079")), forProtocol<FingerSetterProtocol>(users)));
    return all;
  });
}
