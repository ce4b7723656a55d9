// Asks a calculator for the four results of two numbers. Usage: client PORT A B
#include <cstdint>
#include <iostream>
#include <memory>

#include <deferred/list.hpp>
#include <examples/arguments.hpp>
#include <examples/calculus/client.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>

using namespace torsion;

Deferred<void> calculate(std::uint16_t port, std::int64_t a, std::int64_t b) {
  TCP4ClientEndpoint endpoint("127.0.0.1", port);
  auto client = co_await connectProtocol(endpoint, std::make_shared<RemoteCalculationClient>());
  auto results = gatherResults(client->add(a, b), client->subtract(a, b), client->multiply(a, b), client->divide(a, b));
  const auto [sum, difference, product, quotient] = co_await std::move(results);
  std::cout << sum << '\n' << difference << '\n' << product << '\n' << quotient << '\n';
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: client PORT A B\n";
    return 2;
  }
  return react([&](Reactor&) {
    return calculate(portArgument(argc, argv, 1, 0), Operand(argv[2]).value(), Operand(argv[3]).value());
  });
}
