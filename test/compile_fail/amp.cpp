// What a wrong command, or a wrong responder to it, says.
#include <string>
#include <string_view>

#include <protocols/amp.hpp>

using namespace torsion;

struct Hello {
  static constexpr std::string_view commandName = "Hello";
  struct Arguments {
    std::string name;
  };
  struct Response {
    int length;
  };
  static constexpr auto arguments = amp::fields(amp::field("name", &Arguments::name));
  static constexpr auto response = amp::fields(amp::field("length", &Response::length));
};
struct Ping {
  static constexpr std::string_view commandName = "Ping";
};

struct Server : amp::AMP {
  Server() {
#if CASE == 1  // error: respond: the responder takes the command's Arguments, or nothing if it has none
    respond<Hello>([](int) { return Hello::Response{1}; });
#elif CASE == 2  // error: respond: the responder takes the command's Arguments, or nothing if it has none
    respond<Ping>([](int){});
#elif CASE == 3  // error: respond: the responder returns the command's Response, or a Deferred of it
    respond<Hello>([](Hello::Arguments) { return std::string(); });
#elif CASE == 4  // error: respond: the responder returns the command's Response, or a Deferred of it
    respond<Ping>([] { return 1; });
#else
    respond<Hello>([](const Hello::Arguments&) { return Hello::Response{1}; });
    respond<Ping>([] {});
#endif
  }
};

void call(amp::AMP& amp) {
  amp.callRemote<Hello>({"you"}).addCallback([](Hello::Response) {});
  amp.callRemote<Ping>().addCallback([] {});
}
