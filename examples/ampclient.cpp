// Asks ampserver for a sum and a division by zero, over a connection each. Usage: ampclient [PORT [HOST]]
#include <iostream>
#include <limits>
#include <memory>
#include <tuple>

#include <deferred/list.hpp>
#include <examples/ampserver.hpp>
#include <examples/arguments.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    TCP4ClientEndpoint destination(argument(argc, argv, 2, "127.0.0.1"), portArgument(argc, argv, 1, 1234));
    auto sum = connectProtocol(destination, std::make_shared<amp::AMP>())
                   .addCallback([](std::shared_ptr<amp::AMP> amp) { return amp->callRemote<Sum>({13, 81}); })
                   .addCallback([](Sum::Response response) { return response.total; });
    auto quotient = connectProtocol(destination, std::make_shared<amp::AMP>())
                        .addCallback([](std::shared_ptr<amp::AMP> amp) { return amp->callRemote<Divide>({1234, 0}); })
                        .addCallback([](Divide::Response response) { return response.result; })
                        .addErrback([](const ZeroDivisionError&) {
                          std::cout << "Divided by zero: returning INF\n";
                          return std::numeric_limits<double>::infinity();
                        });
    return gatherResults(std::move(sum), std::move(quotient)).addCallback([](std::tuple<std::int64_t, double> results) {
      std::cout << "Done with math: " << std::get<0>(results) << ", " << std::get<1>(results) << '\n';
    });
  });
}
