#include <protocols/basic.hpp>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/cut.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/support/resources.hpp>

using namespace torsion;

namespace {

using Strings = std::vector<std::string>;

// Any receiver; what it gets, it records and gives to `act`.
template <class Base>
struct Recorder : Base {
  Strings got;
  std::optional<Failure> lost;
  std::function<void(Recorder&, const std::string&)> act = [](Recorder&, const std::string&) {};
  void connectionLost(const Failure& reason) override { lost = reason; }
  void add(std::string what) {
    got.push_back(std::move(what));
    act(*this, got.back());
  }
};

struct Lines : Recorder<LineReceiver> {
  void lineReceived(std::string_view line) override { add(std::string(line)); }
  void rawDataReceived(std::string_view data) override { add("raw " + std::string(data)); }
};
template <class Base>
struct Strs : Recorder<Base> {
  void stringReceived(std::string_view string) override { this->add(std::string(string)); }
};
using Netstrings = Strs<NetstringReceiver>;

template <class P>
struct OnString {
  std::shared_ptr<P> protocol = std::make_shared<P>();
  StringTransportWithDisconnection transport;
  OnString() { protocol->makeConnection(transport); }
  // In pieces of `size`.
  OnString& feed(std::string_view data, std::size_t size = std::string_view::npos) {
    for (std::size_t at = 0; at < data.size() && protocol->connected(); at += std::min(size, data.size() - at)) {
      protocol->dataReceived(data.substr(at, size));
    }
    return *this;
  }
};

// The same however it is cut.
template <class P>
void checkAnyPieces(std::string_view data, const Strings& expected, const std::function<void(P&)>& prepare = {}) {
  deliverCutEverywhere(data, [&](const Cut& cut) {
    CAPTURE(cut.describe());
    OnString<P> t;
    if (prepare) prepare(*t.protocol);
    cut.deliver(*t.protocol);
    CHECK(t.protocol->got == expected);
  });
}

}  // namespace

TEST_CASE("LineReceiver: lines, cut anywhere") {
  checkAnyPieces<Lines>("hello\r\n\r\na\rb\nc\r\r\n12345678\r\nrest", {"hello", "", "a\rb\nc\r", "12345678"});
}

TEST_CASE("LineReceiver: other delimiters") {
  checkAnyPieces<Lines>("a\nb\r\nc", {"a", "b\r"}, [](Lines& p) { p.setDelimiter("\n"); });
  checkAnyPieces<Lines>("a---b--c----", {"a", "b--c"}, [](Lines& p) { p.setDelimiter("---"); });
  CHECK_THROWS_AS(Lines().setDelimiter(""), std::invalid_argument);
  SUBCASE("changed when part of a line has come in") {
    OnString<Lines> t;
    t.feed("one;two");
    t.protocol->setDelimiter(";");
    t.feed(";");
    CHECK(t.protocol->got == Strings{"one", "two"});
  }
}

TEST_CASE("LineReceiver: raw mode and back") {
  // "N" announces N raw bytes.
  const auto prepare = [](Lines& p) {
    p.act = [left = std::size_t{0}, raw = std::string()](Recorder<LineReceiver>& me, const std::string& what) mutable {
      if (what == "3") {
        left = 3;
        me.got.pop_back();
        me.setRawMode();
      } else if (left > 0) {
        std::string data = what.substr(4);
        me.got.pop_back();
        const std::string extra = data.size() > left ? data.substr(left) : "";
        data.resize(data.size() - extra.size());
        raw += data;
        left -= data.size();
        if (left > 0) return;
        me.got.push_back("raw " + std::exchange(raw, {}));
        me.setLineMode(extra);
      }
    };
  };
  checkAnyPieces<Lines>("a\r\n3\r\nxyzb\r\n3\r\n\r\n\rc\r\n", {"a", "raw xyz", "b", "raw \r\n\r", "c"}, prepare);
}

TEST_CASE("LineReceiver: a line of the greatest length is received, a longer one ends the connection") {
  for (const std::size_t piece : {1, 3, 1000}) {
    CAPTURE(piece);
    OnString<Lines> t;
    t.protocol->setMaxLength(5);
    t.feed("12345\r\n", piece);
    CHECK(t.protocol->got == Strings{"12345"});
    t.feed("123456\r\nnot this\r\n", piece);
    CHECK(t.protocol->got == Strings{"12345"});
    REQUIRE(t.protocol->lost);
    CHECK(t.protocol->lost->check<LineTooLongError>());
    CHECK(t.protocol->lost->getErrorMessage() == "a line is longer than 5 bytes (see setMaxLength)");
  }
}

TEST_CASE("LineReceiver: a line without end is refused as soon as it is too long") {
  OnString<Lines> t;
  CHECK(t.protocol->maxLength() == 16384);
  t.feed(std::string(16385, 'x'));
  CHECK_FALSE(t.transport.disconnecting());
  t.feed("x");
  CHECK(t.transport.disconnecting());
}

TEST_CASE("LineReceiver: lineLengthExceeded may go on; it gets all that came in") {
  struct Lenient : Lines {
    void lineLengthExceeded(std::string_view line) override { got.push_back("too long: " + std::string(line)); }
  };
  OnString<Lenient> t;
  t.protocol->setMaxLength(3);
  t.feed("long line\r\nb\r\n").feed("ok\r\n");
  CHECK(t.protocol->got == Strings{"too long: long line\r\nb\r\n", "ok"});
}

TEST_CASE("MessageReceiver: nothing is received once the connection is being lost") {
  OnString<Lines> lines;
  lines.protocol->act = [](auto& me, auto&) { me.transport().loseConnection(); };
  lines.feed("a\r\nb\r\n");
  CHECK(lines.protocol->got == Strings{"a"});
  OnString<Netstrings> strings;
  strings.protocol->act = [](auto& me, auto&) { me.transport().abortConnection(); };
  strings.feed("1:a,1:b,");
  CHECK(strings.protocol->got == Strings{"a"});
}

TEST_CASE("MessageReceiver: paused, it keeps what has come in, and goes on when resumed, even by itself") {
  OnString<Lines> t;
  t.protocol->act = [](auto& me, const std::string& line) {
    if (line == "pause") me.pauseProducing();
    if (line == "both") {
      me.pauseProducing();
      me.resumeProducing();
    }
  };
  t.feed("a\r\npause\r\nb\r\nboth\r\nc\r\nd");
  CHECK(t.protocol->got == Strings{"a", "pause"});
  CHECK(t.transport.producerState() == StringTransport::ProducerState::paused);
  t.protocol->resumeProducing();
  CHECK(t.transport.producerState() == StringTransport::ProducerState::producing);
  CHECK(t.protocol->got == Strings{"a", "pause", "b", "both", "c"});
  t.feed("\r\n");
  CHECK(t.protocol->got.back() == "d");
  t.protocol->stopProducing();
  CHECK(t.transport.producerState() == StringTransport::ProducerState::stopped);
}

TEST_CASE("MessageReceiver: data that comes while one is being delivered waits its turn") {
  OnString<Lines> t;
  t.protocol->act = [](auto& me, const std::string& line) {
    if (line == "a") me.dataReceived("late\r\nla");
  };
  t.feed("a\r\nb\r\nx").feed("y\r\n");
  CHECK(t.protocol->got == Strings{"a", "b", "xlate", "lay"});
}

TEST_CASE("MessageReceiver: what a callback throws passes; what follows is not lost") {
  OnString<Lines> t;
  t.protocol->act = [](auto&, const std::string& line) {
    if (line == "bad") throw std::runtime_error("bad line");
  };
  CHECK_THROWS_AS(t.feed("bad\r\nc\r\n"), std::runtime_error);
  t.feed("d\r\n");
  CHECK(t.protocol->got == Strings{"bad", "c", "d"});
}

namespace {

struct OneByOne : Lines {
  void send(std::string_view line) { sendLine(line); }
};
template <class Base>
struct StrsToSend : Strs<Base> {
  void send(std::string_view string) { this->sendString(string); }
};

}  // namespace

TEST_CASE_TEMPLATE("MessageReceiver: what a message may do, in the midst of others, cut anywhere", P, OneByOne,
                   StrsToSend<NetstringReceiver>, StrsToSend<Int8StringReceiver>, StrsToSend<Int16StringReceiver>,
                   StrsToSend<Int32StringReceiver>) {
  OnString<P> sender;
  for (const char* message : {"a", "act", "b", "c"}) sender.protocol->send(message);
  const std::string stream = sender.transport.value();
  for (std::size_t size = 1; size <= stream.size(); ++size) {
    CAPTURE(size);
    const auto run = [&](std::function<void(P&)> act) {
      auto t = std::make_unique<OnString<P>>();
      t->protocol->act = [act](auto& me, const std::string& message) {
        if (message == "act") act(static_cast<P&>(me));
      };
      t->feed(stream, size);
      return t;
    };
    const Strings until{"a", "act"}, all{"a", "act", "b", "c"};
    CHECK(run([](P& me) { me.transport().loseConnection(); })->protocol->got == until);
    CHECK(run([](P& me) { me.transport().abortConnection(); })->protocol->got == until);
    CHECK(run([](P& me) { me.stopProducing(); })->protocol->got == until);
    CHECK(run([](P& me) { me.detachTransport(); })->protocol->got == until);
    const auto paused = run([](P& me) { me.pauseProducing(); });
    CHECK(paused->protocol->got == until);
    paused->protocol->resumeProducing();
    CHECK(paused->protocol->got == all);
    CHECK(run([](P& me) {
            me.pauseProducing();
            me.resumeProducing();
          })->protocol->got == all);
  }
}

TEST_CASE("LineReceiver: clearLineBuffer takes what was not delivered") {
  OnString<Lines> t;
  t.feed("a\r\npart");
  CHECK(t.protocol->clearLineBuffer() == "part");
  t.feed("b\r\n");
  CHECK(t.protocol->got == Strings{"a", "b"});
  std::string rest;
  t.protocol->act = [&](auto& me, auto&) { rest = static_cast<Lines&>(me).clearLineBuffer(); };
  t.feed("c\r\nd\r\ne");
  CHECK(rest == "d\r\ne");
  CHECK(t.protocol->got.back() == "c");
}

TEST_CASE("LineReceiver: sendLine, over a connection to another one") {
  struct Echo : LineReceiver {
    void lineReceived(std::string_view line) override { sendLine(line); }
  };
  auto client = std::make_shared<Lines>();
  IOPump pump(client, std::make_shared<Echo>());
  pump.setPieceSize(1);
  client->sendLine("hello");
  client->sendLine("");
  pump.flush();
  CHECK(client->got == Strings{"hello", ""});
  client->transport().loseConnection();
  pump.flush();
}

TEST_CASE("NetstringReceiver: netstrings, cut anywhere") {
  checkAnyPieces<Netstrings>("5:hello,0:,3:a,b,12:123456789012,4:part", {"hello", "", "a,b", "123456789012"});
  OnString<Netstrings> t;
  t.protocol->sendString("hello");
  t.protocol->sendString("");
  CHECK(t.transport.value() == "5:hello,0:,");
}

TEST_CASE("NetstringReceiver: what is no netstring ends the connection at the first wrong byte") {
  const auto lostTo = [](std::string_view data) -> std::string {
    std::string text;
    for (const std::size_t piece : {std::size_t{1}, data.size()}) {
      OnString<Netstrings> t;
      t.feed("1:a,").feed(data.substr(0, data.size() - 1), piece);
      CHECK_FALSE(t.protocol->lost);
      t.feed(data.substr(data.size() - 1));
      CHECK(t.protocol->got == Strings{"a"});
      REQUIRE(t.protocol->lost);
      text = t.protocol->lost->getErrorMessage();
    }
    return text;
  };
  CHECK(lostTo("x") == "a netstring does not begin with its length and a colon");
  CHECK(lostTo(":") == "a netstring does not begin with its length and a colon");
  CHECK(lostTo("12x") == "a netstring does not begin with its length and a colon");
  CHECK(lostTo("-") == "a netstring does not begin with its length and a colon");
  CHECK(lostTo("00") == "a netstring's length begins with a zero");
  CHECK(lostTo("01") == "a netstring's length begins with a zero");
  CHECK(lostTo("3:abcd") == "a netstring does not end with a comma");
  CHECK(lostTo("100000") == "a string has 100000 bytes, more than the 99999 that are allowed");
}

TEST_CASE("MessageReceiver: no limit to speak of, and no overflow") {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  OnString<Lines> lines;
  lines.protocol->setMaxLength(kMost);
  lines.feed("a\r\nb");
  CHECK(lines.protocol->got == Strings{"a"});
  CHECK_FALSE(lines.protocol->lost);
  OnString<Netstrings> strings;
  strings.protocol->setMaxLength(kMost);
  strings.feed("18446744073709551619:abc,");  // 2^64 + 3
  REQUIRE(strings.protocol->lost);
  CHECK(strings.protocol->lost->check<StringTooLongError>());
}

TEST_CASE("MessageReceiver: a long string costs as much as it is long, in whatever pieces it comes") {
  OnString<Strs<Int32StringReceiver>> t;
  const std::string string(32'000'000, 'x');
  t.protocol->setMaxLength(string.size());
  t.protocol->sendString(string);
  t.feed(t.transport.value(), 1460);
  CHECK(t.protocol->got == Strings{string});
}

TEST_CASE("LineReceiver: a long line is looked at once, and moved as often as its memory doubles") {
  struct Watched : LineReceiver {
    bool receive() override {
      looked += input().size() - seen();
      if (input().data() != where) moved += input().size();
      where = input().data();
      return LineReceiver::receive();
    }
    void lineReceived(std::string_view line) override { got += line.size(); }
    std::size_t looked = 0, moved = 0, got = 0;
    const char* where = nullptr;
  };
  constexpr std::size_t kLine = 1 << 20, kLines = 4;
  OnString<Watched> t;
  t.protocol->setMaxLength(kLine);
  std::string stream;
  for (std::size_t i = 0; i < kLines; ++i) stream += std::string(kLine, 'x') + "\r\n";
  t.feed(stream, 16384);
  CHECK(t.protocol->got == kLines * kLine);
  CHECK(t.protocol->looked < stream.size() + 2 * kLines * 16384);
  CHECK(t.protocol->moved < 3 * stream.size());
}

namespace {

// Bytes of memory that each of many receivers holds after `feed`.
template <class P>
std::size_t heldBy(const std::function<void(OnString<P>&)>& feed) {
  constexpr std::size_t kConnections = 64;
  std::vector<std::unique_ptr<OnString<P>>> all(kConnections);
  for (auto& t : all) t = std::make_unique<OnString<P>>();
  const std::size_t before = test::memoryInUse();
  for (auto& t : all) {
    feed(*t);
    Strings().swap(t->protocol->got);
  }
  const std::size_t after = test::memoryInUse();
  return after < before ? 0 : (after - before) / kConnections;
}

}  // namespace

TEST_CASE("MessageReceiver: what it holds is bounded, and nothing when nothing is incomplete") {
  const std::string longest(16384, 'x');
  CHECK(heldBy<Lines>([&](auto& t) { t.feed(longest + "\r\n", 1000); }) < 100);
  CHECK(heldBy<Lines>([&](auto& t) { t.feed(longest, 1000); }) < 3 * longest.size());
  // What was read along with other lines is not what is held.
  std::string read;
  for (int i = 0; i < 4; ++i) read += longest.substr(2) + "\r\n";
  CHECK(heldBy<Lines>([&](auto& t) { t.feed("x").feed(read).feed("rest"); }) < 100);

  // A claim costs nothing. Of what breaks a rule nothing is held but the reason.
  using Int32s = Strs<Int32StringReceiver>;
  const std::string more(60000, '9');
  CHECK(heldBy<Netstrings>([&](auto& t) { t.feed("99999:x"); }) < 100);
  CHECK(heldBy<Netstrings>([&](auto& t) { t.feed("99999:" + more, 1460); }) < 3 * more.size());
  CHECK(heldBy<Netstrings>([&](auto& t) { t.feed(more); }) < 1000);
  CHECK(heldBy<Netstrings>([&](auto& t) { t.feed("x" + more, 1460); }) < 1000);
  CHECK(heldBy<Lines>([&](auto& t) { t.feed(more); }) < 1000);
  CHECK(heldBy<Lines>([&](auto& t) { t.feed(more, 1460); }) < 1000);
  CHECK(heldBy<Int32s>([&](auto& t) { t.feed(more, 1460); }) < 1000);
}

TEST_CASE_TEMPLATE("IntNStringReceiver: strings of any length, cut anywhere", Length, std::uint8_t, std::uint16_t,
                   std::uint32_t) {
  using P = Strs<IntNStringReceiver<Length>>;
  OnString<P> sender;
  for (const char* s : {"hello", "", "x"}) sender.protocol->sendString(s);
  const std::string zeros(sizeof(Length) - 1, '\0');
  CHECK(sender.transport.value() == zeros + "\5hello" + zeros + std::string(1, '\0') + zeros + "\1x");
  checkAnyPieces<P>(sender.transport.value() + zeros + "\3ab", {"hello", "", "x"});
}

TEST_CASE("IntNStringReceiver: a string that is too long") {
  SUBCASE("to send") {
    OnString<Strs<Int8StringReceiver>> t;
    t.protocol->sendString(std::string(255, 'x'));
    CHECK_THROWS_AS(t.protocol->sendString(std::string(256, 'x')), StringTooLongError);
    CHECK(t.transport.value().size() == 256);
  }
  SUBCASE("to receive: the connection ends before it comes in") {
    OnString<Strs<Int32StringReceiver>> t;
    t.protocol->setMaxLength(5);
    t.feed(std::string("\0\0\0\5hello\xff\xff\xff\xff", 13));
    CHECK(t.protocol->got == Strings{"hello"});
    REQUIRE(t.protocol->lost);
    CHECK(t.protocol->lost->getErrorMessage() == "a string has 4294967295 bytes, more than the 5 that are allowed");
  }
  SUBCASE("to receive, and lengthLimitExceeded goes on") {
    struct Lenient : Strs<Int8StringReceiver> {
      bool raise = false;
      void lengthLimitExceeded(std::size_t length) override {
        got.push_back("too long: " + std::to_string(length));
        if (raise) setMaxLength(length);
      }
    };
    OnString<Lenient> t;
    t.protocol->setMaxLength(2);
    t.feed("\3abc\1x").feed("\1y");
    CHECK(t.protocol->got == Strings{"too long: 3", "y"});
    t.protocol->raise = true;
    t.feed("\3abc\1x");
    CHECK(t.protocol->got == Strings{"too long: 3", "y", "too long: 3", "abc", "x"});
  }
}

TEST_CASE("FileSender: the whole file, a piece at a time, then the last byte") {
  std::string content;
  for (int i = 0; i < 5000; ++i) content += std::to_string(i) + '\n';
  auto server = std::make_shared<AccumulatingProtocol>();
  auto client = std::make_shared<AccumulatingProtocol>();
  IOPump pump(client, server);
  auto done = FileSender().beginFileTransfer(std::make_shared<std::istringstream>(content), client->transport());
  CHECK(pump.clientIO().queued() == 16384);
  assertNoResult(done);
  pump.flush();
  CHECK(server->data == content);
  CHECK(successResultOf(done) == "\n");
  client->transport().loseConnection();
  pump.flush();
}

TEST_CASE("FileSender: an empty file, a transformation, errors, and an end before its time") {
  StringTransport transport;
  auto client = std::make_shared<AccumulatingProtocol>();
  client->makeConnection(transport);
  const auto file = std::make_shared<std::istringstream>("abc");
  const auto pull = [&] { transport.producer()->resumeProducing(); };
  FileSender sender;
  SUBCASE("empty") {
    auto done = sender.beginFileTransfer(std::make_shared<std::istringstream>(""), transport);
    pull();
    CHECK(successResultOf(done).empty());
  }
  SUBCASE("transformed") {
    auto done = sender.beginFileTransfer(file, transport, [](std::string piece) {
      for (char& c : piece) c = static_cast<char>(c - 32);
      return piece;
    });
    CHECK_FALSE(transport.streaming());
    pull();
    pull();
    CHECK(transport.value() == "ABC");
    CHECK(successResultOf(done) == "C");
  }
  SUBCASE("transformed to nothing") {
    auto done = sender.beginFileTransfer(file, transport, [](std::string) { return std::string(); });
    pull();
    CHECK(successResultOf(done).empty());
  }
  SUBCASE("the transformation throws") {
    auto done =
        sender.beginFileTransfer(file, transport, [](std::string) -> std::string { throw std::domain_error("no"); });
    pull();
    failureResultOf<std::domain_error>(done);
  }
  SUBCASE("the file cannot be read") {
    file->setstate(std::ios::badbit);
    auto done = sender.beginFileTransfer(file, transport);
    pull();
    failureResultOf<std::ios_base::failure>(done);
  }
  SUBCASE("the connection ends") {
    auto done = sender.beginFileTransfer(file, transport);
    transport.producer()->stopProducing();
    failureResultOf<FileTransferStopped>(done);
    transport.unregisterProducer();
  }
  SUBCASE("cancelled") {
    auto done = sender.beginFileTransfer(file, transport);
    done.cancel();
    failureResultOf<CancelledError>(done);
  }
  SUBCASE("there is another producer") {
    auto done = sender.beginFileTransfer(file, transport);
    CHECK_THROWS_AS(sender.beginFileTransfer(file, transport), std::logic_error);
    pull();
    pull();
    CHECK(successResultOf(done) == "c");
  }
  CHECK(transport.producer() == nullptr);
}

TEST_CASE_TEMPLATE("a receiver that gives its transport to another gives it what is left, too", P, Lines, Netstrings,
                   Strs<Int16StringReceiver>) {
  const auto framed = [](const Strings& strings) {
    StringTransport transport;
    auto sender = std::make_shared<P>();
    sender->makeConnection(transport);
    for (const std::string& string : strings) {
      if constexpr (std::is_same_v<P, Lines>) {
        sender->sendLine(string);
      } else {
        sender->sendString(string);
      }
    }
    return std::string(transport.value());
  };
  const std::string input = framed({"one", "switch", "two", "three"});
  Strings ofFirst;
  std::weak_ptr<P> gone;
  auto next = std::make_shared<P>();
  auto first = std::make_shared<P>();
  gone = first;
  first->act = [&](auto& self, const std::string& string) {
    ofFirst.push_back(string);
    if (string != "switch") return;
    next->makeConnection(self.transport());
    CHECK(self.transport().disconnecting());
    CHECK_FALSE(gone.expired());
    CHECK(next->got.empty());  // not while the first is being called
  };
  for (const std::size_t size : {input.size(), std::size_t{1}, std::size_t{7}}) {
    CAPTURE(size);
    ofFirst.clear();
    next = std::make_shared<P>();
    auto switching = std::make_shared<P>();
    switching->act = first->act;
    gone = switching;
    const auto client = std::make_shared<AccumulatingProtocol>();
    IOPump pump(client, std::move(switching));
    for (std::size_t at = 0; at < input.size(); at += size) {
      client->transport().write(input.substr(at, size));
      pump.flush();
    }
    CHECK(ofFirst == Strings{"one", "switch"});
    CHECK(next->got == Strings{"two", "three"});
    CHECK(gone.expired());
  }
}

TEST_CASE("a receiver that gives its transport away later gives it the message that is not complete") {
  OnString<Lines> f;
  f.feed("one\r\ntw");
  auto next = std::make_shared<Lines>();
  next->makeConnection(f.transport);
  CHECK(next->got.empty());
  next->dataReceived("o\r\n");
  CHECK(next->got == Strings{"two"});
}

TEST_CASE("a receiver that is destroyed by a message of its own is gone when that has returned") {
  StringTransport transport;
  auto lines = std::make_shared<Lines>();
  lines->makeConnection(transport);
  std::weak_ptr<Lines> gone = lines;
  lines->act = [&](auto&, const std::string&) {
    std::make_shared<Lines>()->makeConnection(transport);
    CHECK_FALSE(gone.expired());
  };
  Protocol* const called = std::exchange(lines, nullptr).get();
  called->dataReceived("one\r\ntwo\r\n");
  CHECK(gone.expired());
}
