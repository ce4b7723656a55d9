// The testing kit without a test framework: a program that fails by its exit status.
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include <deferred/functions.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/fixture.hpp>
#include <test/runners/greeter.hpp>

using namespace torsion;
using namespace std::chrono_literals;

int main() {
  int failed = 0;
  const auto check = [&](bool ok, const char* what) {
    if (!ok) std::cerr << "failed: " << what << '\n', ++failed;
  };
  {
    TestFixture fixture;
    auto client = std::make_shared<AccumulatingProtocol>();
    fixture.connect(client, std::make_shared<Greeter>()).flush();
    check(client->data == "hello", "the greeting");
    client->transport().loseConnection();
    fixture.reactor.flush();
    for (const auto& problem : fixture.finish()) check(false, problem.c_str());
  }
  {
    TestFixture fixture;
    fixture.reactor.callLater(1s, [] {});
    check(fixture.finish().size() == 1, "a call that is left is reported");
  }
  try {
    successResultOf(fail<int>(std::runtime_error("x")));
    check(false, "successResultOf of a failure throws");
  } catch (const TestFailure& failure) {
    check(std::string(failure.what()).find("bare.cpp") != std::string::npos, "its text says where");
  }
  return failed == 0 ? 0 : 1;
}
