// A user's program, outside the tree: built by test/checks/install.py against an installed copy.
#include <chrono>
#include <iostream>

#include <deferred/deferred.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>

using namespace std::chrono_literals;
using namespace torsion;

Deferred<void> work() {
  co_await deferLater(reactor(), 1ms);
  std::cout << "it works\n";
}

int main() {
  work().addErrback([](const Failure& failure) { std::cout << failure.getErrorMessage() << '\n'; }).addBoth([] {
    reactor().stop();
  });
  reactor().run();
}
