#include <protocols/amp_command.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <doctest/doctest.h>

#include <deferred/functions.hpp>
#include <reactor/testing/assertions.hpp>

using namespace torsion;

namespace {

struct Greeting : std::runtime_error {
  using runtime_error::runtime_error;
};
struct RudeGreeting : Greeting {
  using Greeting::Greeting;
};
struct Silence {};  // no text, no base

struct Hello {
  static constexpr std::string_view commandName = "Hello";
  struct Arguments {
    std::string name;
  };
  struct Response {
    std::string greeting;
  };
  static constexpr auto arguments = amp::fields(amp::field("name", &Arguments::name));
  static constexpr auto response = amp::fields(amp::field("greeting", &Response::greeting));
  static constexpr auto errors = amp::errors(amp::error<Greeting>("GREETING"), amp::fatalError<Silence>("SILENCE"));
};
// With another's errors, and nothing else.
struct Goodbye {
  static constexpr std::string_view commandName = "Goodbye";
  static constexpr auto errors = std::tuple_cat(Hello::errors, amp::errors(amp::error<std::logic_error>("LOGIC")));
  static constexpr bool requiresAnswer = false;
};

const auto exchanger = std::make_shared<amp::DescriptorExchanger>();

template <class C, class F>
Deferred<amp::Box> respond(F f, const amp::Box& box = {}) {
  return amp::detail::respondTo<C>(f, box, exchanger);
}

}  // namespace

TEST_CASE("commands: what is left out") {
  using namespace amp::detail;
  static_assert(Hello::commandName != Goodbye::commandName);
  static_assert(std::is_same_v<Arguments<Hello>, Hello::Arguments>);
  static_assert(std::is_void_v<Arguments<Goodbye>> && std::is_void_v<Response<Goodbye>>);
  static_assert(requiresAnswer<Hello>() && !requiresAnswer<Goodbye>());
}

TEST_CASE("commands: a responder gives a value, a Deferred, a Result or nothing") {
  const amp::Box box = {{"name", "Ann"}};
  const amp::Box answer = {{"greeting", "hi Ann"}};
  using A = Hello::Arguments;
  using R = Hello::Response;
  CHECK(successResultOf(respond<Hello>([](A a) { return R{"hi " + a.name}; }, box)) == answer);
  CHECK(successResultOf(respond<Hello>([](const A& a) { return succeed(R{"hi " + a.name}); }, box)) == answer);
  CHECK(successResultOf(respond<Hello>([](A&& a) { return Result<R>(R{"hi " + a.name}); }, box)) == answer);
  CHECK(successResultOf(respond<Goodbye>([] {})) == amp::Box());
  CHECK(successResultOf(respond<Goodbye>([] { return succeed(); })) == amp::Box());
  SUBCASE("later") {
    Resolver<R> resolver;
    auto responded = respond<Hello>([&](A) { return resolver.deferred(); }, box);
    assertNoResult(responded);
    resolver.callback(R{"hi Ann"});
    CHECK(successResultOf(responded) == answer);
  }
  SUBCASE("a coroutine") {
    Resolver<std::string> resolver;
    const auto greet = [&](const A& a) -> Deferred<R> {
      std::string word = co_await resolver.deferred();
      co_return R{word + " " + a.name};
    };
    auto responded = amp::detail::respondTo<Hello>(greet, box, exchanger);
    resolver.callback("hi");
    CHECK(successResultOf(responded) == answer);
  }
}

TEST_CASE("commands: what a responder may fail with") {
  const amp::Box box = {{"name", "Ann"}};
  const auto failing = [&](auto exception) {
    return failureResultOf(respond<Hello>([&](Hello::Arguments) -> Hello::Response { throw exception; }, box));
  };
  SUBCASE("a declared error, and one derived from it") {
    for (const Failure& failure : {failing(Greeting("hm")), failing(RudeGreeting("hm"))}) {
      const auto* error = failure.get<amp::RemoteAmpError>();
      REQUIRE(error);
      CHECK(error->errorCode == "GREETING");
      CHECK(error->description == "hm");
      CHECK_FALSE(error->fatal);
    }
  }
  SUBCASE("a fatal one") {
    const Failure failure = failing(Silence());
    REQUIRE(failure.check<amp::RemoteAmpError>());
    CHECK(failure.get<amp::RemoteAmpError>()->errorCode == "SILENCE");
    CHECK(failure.get<amp::RemoteAmpError>()->fatal);
  }
  SUBCASE("any other stays what it is") {
    CHECK(failing(std::out_of_range("far")).check<std::out_of_range>());
    CHECK(failing(amp::RemoteAmpError("CODE", "by hand")).get<amp::RemoteAmpError>()->errorCode == "CODE");
  }
  SUBCASE("arguments that are none") {
    const auto never = [](Hello::Arguments) -> Hello::Response { throw std::logic_error("called"); };
    failureResultOf<amp::InvalidSignature>(respond<Hello>(never));
  }
  SUBCASE("a response that cannot be sent") {
    const auto failure = failureResultOf<amp::BadLocalReturn>(
        respond<Hello>([](Hello::Arguments) { return Hello::Response{std::string(65536, 'x')}; }, box));
    CHECK(failure.get<amp::BadLocalReturn>()->enclosed.check<amp::TooLong>());
  }
}

TEST_CASE("commands: what a caller gets for a code") {
  const auto local = [](const char* code) {
    return amp::detail::toLocalError<Goodbye>(amp::RemoteAmpError(code, "text"));
  };
  CHECK(local("GREETING").get<Greeting>()->what() == std::string("text"));
  CHECK(local("LOGIC").check<std::logic_error>());
  CHECK(local("SILENCE").check<Silence>());
  for (const char* code : {"UNKNOWN", "OTHER"}) {
    const Failure failure = local(code);
    REQUIRE(failure.check<amp::UnknownRemoteError>());
    CHECK(failure.get<amp::UnknownRemoteError>()->errorCode == code);
    CHECK(failure.get<amp::UnknownRemoteError>()->description == "text");
  }
}
