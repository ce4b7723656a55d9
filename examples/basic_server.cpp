// An AMP server that has no commands yet. Usage: basic_server [ENDPOINT]
#include <memory>

#include <examples/arguments.hpp>
#include <protocols/amp.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/service.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) {
    return std::make_shared<StreamServerEndpointService>(serverFromString(reactor, argument(argc, argv, 1, "tcp:8750")),
                                                         forProtocol<amp::AMP>());
  });
}
