// A client for one conversation: connectProtocol gives the connected protocol. Usage: greeter [ENDPOINT]
#include <chrono>
#include <memory>
#include <string>

#include <examples/arguments.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>

using namespace torsion;
using namespace std::chrono_literals;

struct Greeter : Protocol {
  void sendMessage(const std::string& message) { transport().write("MESSAGE " + message + "\n"); }
};

int main(int argc, char** argv) {
  return react([&](Reactor& reactor) -> Deferred<void> {
    auto endpoint = clientFromString(reactor, argument(argc, argv, 1, "tcp:localhost:1234"));
    auto greeter = co_await connectProtocol(*endpoint, std::make_shared<Greeter>());
    greeter->sendMessage("Hello");
    co_await deferLater(reactor, 1s);
    greeter->sendMessage("This is sent in a second");
    co_await deferLater(reactor, 1s);
    greeter->transport().loseConnection();
  });
}
