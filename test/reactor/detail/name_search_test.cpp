// NameSearch without a network: the test plays the servers, and moves the time.
#include <reactor/detail/name_search.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <reactor/testing/clock.hpp>

using namespace torsion;
using namespace torsion::detail;
using namespace std::chrono_literals;
using Kind = DNSAnswer::Kind;

namespace {

// Writes down what it is told, in a line.
struct Recorder final : NameSearch::Listener, std::enable_shared_from_this<Recorder> {
  Clock clock;
  std::string told;
  std::vector<std::size_t> v4, v6;  // the questions
  std::unique_ptr<NameSearch> search;
  bool endsAtFound = false;

  static std::shared_ptr<Recorder> start(std::vector<std::string> names) {
    auto recorder = std::make_shared<Recorder>();
    recorder->search =
        std::make_unique<NameSearch>(recorder->clock, std::move(names), *recorder, std::source_location::current());
    recorder->search->start();
    return recorder;
  }
  void ask(const std::string& name, int family, std::size_t question) override {
    (family == AF_INET6 ? v6 : v4).push_back(question);
    if (family == AF_INET6) told += "?" + name + " ";
  }
  void found(std::vector<Address> addresses) override {
    for (const Address& address : addresses) told += describe(address) + " ";
    if (endsAtFound) search->stop();
  }
  void settled() override { told += "settled "; }
  void ended(const std::string& error) override { told += "ended " + error; }
  std::shared_ptr<void> self() override { return shared_from_this(); }

  void answerV4(Kind kind = Kind::addresses) { answer(v4.back(), kind, IPv4Address("10.0.0.1")); }
  void answerV6(Kind kind = Kind::addresses) { answer(v6.back(), kind, IPv6Address("fd00::1")); }
  void answer(std::size_t question, Kind kind, Address address) {
    static constexpr const char* kText[] = {"", "no such name", "no address", "failed", "timed out"};
    DNSAnswer answer{kind, {}, kText[static_cast<int>(kind)]};
    if (kind == Kind::addresses) answer.addresses = {std::move(address)};
    search->answered(question, std::move(answer));
  }
};

}  // namespace

TEST_CASE("both families are asked for at once; IPv6 is told of at once, and IPv4 after it") {
  auto r = Recorder::start({"a."});
  CHECK(r->v4.size() == 1);
  CHECK(r->v6.size() == 1);
  SUBCASE("IPv6 first") {
    r->answerV6();
    CHECK(r->told == "?a. [fd00::1]:0 ");
    r->answerV4();
    CHECK(r->told == "?a. [fd00::1]:0 10.0.0.1:0 ended ");
  }
  SUBCASE("IPv4 first") {
    r->answerV4();
    CHECK(r->told == "?a. ");
    r->answerV6();
    CHECK(r->told == "?a. 10.0.0.1:0 [fd00::1]:0 ended ");
  }
  CHECK(r->clock.getDelayedCalls().empty());
}

TEST_CASE("IPv4 waits 50 ms for IPv6, which may follow") {
  auto r = Recorder::start({"a."});
  r->answerV4();
  r->clock.advance(49ms);
  CHECK(r->told == "?a. ");
  r->clock.advance(1ms);
  CHECK(r->told == "?a. 10.0.0.1:0 settled ");
  r->answerV6();
  CHECK(r->told == "?a. 10.0.0.1:0 settled [fd00::1]:0 ended ");
}

TEST_CASE("IPv6 is worth taking alone when IPv4 has had 50 ms") {
  auto r = Recorder::start({"a."});
  r->answerV6();
  r->clock.advance(50ms);
  CHECK(r->told == "?a. [fd00::1]:0 settled ");
  r->answerV4(Kind::timedOut);
  CHECK(r->told == "?a. [fd00::1]:0 settled ended ");
}

TEST_CASE("whatever says that a family has no address ends the waiting for it") {
  for (const Kind kind : {Kind::none, Kind::noSuchName, Kind::failed, Kind::timedOut}) {
    auto r = Recorder::start({"a."});
    r->answerV6(kind);
    r->answerV4();
    CHECK(r->told == "?a. 10.0.0.1:0 ended ");
  }
}

TEST_CASE("no such name: the other family gets 50 ms, too; a name without an address may have one in the other") {
  auto r = Recorder::start({"a."});
  SUBCASE("no such name") {
    r->answerV4(Kind::noSuchName);
    r->clock.advance(49ms);
    SUBCASE("it is silent") {
      r->clock.advance(1ms);
      CHECK(r->told == "?a. ended no such name");
    }
    SUBCASE("it knows better") {
      r->answerV6();
      CHECK(r->told == "?a. [fd00::1]:0 ended ");
    }
  }
  SUBCASE("no address") {
    r->answerV4(Kind::none);
    r->clock.advance(10s);
    CHECK(r->told == "?a. ");
    r->answerV6();
    CHECK(r->told == "?a. [fd00::1]:0 ended ");
  }
}

TEST_CASE("the names are asked for in turn until one has an address") {
  auto r = Recorder::start({"a.example.", "a."});
  r->answerV4(Kind::none);
  r->answerV6(Kind::noSuchName);
  CHECK(r->told == "?a.example. ?a. ");
  r->answerV6();
  r->answerV4(Kind::none);
  CHECK(r->told == "?a.example. ?a. [fd00::1]:0 ended ");
}

TEST_CASE("what is answered for a name that was given up counts for no other") {
  auto r = Recorder::start({"a.example.", "a."});
  r->answerV4(Kind::noSuchName);
  r->clock.advance(50ms);
  CHECK(r->told == "?a.example. ?a. ");
  r->answer(r->v6.front(), Kind::addresses, IPv6Address("fd00::bad"));
  CHECK(r->told == "?a.example. ?a. ");
  r->answerV4();
  r->answerV6(Kind::none);
  CHECK(r->told == "?a.example. ?a. 10.0.0.1:0 ended ");
}

TEST_CASE("of several reasons the one that says most is told; servers that do not answer end the search") {
  auto r = Recorder::start({"a.example.", "a."});
  r->answerV4(Kind::none);
  r->answerV6(Kind::failed);
  SUBCASE("all have answered") {
    r->answerV4(Kind::noSuchName);
    r->answerV6(Kind::noSuchName);
    CHECK(r->told == "?a.example. ?a. ended failed");
  }
  SUBCASE("they do not answer") {
    r->answerV4(Kind::timedOut);
    r->answerV6(Kind::none);
    CHECK(r->told == "?a.example. ?a. ended timed out");
  }
  CHECK(r->clock.getDelayedCalls().empty());
}

TEST_CASE("a search that is stopped says no more, also when it is stopped in a call") {
  auto r = Recorder::start({"a."});
  SUBCASE("before the answers") {
    r->answerV4();
    r->search->stop();
    r->answerV6();
    CHECK(r->told == "?a. ");
  }
  SUBCASE("in found(), when time is over") {
    r->endsAtFound = true;
    r->answerV4();
    r->clock.advance(50ms);
    CHECK(r->told == "?a. 10.0.0.1:0 ");
  }
  SUBCASE("in found(), at the last answer") {
    r->endsAtFound = true;
    r->answerV4();
    r->answerV6();
    CHECK(r->told == "?a. 10.0.0.1:0 [fd00::1]:0 ");
  }
  CHECK(r->clock.getDelayedCalls().empty());
}
