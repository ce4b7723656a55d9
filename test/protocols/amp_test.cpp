#include <protocols/amp.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/list.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/support/amp_commands.hpp>
#include <test/support/certificates.hpp>

using namespace torsion;
using namespace torsion::test;
using namespace std::string_literals;

namespace {

struct Undeclared : std::runtime_error {
  using runtime_error::runtime_error;
};

struct Hello {
  static constexpr std::string_view commandName = "hello";
  struct Arguments {
    std::string hello;
    std::optional<std::string> print = {};
  };
  using Response = Arguments;
  static constexpr auto arguments =
      amp::fields(amp::field("hello", &Arguments::hello), amp::field("Print", &Arguments::print, amp::Unicode()));
  static constexpr auto response = arguments;
};
struct NoAnswerHello : Hello {
  static constexpr bool requiresAnswer = false;
};
struct WaitForever {
  static constexpr std::string_view commandName = "wait_forever";
};
struct WTF {
  static constexpr std::string_view commandName = "WTF";
};
struct SendFile {
  static constexpr std::string_view commandName = "SendFile";
  struct Arguments {
    amp::Descriptor file;
  };
  using Response = Arguments;
  static constexpr auto arguments = amp::fields(amp::field("file", &Arguments::file));
  static constexpr auto response = arguments;
};

struct Math : amp::AMP {
  using AMP::AMP;
  Math() {
    respond<Sum>([](Sum::Arguments a) { return Sum::Response{a.a + a.b}; });
    respond<Divide>([](Divide::Arguments a) {
      if (a.numerator == 13) throw Die("die");
      if (a.numerator == 14) throw Undeclared("what is this?");
      if (a.denominator == 0) throw ZeroDivisionError("division by zero");
      return Divide::Response{double(a.numerator) / double(a.denominator)};
    });
    respond<Hello>([this](Hello::Arguments a) {
      greeted = a.hello;
      if (a.hello == "rude") throw amp::RemoteAmpError("UNFRIENDLY", "Be nice.");
      return Hello::Response{a.hello, a.print};
    });
    respond<WaitForever>([this] { return waiting.emplace_back().deferred(); });
  }
  void connectionLost(const Failure& reason) override {
    AMP::connectionLost(reason);
    lost = reason;
  }
  std::string greeted;
  std::vector<Resolver<void>> waiting;
  std::optional<Failure> lost;
};

// Two ends. What was logged and not looked for fails the test.
struct Pair {
  LogCapture log;
  std::shared_ptr<Math> client = std::make_shared<Math>();
  std::shared_ptr<Math> server = std::make_shared<Math>();
  IOPump pump{client, server};
  ~Pair() {
    pump.clientIO().abortConnection();
    pump.flush();
    for (const auto& text : log.takeErrorTexts()) FAIL_CHECK(text);
  }
};

// One end; the test is the other.
struct OnString {
  LogCapture log;
  std::shared_ptr<Math> amp = std::make_shared<Math>();
  StringTransportWithDisconnection transport;
  OnString() { amp->makeConnection(transport); }
  ~OnString() {
    amp->dataReceived({});
    if (amp->connected()) amp->transport().loseConnection();
    for (const auto& text : log.takeErrorTexts()) FAIL_CHECK(text);
  }
  std::vector<amp::Box> sent() {
    auto boxes = amp::parseString(transport.value());
    transport.clear();
    return boxes;
  }
  void receive(const amp::Box& box) { amp->dataReceived(amp::serialize(box)); }
  template <class E>
  bool lost() const {
    return amp->lost && amp->lost->check<E>();
  }
};

amp::Box sumBox(const std::string& a, const std::string& b, const std::string& ask = "1") {
  return {{"_command", "Sum"}, {"_ask", ask}, {"a", a}, {"b", b}};
}

}  // namespace

TEST_CASE("AMP: a call and its answer, on the wire") {
  OnString t;
  auto sum = t.amp->callRemote<Sum>({13, 81});
  CHECK(t.transport.value() == "\0\4_ask\0\0011\0\10_command\0\3Sum\0\1a\0\00213\0\1b\0\00281\0\0"s);
  t.transport.clear();
  t.amp->dataReceived("\0\7_answer\0\0011\0\5total\0\00294\0\0"s);
  CHECK(successResultOf(sum).total == 94);

  t.receive(sumBox("13", "81", "any tag"));
  CHECK(t.transport.value() == amp::serialize({{"_answer", "any tag"}, {"total", "94"}}));
}

TEST_CASE("AMP: tags are hexadecimal, and answers may come in any order") {
  OnString t;
  std::vector<std::string> tags;
  std::vector<std::int64_t> totals(17);
  for (std::size_t i = 0; i < 17; ++i) {
    t.amp->callRemote<Sum>({1, 2}).addCallback([&totals, i](Sum::Response r) { totals[i] = r.total; });
  }
  for (const auto& box : t.sent()) tags.push_back(box.at("_ask"));
  CHECK(tags.front() == "1");
  CHECK(tags[9] == "a");
  CHECK(tags.back() == "11");
  for (std::size_t i = 17; i-- > 0;) t.receive({{"_answer", tags[i]}, {"total", std::to_string(i)}});
  for (std::size_t i = 0; i < 17; ++i) CHECK(totals[i] == static_cast<std::int64_t>(i));
}

TEST_CASE("AMP: between two ends, both ways, in pieces of any size") {
  for (const std::size_t size : {1, 2, 3, 7, 65536}) {
    CAPTURE(size);
    Pair t;
    t.pump.setPieceSize(size);
    auto there = t.client->callRemote<Sum>({13, 81});
    auto back = t.server->callRemote<Divide>({1, 4});
    auto hello = t.client->callRemote<Hello>({"world", "wor\u1234ld"});
    auto without = t.client->callRemote<Hello>({.hello = "again"});
    for (int i = 0; i < 300; ++i) t.pump.pump();
    CHECK(successResultOf(there).total == 94);
    CHECK(successResultOf(back).result == 0.25);
    const auto response = successResultOf(hello);
    CHECK(response.hello == "world");
    CHECK(response.print == "wor\u1234ld");
    CHECK_FALSE(successResultOf(without).print);
  }
}

TEST_CASE("AMP: boxes cut at every byte") {
  const std::string text = amp::serialize(sumBox("1", "2")) + amp::serialize(sumBox("3", "4", "2"));
  const std::string answers =
      amp::serialize({{"_answer", "1"}, {"total", "3"}}) + amp::serialize({{"_answer", "2"}, {"total", "7"}});
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    CAPTURE(cut);
    OnString t;
    t.amp->dataReceived(text.substr(0, cut));
    t.amp->dataReceived(text.substr(cut));
    CHECK(t.transport.value() == answers);
  }
}

TEST_CASE("AMP: declared errors are the caller's") {
  Pair t;
  auto divided = t.client->callRemote<Divide>({1, 0});
  auto caught = t.client->callRemote<Divide>({1, 0})
                    .addCallback([](Divide::Response r) { return r.result; })
                    .addErrback([](const ZeroDivisionError&) { return std::numeric_limits<double>::infinity(); });
  t.pump.flush();
  CHECK(failureResultOf<ZeroDivisionError>(divided).getErrorMessage() == "division by zero");
  CHECK(successResultOf(caught) == std::numeric_limits<double>::infinity());
  CHECK(t.pump.connected());
}

TEST_CASE("AMP: errors on the wire") {
  OnString t;
  t.receive({{"_command", "Divide"}, {"_ask", "7"}, {"numerator", "1"}, {"denominator", "0"}});
  CHECK(t.transport.value() ==
        "\0\6_error\0\0017\0\13_error_code\0\15ZERO_DIVISION"
        "\0\22_error_description\0\20division by zero\0\0"s);
  t.transport.clear();
  t.receive({{"_command", "WTF"}, {"_ask", "8"}});
  CHECK(t.sent() ==
        std::vector<amp::Box>{
            {{"_error", "8"}, {"_error_code", "UNHANDLED"}, {"_error_description", "Unhandled Command: 'WTF'"}}});
  CHECK_FALSE(t.transport.disconnecting());
  t.receive({{"_command", std::string(65535, 'W')}, {"_ask", "9"}});
  CHECK(t.sent().at(0).at("_error_code") == "UNHANDLED");
}

TEST_CASE("AMP: a fatal error closes after the answer") {
  Pair t;
  auto first = t.client->callRemote<Divide>({13, 1});
  auto after = t.client->callRemote<Sum>({1, 2});
  t.pump.flush();
  failureResultOf<Die>(first);
  failureResultOf<ConnectionDone>(after);
  CHECK_FALSE(t.pump.connected());
  CHECK(t.server->lost->check<amp::RemoteAmpError>());
  failureResultOf<ConnectionDone>(t.client->callRemote<Sum>({1, 2}));
  CHECK(t.log.flushLoggedErrors().empty());
}

TEST_CASE("AMP: an undeclared error is logged, the caller gets UnknownRemoteError, the connection ends") {
  Pair t;
  auto first = t.client->callRemote<Divide>({14, 1});
  t.pump.flush();
  const Failure failure = failureResultOf<amp::UnknownRemoteError>(first);
  CHECK(failure.get<amp::UnknownRemoteError>()->errorCode == "UNKNOWN");
  CHECK(failure.get<amp::UnknownRemoteError>()->description == "Unknown Error");
  CHECK_FALSE(t.pump.connected());
  CHECK(t.server->lost->check<Undeclared>());
  CHECK(t.log.flushLoggedErrors<Undeclared>().size() == 1);
}

TEST_CASE("AMP: a responder's own RemoteAmpError is sent as it is") {
  Pair t;
  auto typed = t.client->callRemote<Hello>({"rude"});
  auto raw = t.client->callRemoteString("hello", {{"hello", "rude"}});
  t.pump.flush();
  CHECK(failureResultOf<amp::UnknownRemoteError>(typed).get<amp::RemoteAmpError>()->errorCode == "UNFRIENDLY");
  const Failure failure = failureResultOf<amp::RemoteAmpError>(raw);
  CHECK(failure.get<amp::RemoteAmpError>()->description == "Be nice.");
  CHECK(failure.getErrorMessage() == "Code<UNFRIENDLY>: Be nice.");
  CHECK(t.pump.connected());
}

TEST_CASE("AMP: an unknown command fails, and the connection goes on") {
  Pair t;
  auto high = t.client->callRemote<WTF>();
  auto low = t.client->callRemoteString("WTF");
  auto sum = t.client->callRemote<Sum>({1, 2});
  t.pump.flush();
  failureResultOf<amp::UnhandledCommand>(high);
  failureResultOf<amp::UnhandledCommand>(low);
  CHECK(successResultOf(sum).total == 3);
}

TEST_CASE("AMP: raw boxes") {
  Pair t;
  t.server->respondString("echo", [](const amp::Box& box, const auto&) {
    return succeed(amp::Box{{"said", box.at("say")}, {"as", box.at("_command")}});
  });
  auto answer = t.client->callRemoteString("echo", {{"say", "hi"}});
  t.pump.flush();
  CHECK(successResultOf(answer) == amp::Box{{"said", "hi"}, {"as", "echo"}, {"_answer", "1"}});
  SUBCASE("an answer that cannot be sent") {
    t.server->respondString(
        "echo", [](const amp::Box&, const auto&) { return succeed(amp::Box{{"said", std::string(65536, 'x')}}); });
    auto failed = t.client->callRemoteString("echo");
    t.pump.flush();
    CHECK(failureResultOf<amp::RemoteAmpError>(failed).get<amp::RemoteAmpError>()->errorCode == "UNKNOWN");
    CHECK(t.log.flushLoggedErrors<amp::BadLocalReturn>().size() == 1);
  }
  SUBCASE("an error that cannot be sent") {
    t.server->respondString("echo", [](const amp::Box&, const auto&) {
      return fail<amp::Box>(amp::RemoteAmpError("CODE", std::string(65536, 'x')));
    });
    auto failed = t.client->callRemoteString("echo");
    t.pump.flush();
    CHECK(failureResultOf<amp::RemoteAmpError>(failed).get<amp::RemoteAmpError>()->errorCode == "UNKNOWN");
  }
  SUBCASE("a responder that throws") {
    t.server->respondString("echo", [](const amp::Box&, const auto&) -> Deferred<amp::Box> { throw Undeclared("!"); });
    auto failed = t.client->callRemoteString("echo");
    t.pump.flush();
    failureResultOf<amp::RemoteAmpError>(failed);
    CHECK(t.log.flushLoggedErrors<Undeclared>().size() == 1);
  }
}

TEST_CASE("AMP: boxes without commands") {
  struct Boxes : amp::AMP {
    void ampBoxReceived(amp::Box box) override { got.push_back(std::move(box)); }
    std::vector<amp::Box> got;
  };
  auto boxes = std::make_shared<Boxes>();
  StringTransport transport;
  boxes->makeConnection(transport);
  boxes->sendBox({{"simple", "test"}});
  CHECK(transport.value() == "\0\6simple\0\4test\0\0"s);
  boxes->dataReceived(transport.value() + "\0\0"s);
  CHECK(boxes->got == std::vector<amp::Box>{{{"simple", "test"}}, {}});
  CHECK_THROWS_AS(boxes->sendBox({}), amp::NoEmptyBoxes);
  CHECK_THROWS_AS(boxes->sendBox({{std::string(256, 'k'), ""}}), amp::TooLong);
}

TEST_CASE("AMP: arguments that cannot be sent fail the call, and nothing is sent") {
  OnString t;
  auto tooLong = t.amp->callRemote<Hello>({.hello = std::string(65536, 'H')});
  CHECK(failureResultOf<amp::TooLong>(tooLong).get<amp::TooLong>()->keyName == "hello");
  failureResultOf<amp::BadValue>(t.amp->callRemote<Hello>({"hello", "\xff"}));
  failureResultOf<amp::TooLong>(t.amp->callRemoteString("Hello", {{std::string(256, 'H'), "hi"}}));
  failureResultOf<amp::TooLong>(t.amp->callRemoteString(std::string(65536, 'H')));
  CHECK_THROWS_AS(t.amp->callRemote<NoAnswerHello>({.hello = std::string(65536, 'H')}), amp::TooLong);
  CHECK(t.transport.value().empty());
  CHECK_FALSE(t.transport.disconnecting());
}

TEST_CASE("AMP: an answer that is none fails the call alone") {
  OnString t;
  auto lacks = t.amp->callRemote<Sum>({1, 2});
  auto noNumber = t.amp->callRemote<Sum>({1, 2});
  auto tooLarge = t.amp->callRemote<Sum>({1, 2});
  auto good = t.amp->callRemote<Sum>({1, 2});
  t.receive({{"_answer", "1"}});
  t.receive({{"_answer", "2"}, {"total", "x"}});
  t.receive({{"_answer", "3"}, {"total", "9223372036854775808"}});
  t.receive({{"_answer", "4"}, {"total", "3"}, {"unknown", ""}});
  failureResultOf<amp::InvalidSignature>(lacks);
  failureResultOf<amp::BadValue>(noNumber);
  failureResultOf<amp::BadValue>(tooLarge);
  CHECK(successResultOf(good).total == 3);
  CHECK_FALSE(t.transport.disconnecting());
}

TEST_CASE("AMP: arguments that are none are an undeclared error") {
  OnString t;
  t.receive(sumBox("x", "1"));
  CHECK(t.sent() ==
        std::vector<amp::Box>{{{"_error", "1"}, {"_error_code", "UNKNOWN"}, {"_error_description", "Unknown Error"}}});
  CHECK(t.lost<amp::BadValue>());
  CHECK(t.log.flushLoggedErrors<amp::BadValue>().size() == 1);
}

TEST_CASE("AMP: commands that want no answer") {
  Pair t;
  SUBCASE("are run") {
    static_assert(std::is_void_v<decltype(t.client->callRemote<NoAnswerHello>({"world"}))>);
    t.client->callRemote<NoAnswerHello>({"world"});
    t.client->callRemoteStringNoAnswer("hello", {{"hello", "raw"}});
    CHECK(t.pump.pump());
    CHECK(t.server->greeted == "raw");
    CHECK_FALSE(t.pump.pump());
  }
  SUBCASE("end the connection when they fail, even with an error that could be sent") {
    t.client->callRemote<NoAnswerHello>({"rude"});
    auto after = t.client->callRemote<Hello>({"world"});
    t.pump.flush();
    CHECK(t.log.flushLoggedErrors<amp::RemoteAmpError>().size() == 1);
    failureResultOf<ConnectionDone>(after);
    CHECK(t.server->greeted == "rude");
  }
  SUBCASE("end the connection when they are unknown") {
    t.client->callRemoteStringNoAnswer("WTF");
    t.pump.flush();
    CHECK(t.log.flushLoggedErrors<amp::RemoteAmpError>().size() == 1);
    CHECK_FALSE(t.pump.connected());
  }
  SUBCASE("do nothing once the connection is lost") {
    t.client->transport().loseConnection();
    t.pump.flush();
    t.client->callRemote<NoAnswerHello>({"ignored"});
  }
}

TEST_CASE("AMP: calls under way fail with the reason when the connection is lost, later ones at once") {
  OnString t;
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    t.amp->callRemote<Sum>({1, 2}).addCallbacks([](Sum::Response) {},
                                                [&order, i, &t](const ConnectionAborted&) {
                                                  order.push_back(i);
                                                  failureResultOf<ConnectionAborted>(t.amp->callRemote<Sum>({1, 2}));
                                                });
  }
  t.transport.abortConnection();
  CHECK(order == std::vector<int>{0, 1, 2});
  failureResultOf<ConnectionAborted>(t.amp->callRemote<Sum>({1, 2}));
  failureResultOf<ConnectionAborted>(t.amp->callRemoteString("Sum"));
}

TEST_CASE("AMP: calls before there is a connection, and of one that goes") {
  auto amp = std::make_shared<Math>();
  failureResultOf<ConnectionLost>(amp->callRemote<Sum>({1, 2}));
  std::optional<Deferred<Sum::Response>> left;
  {
    StringTransport transport;
    amp->makeConnection(transport);
    left = amp->callRemote<Sum>({1, 2});
    amp.reset();
  }
  failureResultOf<BrokenDeferred>(*left);
}

TEST_CASE("AMP: an answer that comes when the connection is gone") {
  Pair t;
  auto waiting = t.client->callRemote<WaitForever>();
  t.pump.flush();
  assertNoResult(waiting);
  t.server->transport().loseConnection();
  t.pump.flush();
  failureResultOf<ConnectionDone>(waiting);
  t.server->waiting.at(0).callback();
}

TEST_CASE("AMP: a protocol is kept until its responders have answered") {
  LogCapture log;
  std::weak_ptr<Math> weak;
  std::vector<Resolver<std::string>> work;
  {
    auto server = std::make_shared<Math>();
    weak = server;
    server->respond<Hello>([self = server.get(), &work](Hello::Arguments a) -> Deferred<Hello::Response> {
      std::string word = co_await work.emplace_back().deferred();
      self->greeted = word + a.hello;  // the captures and the protocol are there
      co_return Hello::Response{self->greeted};
    });
    IOPump pump(std::make_shared<Math>(), std::move(server));
    std::static_pointer_cast<Math>(pump.clientIO().protocol()->shared_from_this())
        ->callRemote<Hello>({"world"})
        .addErrback([](const ConnectionDone&) { return Hello::Response(); });
    pump.flush();
    pump.serverIO().loseConnection();
    pump.flush();
  }
  CHECK_FALSE(weak.expired());
  work.at(0).callback("hello ");
  work.clear();
  CHECK(weak.expired());
  CHECK(log.takeErrorTexts().empty());
}

TEST_CASE("AMP: a responder that replaces itself") {
  Pair t;
  t.server->respond<Sum>([server = t.server.get(), marker = std::string(100, 'm')](Sum::Arguments) {
    server->respond<Sum>([](Sum::Arguments) { return Sum::Response{2}; });
    return Sum::Response{marker.size() == 100 ? 1 : -1};
  });
  auto first = t.client->callRemote<Sum>({0, 0}), second = t.client->callRemote<Sum>({0, 0});
  t.pump.flush();
  CHECK(successResultOf(first).total == 1);
  CHECK(successResultOf(second).total == 2);
}

TEST_CASE("AMP: cancel() forgets the answer, and the stream goes on") {
  Pair t;
  auto cancelled = t.client->callRemote<Sum>({1, 2});
  auto dropped = t.client->callRemoteString("WTF");
  auto next = t.client->callRemote<Sum>({3, 4});
  cancelled.cancel();
  dropped.cancel();
  failureResultOf<CancelledError>(cancelled);
  failureResultOf<CancelledError>(dropped);
  t.pump.flush();
  CHECK(successResultOf(next).total == 7);
  CHECK(t.pump.connected());
}

TEST_CASE("AMP: a locator that connections share") {
  auto locator = std::make_shared<amp::CommandLocator>();
  int calls = 0;
  locator->respond<Sum>([&calls](Sum::Arguments a) { return Sum::Response{a.a + a.b + ++calls}; });
  struct Own : amp::AMP {
    explicit Own(std::shared_ptr<amp::CommandLocator> locator) : AMP(std::move(locator)) {
      respond<Divide>([](Divide::Arguments) { return Divide::Response{1}; });
    }
  };
  for (int i = 1; i <= 2; ++i) {
    auto client = std::make_shared<amp::AMP>();
    IOPump pump(client, std::make_shared<Own>(locator));
    auto sum = client->callRemote<Sum>({1, 2});
    auto divided = client->callRemote<Divide>({3, 1});
    auto unknown = client->callRemote<WaitForever>();
    pump.flush();
    CHECK(successResultOf(sum).total == 3 + i);
    CHECK(successResultOf(divided).result == 1);
    failureResultOf<amp::UnhandledCommand>(unknown);
  }
}

TEST_CASE("AMP: commands found by a locator's own rule") {
  struct AnyName : amp::CommandLocator {
    std::shared_ptr<Responder> locateResponder(std::string_view name) override {
      return std::make_shared<Responder>(
          [name = std::string(name)](const amp::Box&, const auto&) { return succeed(amp::Box{{"name", name}}); });
    }
  };
  auto client = std::make_shared<amp::AMP>();
  IOPump pump(client, std::make_shared<amp::AMP>(std::make_shared<AnyName>()));
  auto answer = client->callRemoteString("whatever");
  pump.flush();
  CHECK(successResultOf(answer).at("name") == "whatever");
}

TEST_CASE("AMP: boxes of a wrong shape end the connection, with a reason") {
  OnString t;
  auto waiting = t.amp->callRemote<Sum>({1, 2});
  SUBCASE("an empty one") {
    t.amp->dataReceived("\0\0"s);
    CHECK(t.lost<amp::NoEmptyBoxes>());
  }
  SUBCASE("one that says nothing") {
    t.receive({{"a", "b"}, {"_ask", "1"}});
    CHECK(t.lost<amp::NoEmptyBoxes>());
  }
  SUBCASE("a long key, of which the length has come") {
    t.amp->dataReceived("\1\0"s);
    CHECK(t.lost<amp::TooLong>());
    CHECK_FALSE(t.amp->lost->get<amp::TooLong>()->isLocal);
  }
  SUBCASE("a long key in the middle") {
    t.amp->dataReceived("\0\1k\0\1v"s + "\1\1");
    CHECK(t.lost<amp::TooLong>());
  }
  SUBCASE("HTTP") {
    t.amp->dataReceived("GET / HTTP/1.1\r\n\r\n");
    CHECK(t.lost<amp::TooLong>());
  }
  SUBCASE("an answer to nothing") {
    t.receive({{"_answer", "2"}, {"total", "1"}});
    CHECK(t.lost<amp::MalformedAmpBox>());
  }
  SUBCASE("a tag that is written otherwise") {
    t.receive({{"_answer", "01"}, {"total", "1"}});
    CHECK(t.lost<amp::MalformedAmpBox>());
  }
  SUBCASE("an error for nothing") {
    t.receive({{"_error", ""}, {"_error_code", "A"}, {"_error_description", "B"}});
    CHECK(t.lost<amp::MalformedAmpBox>());
  }
  SUBCASE("an error without a code") {
    t.receive({{"_error", "1"}, {"_error_description", "B"}});
    CHECK(t.lost<amp::MalformedAmpBox>());
  }
  SUBCASE("an error without a description") {
    t.receive({{"_error", "1"}, {"_error_code", "B"}});
    CHECK(t.lost<amp::MalformedAmpBox>());
  }
  CHECK_FALSE(t.amp->connected());
  failureResultOf<amp::AmpError>(waiting);
}

TEST_CASE("AMP: an answer twice") {
  OnString t;
  auto sum = t.amp->callRemote<Sum>({1, 2});
  t.receive({{"_answer", "1"}, {"total", "3"}});
  t.receive({{"_answer", "1"}, {"total", "3"}});
  CHECK(successResultOf(sum).total == 3);
  CHECK(t.lost<amp::MalformedAmpBox>());
}

TEST_CASE("AMP: limits") {
  OnString t;
  SUBCASE("of a box") {
    SUBCASE("of 1 MiB at first") {
      std::string box;
      for (char key = 'a'; key < 'a' + 17; ++key) box += "\0\1"s + key + "\xff\xff" + std::string(65535, 'x');
      for (std::size_t at = 0; at < box.size() && t.amp->connected(); at += 1000) {
        t.amp->dataReceived(std::string_view(box).substr(at, 1000));
      }
    }
    SUBCASE("as it is set") {
      const std::string box = amp::serialize(sumBox("1", "2"));
      t.amp->setMaxBoxLength(box.size());
      t.amp->dataReceived(box);
      CHECK(t.sent().size() == 1);
      t.receive(sumBox("1", "22"));
      CHECK(t.sent().empty());
    }
    CHECK(t.amp->lost->getErrorMessage().ends_with("(see setMaxBoxLength)"));
  }
  SUBCASE("of keys") {
    SUBCASE("1000 at first") {
      amp::Box box = sumBox("1", "2");
      for (int i = 0; i < 996; ++i) box[std::to_string(i)];
      t.receive(box);
      CHECK(t.sent().size() == 1);
      box["another"];
      t.receive(box);
    }
    SUBCASE("as it is set") {
      t.amp->setMaxKeys(4);
      t.receive(sumBox("1", "2"));
      CHECK(t.sent().size() == 1);
      t.amp->setMaxKeys(3);
      t.receive(sumBox("1", "2"));
    }
    CHECK(t.sent().empty());
    CHECK(t.amp->lost->getErrorMessage().ends_with("(see setMaxKeys)"));
  }
  SUBCASE("of questions") {
    std::size_t most = 1000;
    SUBCASE("1000 at first") {}
    SUBCASE("as it is set") {
      most = 5;
      t.amp->setMaxQuestions(5);
    }
    const auto ask = [&](std::size_t i) { t.receive({{"_command", "wait_forever"}, {"_ask", std::to_string(i)}}); };
    for (std::size_t i = 0; i < most; ++i) ask(i);
    t.amp->waiting.front().callback();
    ask(most);
    CHECK(t.amp->connected());
    ask(most + 1);
    CHECK(t.amp->lost->getErrorMessage().ends_with("(see setMaxQuestions)"));
    t.amp->waiting.clear();
    t.log.flushLoggedErrors<BrokenDeferred>();
  }
  CHECK(t.lost<amp::AmpLimitError>());
}

TEST_CASE("AMP: a peer that asks and reads nothing") {
  LogCapture log;
  auto server = std::make_shared<Math>();
  server->setMaxUnsent(10000);
  struct Asker : Protocol {
    void connectionMade() override {
      transport().pauseProducing();
      for (int i = 0; i < 1000; ++i) transport().write(amp::serialize(sumBox("1", "2", std::to_string(i))));
    }
  };
  IOPump pump(std::make_shared<Asker>(), server);
  pump.flush();
  REQUIRE(server->lost);
  CHECK(server->lost->check<ConnectionLost>());
}

TEST_CASE("AMP: nothing is received after loseConnection, and pauseProducing holds boxes up") {
  OnString t;
  t.amp->respond<Sum>([&t](Sum::Arguments) {
    t.amp->pauseProducing();
    return Sum::Response{0};
  });
  t.amp->dataReceived(amp::serialize(sumBox("1", "2")) + amp::serialize(sumBox("1", "2", "2")));
  CHECK(t.sent().size() == 1);
  t.amp->resumeProducing();
  CHECK(t.sent().size() == 1);
  t.amp->resumeProducing();
}

// ---- TLS

namespace {

struct TLSPair : Pair {
  Clock clock;
  CertificateOptions certificate;
  ClientTLS trust;
  TLSPair() {
    certificate.certificate = test::testPKI().localhost.certificate;
    certificate.privateKey = test::testPKI().localhost.privateKey;
    trust.trustRoots = test::testPKI().authority.certificate;
  }
  TLSOptions asServer() { return optionsForServerTLS(certificate); }
  TLSOptions asClient(const std::string& name = "localhost") { return optionsForClientTLS(name, trust); }
  void turn() {
    for (int i = 0; i < 20; ++i) {
      pump.flush();
      clock.advance(std::chrono::seconds(0));
    }
  }
  ~TLSPair() {
    pump.clientIO().abortConnection();
    turn();
  }
};

}  // namespace

TEST_CASE("AMP: StartTLS, and what is sent after it goes by TLS alone") {
  TLSPair t;
  t.server->acceptStartTLS(t.asServer(), t.clock);
  auto before = t.client->callRemote<Sum>({1, 2});
  auto begun = t.client->startTLS(t.asClient(), t.clock);
  const std::size_t clear = t.pump.clientIO().queued();
  auto after = t.client->callRemote<Sum>({3, 4});
  t.client->callRemote<NoAnswerHello>({"secret"});
  CHECK(t.pump.clientIO().queued() == clear);
  failureResultOf<amp::OnlyOneTLS>(t.client->startTLS(t.asClient(), t.clock));
  t.turn();
  successResultOf(begun);
  CHECK(successResultOf(before).total == 3);
  CHECK(successResultOf(after).total == 7);
  CHECK(t.server->greeted == "secret");
  REQUIRE(TLSTransport::from(t.client->transport()));
  CHECK(TLSTransport::from(t.client->transport())->getPeerCertificate());
  CHECK(TLSTransport::from(t.server->transport()));
  auto back = t.server->callRemote<Sum>({5, 6});
  t.turn();
  CHECK(successResultOf(back).total == 11);
  SUBCASE("once") {
    failureResultOf<amp::OnlyOneTLS>(t.client->startTLS(t.asClient(), t.clock));
    auto by = t.client->callRemoteString("StartTLS");
    t.turn();
    CHECK(failureResultOf<amp::RemoteAmpError>(by).get<amp::RemoteAmpError>()->errorCode == "TLS_ERROR");
  }
}

TEST_CASE("AMP: StartTLS asked by the side that is TLS's server, whose answer comes with a handshake") {
  TLSPair t;
  t.server->acceptStartTLS(t.asClient(), t.clock);
  auto begun = t.client->startTLS(t.asServer(), t.clock);
  auto after = t.client->callRemote<Sum>({3, 4});
  t.turn();
  successResultOf(begun);
  CHECK(successResultOf(after).total == 7);
  CHECK(TLSTransport::from(t.server->transport())->getPeerCertificate());
}

TEST_CASE("AMP: StartTLS that is refused ends the connection") {
  TLSPair t;
  auto begun = t.client->startTLS(t.asClient(), t.clock);
  auto secret = t.client->callRemote<Hello>({"secret"});
  t.turn();
  failureResultOf<amp::UnhandledCommand>(begun);
  failureResultOf<amp::UnhandledCommand>(secret);
  CHECK(t.server->greeted.empty());
  CHECK_FALSE(t.pump.connected());
}

TEST_CASE("AMP: StartTLS with a certificate that is not trusted") {
  TLSPair t;
  t.server->acceptStartTLS(t.asServer(), t.clock);
  auto begun = t.client->startTLS(t.asClient("other.example"), t.clock);
  auto secret = t.client->callRemote<Hello>({"secret"});
  t.turn();
  successResultOf(begun);
  failureResultOf<VerifyError>(secret);
  CHECK(t.server->greeted.empty());
}

TEST_CASE("AMP: both ends ask for TLS at once") {
  TLSPair t;
  t.server->acceptStartTLS(t.asServer(), t.clock);
  t.client->acceptStartTLS(t.asClient(), t.clock);
  auto here = t.client->startTLS(t.asClient(), t.clock);
  auto there = t.server->startTLS(t.asServer(), t.clock);
  t.turn();
  CHECK_FALSE(t.pump.connected());
  failureResultOf(here);
  failureResultOf(there);
}

TEST_CASE("AMP: bytes in clear behind StartTLS are not taken for protected ones") {
  TLSPair t;
  t.server->acceptStartTLS(t.asServer(), t.clock);
  struct Injector : Protocol {
    void connectionMade() override {
      transport().write(amp::serialize({{"_command", "StartTLS"}, {"_ask", "1"}}) +
                        amp::serialize({{"_command", "hello"}, {"_ask", "2"}, {"hello", "injected"}}));
    }
  };
  auto server = std::make_shared<Math>();
  server->acceptStartTLS(t.asServer(), t.clock);
  IOPump pump(std::make_shared<Injector>(), server);
  pump.flush();
  CHECK(server->greeted.empty());
  REQUIRE(server->lost);
  CHECK(server->lost->check<SSLError>());
}

// ---- descriptors

namespace {

// Hands descriptors over at once, before the bytes that go with them.
class UNIXStringTransport final : public StringTransport, public UNIXTransport {
 public:
  void sendFileDescriptor(int fd) override { sent.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
  std::vector<amp::Descriptor> sent;
};

ino_t inode(int fd) {
  struct stat status{};
  CHECK(::fstat(fd, &status) == 0);
  return status.st_ino;
}

}  // namespace

TEST_CASE("AMP: descriptors go with their boxes") {
  auto client = std::make_shared<Math>(), server = std::make_shared<Math>();
  UNIXStringTransport out, back;
  client->makeConnection(out);
  server->makeConnection(back);
  server->respond<SendFile>([](SendFile::Arguments a) { return SendFile::Response{std::move(a.file)}; });
  for (int i = 0; i < 2; ++i) {
    amp::Descriptor zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const ino_t number = inode(zero.fileno());
    auto returned = client->callRemote<SendFile>({std::move(zero)});
    CHECK(amp::parseString(out.value()).at(0).at("file") == std::to_string(i));
    REQUIRE(out.sent.size() == 1);
    server->fileDescriptorReceived(out.sent[0].release());
    server->dataReceived(out.value());
    REQUIRE(back.sent.size() == 1);
    client->fileDescriptorReceived(back.sent[0].release());
    client->dataReceived(back.value());
    CHECK(inode(successResultOf(returned).file.fileno()) == number);
    out.sent.clear();
    back.sent.clear();
    out.clear();
    back.clear();
  }
  client->connectionLost(ConnectionDone());
  server->connectionLost(ConnectionDone());
}

TEST_CASE("AMP: descriptors that cannot be sent, or that nobody asks for") {
  SUBCASE("over TCP") {
    OnString t;
    failureResultOf<amp::BadValue>(
        t.amp->callRemote<SendFile>({amp::Descriptor(::open("/dev/zero", O_RDONLY | O_CLOEXEC))}));
    CHECK(t.transport.value().empty());
    t.amp->callRemote<Sum>({1, 2}).addErrback([](const Failure&) { return Sum::Response(); });
  }
  SUBCASE("none") {
    UNIXStringTransport transport;
    auto amp = std::make_shared<Math>();
    amp->makeConnection(transport);
    failureResultOf<amp::BadValue>(amp->callRemote<SendFile>({amp::Descriptor()}));
    CHECK(transport.sent.empty());
    CHECK(transport.value().empty());
  }
  SUBCASE("that no box names") {
    OnString t;
    for (std::size_t i = 0; i < amp::DescriptorExchanger::kMaxReceived; ++i) {
      t.amp->fileDescriptorReceived(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    }
    CHECK(t.amp->connected());
    t.amp->fileDescriptorReceived(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    CHECK(t.lost<amp::AmpLimitError>());
  }
}
