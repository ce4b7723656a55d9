// Step 6: asks an object that all connections share, which knows nobody.
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct Users {
  std::string getUser(std::string_view) const { return "No such user"; }
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
  auto users = std::make_shared<Users>();
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>(users));
  reactor().run();
}
