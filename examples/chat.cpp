// A chat of users with names: a protocol with states, and a table that connections share. Usage: chat [PORT]
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class Chat : public LineReceiver {
 public:
  using Users = std::map<std::string, Chat*>;  // by name
  explicit Chat(std::shared_ptr<Users> users) : users_(std::move(users)) {}

  void connectionMade() override {
    transport().setWriteLimit(1 << 20);  // one who does not read is dropped
    sendLine("What's your name?");
  }
  void connectionLost(const Failure&) override {
    if (state_ == State::chat) users_->erase(name_);
  }
  void lineReceived(std::string_view line) override {
    if (state_ == State::getName) {
      handleGetName(std::string(line));
    } else {
      handleChat(line);
    }
  }

 private:
  enum class State { getName, chat };

  void handleGetName(std::string name) {
    if (!users_->emplace(name, this).second) return sendLine("Name taken, please choose another.");
    sendLine("Welcome, " + name + "!");
    name_ = std::move(name);
    state_ = State::chat;
  }
  void handleChat(std::string_view message) {
    for (const auto& [name, user] : *users_) {
      if (user != this) user->sendLine("<" + name_ + "> " + std::string(message));
    }
  }

  std::shared_ptr<Users> users_;
  std::string name_;
  State state_ = State::getName;
};

int main(int argc, char** argv) {
  auto users = std::make_shared<Chat::Users>();
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 8123), forProtocol<Chat>(users));
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
