// Connects to basic_server. Usage: basic_client [ENDPOINT]
#include <memory>

#include <examples/arguments.hpp>
#include <protocols/amp.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/task.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return react([&](Reactor& reactor) {
    auto endpoint = clientFromString(reactor, argument(argc, argv, 1, "tcp:127.0.0.1:8750"));
    return connectProtocol(*endpoint, std::make_shared<amp::AMP>()).addCallback([](std::shared_ptr<amp::AMP>) {});
  });
}
