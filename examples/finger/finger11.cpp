// Step 11: a service, as a daemon runs it. Usage: finger11 [ENDPOINT]
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

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

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    auto users = std::make_shared<Users>(std::map<std::string, std::string>{{"moshez", "Happy and well"}});
    return std::make_shared<StreamServerEndpointService>(serverFromString(reactor, argument(argc, argv, 1, "tcp:79")),
                                                         forProtocol<FingerProtocol>(users));
  });
}
