// The most basic chat: what one says all get. Usage: chatserver [ENDPOINT]; connect with several telnets.
#include <iostream>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/service.hpp>

using namespace torsion;

class MyChat : public LineReceiver {
 public:
  using Clients = std::set<MyChat*>;
  explicit MyChat(std::shared_ptr<Clients> clients) : clients_(std::move(clients)) {}

  void connectionMade() override {
    std::cout << "Got new client!" << std::endl;
    transport().setWriteLimit(1 << 20);  // one who does not read is dropped
    clients_->insert(this);
  }
  void connectionLost(const Failure&) override {
    std::cout << "Lost a client!" << std::endl;
    clients_->erase(this);
  }
  void lineReceived(std::string_view line) override {
    std::cout << "received " << line << std::endl;
    for (MyChat* client : *clients_) client->message(line);
  }
  void message(std::string_view message) {
    transport().write(message);
    transport().write("\n");
  }

 private:
  std::shared_ptr<Clients> clients_;
};

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    return std::make_shared<StreamServerEndpointService>(serverFromString(reactor, argument(argc, argv, 1, "tcp:1025")),
                                                         forProtocol<MyChat>(std::make_shared<MyChat::Clients>()));
  });
}
