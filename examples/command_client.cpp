// Calls a command of an AMP server, which may refuse it. Usage: command_client [ENDPOINT]
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <examples/arguments.hpp>
#include <protocols/amp.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/task.hpp>

using namespace torsion;

struct UsernameUnavailable : std::runtime_error {
  using runtime_error::runtime_error;
};

struct RegisterUser {
  static constexpr std::string_view commandName = "RegisterUser";
  struct Arguments {
    std::string username, publickey;
  };
  struct Response {
    std::int64_t uid;
  };
  static constexpr auto arguments = amp::fields(amp::field("username", &Arguments::username, amp::Unicode()),
                                                amp::field("publickey", &Arguments::publickey));
  static constexpr auto response = amp::fields(amp::field("uid", &Response::uid));
  static constexpr auto errors = amp::errors(amp::error<UsernameUnavailable>("username-unavailable"));
};

int main(int argc, char** argv) {
  return react([&](Reactor& reactor) {
    auto endpoint = clientFromString(reactor, argument(argc, argv, 1, "tcp:127.0.0.1:8750"));
    return connectProtocol(*endpoint, std::make_shared<amp::AMP>())
        .addCallback([](std::shared_ptr<amp::AMP> amp) {
          return amp->callRemote<RegisterUser>({"alice", "ssh-rsa AAAAB3NzaC1yc2 alice@actinium"});
        })
        .addCallback(
            [](RegisterUser::Response registered) { std::cout << "Registration result: " << registered.uid << '\n'; })
        .addErrback([](const UsernameUnavailable&) { std::cout << "The name is taken\n"; });
  });
}
