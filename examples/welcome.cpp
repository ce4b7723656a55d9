// The simplest use of a connection: sends a welcome, and closes. Usage: welcome [ENDPOINT]
#include <memory>

#include <examples/arguments.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>

using namespace torsion;

struct WelcomeMessage : Protocol {
  void connectionMade() override {
    transport().write("Hello server, I am the client!\r\n");
    transport().loseConnection();
  }
  void connectionLost(const Failure&) override { done.callback(); }
  Resolver<void> done;
};

int main(int argc, char** argv) {
  return react([&](Reactor& reactor) -> Deferred<void> {
    auto endpoint = clientFromString(reactor, argument(argc, argv, 1, "tcp:localhost:1234"));
    auto welcome = co_await connectProtocol(*endpoint, std::make_shared<WelcomeMessage>());
    co_await welcome->done.deferred();
  });
}
