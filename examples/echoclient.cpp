// Sends three lines, and prints what comes back. Usage: echoclient [PORT [HOST]]
#include <memory>

#include <examples/arguments.hpp>
#include <examples/echoclient.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    TCP4ClientEndpoint endpoint(argument(argc, argv, 2, "127.0.0.1"), portArgument(argc, argv, 1, 8000));
    return connectProtocol(endpoint, std::make_shared<EchoClient>())
        .addCallback([](std::shared_ptr<EchoClient> client) { return client->whenDone(); });
  });
}
