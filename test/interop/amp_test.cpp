// AMP: our ends with Python Twisted's.
#include <protocols/amp.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <deferred/list.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/tls.hpp>
#include <test/interop/interop.hpp>
#include <test/support/amp_commands.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace torsion::test;
using namespace std::chrono_literals;

namespace {

struct Later {
  static constexpr std::string_view commandName = "Later";
  struct Arguments {
    int number;
  };
  using Response = Arguments;
  static constexpr auto arguments = amp::fields(amp::field("number", &Arguments::number));
  static constexpr auto response = arguments;
};
struct Note {
  static constexpr std::string_view commandName = "Note";
  struct Arguments {
    std::string text;
  };
  static constexpr auto arguments = amp::fields(amp::field("text", &Arguments::text, amp::Unicode()));
  static constexpr bool requiresAnswer = false;
};
struct Missing {
  static constexpr std::string_view commandName = "Missing";
};
struct Item {
  int x = 0;
  std::optional<std::string> name = {};
  static constexpr auto fields =
      amp::fields(amp::field("x", &Item::x), amp::field("name", &Item::name, amp::Unicode()));
  bool operator==(const Item&) const = default;
};
struct Types {
  static constexpr std::string_view commandName = "Types";
  struct Arguments {
    std::int64_t integer;
    std::string string, unicode;
    bool boolean;
    double number;
    amp::Decimal decimal;
    amp::DateTime datetime;
    std::filesystem::path path;
    std::vector<int> listof;
    std::vector<std::string> unicodes;
    std::vector<amp::DateTime> times;
    std::vector<Item> amplist;
    std::optional<int> maybeInteger;
    std::optional<std::vector<std::string>> maybeList;
    bool operator==(const Arguments&) const = default;
  };
  using Response = Arguments;
  static constexpr auto arguments = amp::fields(
      amp::field("integer", &Arguments::integer), amp::field("string", &Arguments::string),
      amp::field("unicode", &Arguments::unicode, amp::Unicode()), amp::field("boolean", &Arguments::boolean),
      amp::field("float", &Arguments::number), amp::field("decimal", &Arguments::decimal),
      amp::field("datetime", &Arguments::datetime), amp::field("path", &Arguments::path),
      amp::field("listof", &Arguments::listof),
      amp::field("unicodes", &Arguments::unicodes, amp::ListOf(amp::Unicode())), amp::field("times", &Arguments::times),
      amp::field("amplist", &Arguments::amplist), amp::field("maybe-integer", &Arguments::maybeInteger),
      amp::field("maybe-list", &Arguments::maybeList));
  static constexpr auto response = arguments;
};
struct PassFile {
  static constexpr std::string_view commandName = "PassFile";
  struct Arguments {
    amp::Descriptor file;
  };
  struct Response {
    amp::Descriptor file;
    std::string content;
  };
  static constexpr auto arguments = amp::fields(amp::field("file", &Arguments::file));
  static constexpr auto response =
      amp::fields(amp::field("file", &Response::file), amp::field("content", &Response::content));
};

std::string contentOf(const amp::Descriptor& file) {
  char text[100];
  const ssize_t size = ::pread(file.fileno(), text, sizeof text, 0);
  return {text, static_cast<std::size_t>(size < 0 ? 0 : size)};
}

struct Math : amp::AMP {
  Math() {
    respond<Sum>([](Sum::Arguments a) { return Sum::Response{a.a + a.b}; });
    respond<Divide>([](Divide::Arguments a) {
      if (a.numerator == 13) throw Die("unlucky");
      if (a.numerator == 14) throw std::out_of_range("undeclared");
      if (a.denominator == 0) throw ZeroDivisionError("division by zero");
      return Divide::Response{double(a.numerator) / double(a.denominator)};
    });
    respond<Later>([this](Later::Arguments a) {
      later.emplace_back(a, Resolver<Later::Response>());
      auto answer = later.back().second.deferred();
      if (later.size() == 50) {
        for (auto i = later.rbegin(); i != later.rend(); ++i) i->second.callback(i->first);
      }
      return answer;
    });
    respond<Note>([this](Note::Arguments a) { noted = a.text; });
    respond<Types>([this](Types::Arguments a) {
      types = a;
      return a;
    });
    respond<PassFile>([](PassFile::Arguments a) {
      std::string content = contentOf(a.file);
      return PassFile::Response{std::move(a.file), std::move(content)};
    });
  }
  void connectionLost(const Failure& reason) override {
    AMP::connectionLost(reason);
    lost = reason;
  }
  std::vector<std::pair<Later::Response, Resolver<Later::Response>>> later;
  std::string noted;
  std::optional<Types::Arguments> types;
  std::optional<Failure> lost;
};

struct Connection {
  LogCapture log;
  TemporaryDirectory directory;
  Reactor reactor;
  std::shared_ptr<Math> ours = std::make_shared<Math>();
  std::shared_ptr<ListeningPort> port;
  Peer peer{reactor};

  std::string file(const std::string& name, const Issued& issued) {
    return directory.write(name, issued.certificate + issued.privateKey);
  }
  TLSOptions serverOptions() {
    return optionsForServerTLS(
        {.privateKey = testPKI().localhost.privateKey, .certificate = testPKI().localhost.certificate});
  }
  TLSOptions clientOptions() {
    return optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate});
  }
  void connect(bool weListen, bool tls) {
    if (weListen) {
      std::shared_ptr<Factory> factory = factoryOf(ours);
      if (tls) factory = tlsFactory(serverOptions(), factory, reactor);
      port = reactor.listenTCP(0, factory, 50, "127.0.0.1");
      const std::string number = std::to_string(portOf(port->getHost()));
      peer.tell(tls ? "connectTLS " + number + " Math hostname=localhost trust=" + file("trust", testPKI().authority)
                    : "connectTCP 127.0.0.1 " + number + " Math");
    } else {
      const std::uint16_t number =
          peer.listen(tls ? "listenTLS Math cert=" + file("cert", testPKI().localhost) : "listenTCP 127.0.0.1 Math");
      std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(ours);
      if (tls) factory = tlsFactory(clientOptions(), factory, reactor);
      reactor.connectTCP("127.0.0.1", number, factory);
    }
    made();
  }
  void connectUNIX(bool weListen) {
    const std::string name = directory.path() + "/socket";
    if (weListen) {
      port = reactor.listenUNIX(name, factoryOf(ours));
      peer.tell("connectUNIX " + name + " Math");
    } else {
      peer.tell("listenUNIX " + name + " Math");
      CHECK(peer.hear() == "listening");
      reactor.connectUNIX(name, std::make_shared<RecorderClientFactory>(ours));
    }
    made();
  }
  void made() {
    CHECK(peer.hear() == "made");
    runUntil(reactor, [&] { return ours->connected(); });
  }
  std::string ask(const std::string& command) {
    peer.tell(command);
    return peer.hear();
  }
  template <class T>
  Result<T> wait(Deferred<T> deferred) {
    auto result = std::make_shared<std::optional<Result<T>>>();
    std::move(deferred).addBoth([result](Result<T> got) { result->emplace(std::move(got)); });
    runUntil(reactor, [&] { return result->has_value(); });
    return std::move(**result);
  }
  void close() {
    ours->transport().loseConnection();
    runUntil(reactor, [&] { return ours->lost.has_value(); });
  }
  ~Connection() {
    for (const auto& text : log.takeErrorTexts()) FAIL_CHECK(text);
  }
};

// The values of amp_peer.py.
std::vector<Types::Arguments> values() {
  using namespace std::chrono;
  const auto at = [](year_month_day day, auto time, minutes offset) {
    return amp::DateTime{sys_days(day) + time - offset, offset};
  };
  std::vector<Item> items(100);
  for (int i = 0; i < 100; ++i) items[static_cast<std::size_t>(i)].x = i;
  return {{-123456789012345678,
           std::string("\0\xff any", 6),
           "wor\u1234ld \U0001f600",
           true,
           0.1,
           amp::Decimal("-1.50E+7"),
           at(2010y / 12 / 25, 1h + 2min + 3s + 456789us, 210min),
           "/tmp/\u00e9",
           {1, -20, 500},
           {"\u2603", ""},
           {at(9999y / 12 / 31, 23h + 59min + 59s + 999999us, -419min)},
           {{7, "hello"}, {9, {}}},
           5,
           {{"a", ""}}},
          {0,
           "",
           "",
           false,
           std::numeric_limits<double>::infinity(),
           amp::Decimal("sNaN12"),
           at(1y / 1 / 2, 0us, 0min),
           "/",
           {},
           {},
           {},
           {},
           {},
           {}},
          {std::numeric_limits<std::int64_t>::max(),
           std::string(65535, 'x'),
           "x",
           true,
           -1.5e-7,
           amp::Decimal("0E-7"),
           at(1969y / 12 / 31, 23h + 59min + 59s + 999999us, -300min),
           "/a b",
           std::vector<int>(1000),
           {"a"},
           {},
           items,
           0,
           std::vector<std::string>()}};
}

}  // namespace

TEST_CASE_TEMPLATE("AMP: calls both ways", Side, WeListen, TheyListen) {
  for (const bool tls : {false, true}) {
    CAPTURE(tls);
    Connection c;
    c.connect(Side::value, tls);
    CHECK(c.wait(c.ours->callRemote<Sum>({13, 81})).value().total == 94);
    CHECK(c.wait(c.ours->callRemote<Divide>({1, 3})).value().result == 1.0 / 3);
    CHECK(c.ask("callSum 13 81") == "answer total=94");
    CHECK(c.ask("callDivide 1 3") == "answer result=0.3333333333333333");

    c.ours->callRemote<Note>({"w\u00f6rd"});
    CHECK(c.peer.hear() == "note w\u00f6rd");
    c.peer.tell("callNote w\u00f6rd");
    runUntil(c.reactor, [&] { return c.ours->noted == "w\u00f6rd"; });

    auto waiting = c.ours->callRemote<Later>({1});
    c.close();
    CHECK(c.wait(std::move(waiting)).failure().check<ConnectionDone>());
    CHECK(c.peer.hear() == "lost ConnectionDone");
  }
}

TEST_CASE_TEMPLATE("AMP: 50 requests under way, answered in another order", Side, WeListen, TheyListen) {
  Connection c;
  c.connect(Side::value, false);
  std::vector<Deferred<Later::Response>> calls;
  for (int i = 0; i < 50; ++i) calls.push_back(c.ours->callRemote<Later>({i}));
  const auto answers = c.wait(gatherResults(std::move(calls)));
  for (int i = 0; i < 50; ++i) CHECK(answers.value()[static_cast<std::size_t>(i)].number == i);
  CHECK(c.ask("callLater 50") == "answers True");
}

TEST_CASE_TEMPLATE("AMP: every argument type, both ways", Side, WeListen, TheyListen) {
  Connection c;
  c.connect(Side::value, false);
  const auto all = values();
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    CHECK(c.wait(c.ours->callRemote<Types>(all[i])).value() == all[i]);
    CHECK(c.peer.hear().starts_with("types "));
    CHECK(c.ask("callTypes " + std::to_string(i)) == "same");
    CHECK(c.ours->types == all[i]);
  }
  SUBCASE("as Python sees them") {
    c.ours->callRemote<Types>(all[0]).addErrback([](const Failure&) { return Types::Response(); });
    CHECK(c.peer.hear() ==
          "types boolean=True datetime=2010-12-25T01:02:03.456789+03:30 decimal=Decimal('-1.50E+7') float=0.1 "
          "integer=-123456789012345678 maybe_integer=5 maybe_list=[b'a',_b''] path=FilePath('/tmp/\u00e9') "
          "unicode='wor\u1234ld_\U0001f600' unicodes=['\u2603',_'']");
  }
}

TEST_CASE("AMP: an integer that is too large for us") {
  Connection c;
  c.connect(false, false);
  const auto result = c.wait(c.ours->callRemote<Sum>({std::numeric_limits<std::int64_t>::max(), 1}));
  CHECK(result.failure().check<amp::BadValue>());
  CHECK(c.ask("callSum 9223372036854775808 1") == "failed UnknownRemoteError Code<UNKNOWN>: Unknown Error");
  CHECK(c.log.flushLoggedErrors<amp::BadValue>().size() == 1);
}

TEST_CASE_TEMPLATE("AMP: errors", Side, WeListen, TheyListen) {
  Connection c;
  c.connect(Side::value, false);
  SUBCASE("declared ones") {
    const auto result = c.wait(c.ours->callRemote<Divide>({1, 0}));
    CHECK(result.failure().check<ZeroDivisionError>());
    CHECK(result.failure().getErrorMessage() == "division by zero");
    CHECK(c.ask("callDivide 1 0") == "failed ZeroDivisionError division by zero");
  }
  SUBCASE("unknown commands") {
    CHECK(c.wait(c.ours->callRemote<Missing>()).failure().check<amp::UnhandledCommand>());
    CHECK(c.ask("callMissing").starts_with("failed UnhandledCommand"));
  }
  SUBCASE("fatal ones from them") {
    CHECK(c.wait(c.ours->callRemote<Divide>({13, 1})).failure().check<Die>());
    CHECK(c.peer.hear() == "lost ConnectionDone");
    runUntil(c.reactor, [&] { return c.ours->lost.has_value(); });
    CHECK(c.ours->lost->check<ConnectionDone>());
    return;
  }
  SUBCASE("fatal ones from us") {
    CHECK(c.ask("callDivide 13 1") == "failed Die unlucky");
    CHECK(c.peer.hear() == "lost ConnectionDone");
    return;
  }
  SUBCASE("undeclared ones from them") {
    const auto result = c.wait(c.ours->callRemote<Divide>({14, 1}));
    CHECK(result.failure().check<amp::UnknownRemoteError>());
    CHECK(c.peer.hear() == "lost ConnectionDone");
    return;
  }
  SUBCASE("undeclared ones from us") {
    CHECK(c.ask("callDivide 14 1") == "failed UnknownRemoteError Code<UNKNOWN>: Unknown Error");
    CHECK(c.peer.hear() == "lost ConnectionDone");
    CHECK(c.log.flushLoggedErrors<std::out_of_range>().size() == 1);
    return;
  }
  CHECK(c.wait(c.ours->callRemote<Sum>({1, 2})).value().total == 3);
}

TEST_CASE("AMP: StartTLS in mid-stream, asked by us") {
  Connection c;
  c.peer.tell("useCertificate " + c.file("cert", testPKI().localhost));
  CHECK(c.peer.hear() == "ready");
  c.connect(false, false);
  auto before = c.ours->callRemote<Sum>({1, 2});
  auto begun = c.ours->startTLS(c.clientOptions(), c.reactor);
  auto after = c.ours->callRemote<Sum>({3, 4});
  CHECK(c.wait(std::move(before)).value().total == 3);
  CHECK(c.wait(std::move(begun)).ok());
  CHECK(c.wait(std::move(after)).value().total == 7);
  REQUIRE(TLSTransport::from(c.ours->transport()));
  CHECK(TLSTransport::from(c.ours->transport())->getPeerCertificate()->subject == "CN=localhost");
  CHECK(c.ask("callSum 5 6") == "answer total=11");
}

TEST_CASE("AMP: StartTLS in mid-stream, asked by them") {
  Connection c;
  c.ours->acceptStartTLS(c.serverOptions(), c.reactor);
  c.connect(true, false);
  CHECK(c.ask("callSum 5 6") == "answer total=11");
  CHECK(c.ask("callStartTLS " + c.file("trust", testPKI().authority)) == "answer");
  CHECK(c.peer.hear() == "answer total=3");
  REQUIRE(TLSTransport::from(c.ours->transport()));
  CHECK(c.wait(c.ours->callRemote<Sum>({1, 2})).value().total == 3);
}

TEST_CASE_TEMPLATE("AMP: descriptors over a UNIX socket", Side, WeListen, TheyListen) {
  Connection c;
  c.connectUNIX(Side::value);
  const std::string path = c.directory.write("file", "what_is_in_it");
  for (int i = 0; i < 3; ++i) {
    amp::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const auto result = c.wait(c.ours->callRemote<PassFile>({std::move(file)}));
    CHECK(result.value().content == "what_is_in_it");
    CHECK(contentOf(result.value().file) == "what_is_in_it");
    CHECK(c.ask("callPassFile " + path) == "file what_is_in_it what_is_in_it");
  }
}
