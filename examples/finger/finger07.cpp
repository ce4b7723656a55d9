// Step 7: the shared object knows somebody.
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class Users {
 public:
  explicit Users(std::map<std::string, std::string> statuses) : statuses_(std::move(statuses)) {}
  std::string getUser(std::string_view user) const {
    const auto found = statuses_.find(std::string(user));
    return found == statuses_.end() ? "No such user" : found->second;
  }

 private:
  std::map<std::string, std::string> statuses_;
};

class FingerProtocol : public LineReceiver {
 public:
  explicit FingerProtocol(std::shared_ptr<Users> users) : users_(std::move(users)) {}
  void lineReceived(std::string_view user) override {
    sendLine(users_->getUser(user));
    transport().loseConnection();
  }

 private:
  std::shared_ptr<Users> users_;
};

int main() {
  auto users = std::make_shared<Users>(std::map<std::string, std::string>{{"moshez", "Happy and well"}});
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>(users));
  reactor().run();
}
