// Step 10: asks a web server. Usage: finger10 [PREFIX]
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <protocols/http/get_page.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class Users {
 public:
  explicit Users(std::string prefix) : prefix_(std::move(prefix)) {}
  Deferred<std::string> getUser(std::string_view user) const { return getPage(prefix_ + std::string(user)); }

 private:
  std::string prefix_;
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
  auto users = std::make_shared<Users>(argument(argc, argv, 1, "http://livejournal.com/~"));
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>(users));
  reactor().run();
}
