// Step 8: the answer may come later: getUser gives a Deferred.
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/functions.hpp>
#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

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

int main() {
  auto users = std::make_shared<Users>(std::map<std::string, std::string>{{"moshez", "Happy and well"}});
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>(users));
  reactor().run();
}
