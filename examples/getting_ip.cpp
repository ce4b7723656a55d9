// Looks up the addresses of a name. Usage: getting_ip [NAME]
#include <iostream>
#include <string>
#include <vector>

#include <examples/arguments.hpp>
#include <reactor/task.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  const std::string name = argument(argc, argv, 1, "localhost");
  return react([&](Reactor& reactor) {
    return reactor.resolve(name).addCallback([&](std::vector<Address> addresses) {
      for (const Address& address : addresses) {
        if (auto* v4 = std::get_if<IPv4Address>(&address))
          std::cout << "IP of '" << name << "' is " << v4->host << '\n';
        if (auto* v6 = std::get_if<IPv6Address>(&address))
          std::cout << "IP of '" << name << "' is " << v6->host << '\n';
      }
    });
  });
}
