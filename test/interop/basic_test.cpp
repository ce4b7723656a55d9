// Framing, files, port forwarding and the small protocols: our ends with Python Twisted's.
#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <protocols/basic.hpp>
#include <protocols/finger.hpp>
#include <protocols/portforward.hpp>
#include <protocols/wire.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/string_transport.hpp>
#include <reactor/tls.hpp>
#include <test/interop/interop.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>
#include <test/support/resources.hpp>

using namespace torsion;
using namespace torsion::test;

namespace {

// ---- our receivers, which report as those of basic_peer.py do

struct Noted {
  virtual ~Noted() = default;
  virtual Protocol& protocol() = 0;
  virtual void sendMessage(std::string_view message) = 0;

  void note(std::string_view message) {
    ++count;
    all.append(std::to_string(message.size())).append(1, ':').append(message);
  }
  /// As the peer says it at the end.
  std::string summary() const { return std::to_string(count) + sum(all).substr(std::to_string(all.size()).size()); }

  std::size_t count = 0;
  std::string all;
  std::optional<Failure> lost;
};

template <class Base>
struct Messages : Base, Noted {
  Protocol& protocol() override { return *this; }
  void connectionLost(const Failure& reason) override { lost = reason; }
};

struct Lines : Messages<LineReceiver> {
  explicit Lines(const char* delimiter = "\r\n") { setDelimiter(delimiter); }
  void lineReceived(std::string_view line) override { note(line); }
  void sendMessage(std::string_view line) override { sendLine(line); }
};

/// "raw N" is followed by N bytes; they are a message, too.
struct RawLines : Lines {
  void lineReceived(std::string_view line) override {
    note(line);
    if (!line.starts_with("raw ")) return;
    left = std::stoul(std::string(line.substr(4)));
    setRawMode();
  }
  void rawDataReceived(std::string_view data) override {
    const std::string_view mine = data.substr(0, left);
    left -= mine.size();
    raw += mine;
    if (left > 0) return;
    note(std::exchange(raw, {}));
    setLineMode(data.substr(mine.size()));
  }
  std::size_t left = 0;
  std::string raw;
};

template <class Base>
struct Strings : Messages<Base> {
  void stringReceived(std::string_view string) override { this->note(string); }
  void sendMessage(std::string_view string) override { this->sendString(string); }
};

struct Kind {
  std::string theirs;  // class of basic_peer.py
  std::function<std::shared_ptr<Noted>()> make;
  std::size_t greatest;
  std::string avoid = {};  // bytes that no message may have
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"Lines", [] { return std::make_shared<Lines>(); }, 16384, "\r\n"},
      {"OnlyLines", [] { return std::make_shared<Lines>(); }, 16384, "\r\n"},
      {"Dashes", [] { return std::make_shared<Lines>("--"); }, 16384, "-"},
      {"Netstrings", [] { return std::make_shared<Strings<NetstringReceiver>>(); }, 99999},
      {"Int8", [] { return std::make_shared<Strings<Int8StringReceiver>>(); }, 255},
      {"Int16", [] { return std::make_shared<Strings<Int16StringReceiver>>(); }, 65535},
      {"Int32", [] { return std::make_shared<Strings<Int32StringReceiver>>(); }, 99999},
  };
  return all;
}

std::string randomBytes(std::mt19937& random, std::size_t size, std::string_view avoid = {}) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    do {
      c = static_cast<char>(random());
    } while (avoid.find(c) != std::string_view::npos);
  }
  return bytes;
}

// ---- connections

/// One connection, plain or over TLS, between `ours` and the peer's `theirs` (a class), which has said "made".
struct Link {
  Link(bool weListen, bool overTLS, const std::string& theirs, std::shared_ptr<Protocol> ours) : ours(std::move(ours)) {
    const auto file = [&](const char* name, const Issued& issued) {
      return directory.write(name, issued.certificate + issued.privateKey);
    };
    const std::string transport = overTLS ? "TLS" : "TCP";
    if (weListen) {
      auto factory = factoryOf(this->ours);
      if (overTLS) {
        const auto& own = testPKI().localhost;
        factory = tlsFactory(optionsForServerTLS({.privateKey = own.privateKey, .certificate = own.certificate}),
                             factory, reactor);
      }
      auto port = reactor.listenTCP(0, factory, 50, "127.0.0.1");
      const std::string number = std::to_string(portOf(port->getHost()));
      peer.tell(overTLS ? "connectTLS " + number + " " + theirs +
                              " hostname=localhost trust=" + file("authority.pem", testPKI().authority)
                        : "connectTCP 127.0.0.1 " + number + " " + theirs);
    } else {
      const std::uint16_t port =
          peer.listen(overTLS ? "listenTLS " + theirs + " cert=" + file("localhost.pem", testPKI().localhost)
                              : "listenTCP 127.0.0.1 " + theirs);
      std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(this->ours);
      if (overTLS) {
        factory = tlsFactory(optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate}), factory,
                             reactor);
      }
      reactor.connectTCP("127.0.0.1", port, factory);
    }
    std::string said = peer.hear();
    CHECK(said == "made");
    runUntil(reactor, [&] { return this->ours->connected(); });
  }
  Link(bool weListen, bool overTLS, const Kind& kind, const std::shared_ptr<Noted>& noted)
      : Link(weListen, overTLS, kind.theirs, std::shared_ptr<Protocol>(noted, &noted->protocol())) {}

  void until(const std::function<bool()>& done) { runUntil(reactor, done); }

  TemporaryDirectory directory;
  Reactor reactor;
  std::shared_ptr<Protocol> ours;
  Peer peer{reactor};
};

/// Runs `f` for plain connections and for those over TLS.
void eitherWay(const std::function<void(bool overTLS)>& f) {
  for (const bool overTLS : {false, true}) {
    CAPTURE(overTLS);
    f(overTLS);
  }
}

/// What `noted` writes for these messages.
std::string framed(Noted& noted, const std::vector<std::string>& messages) {
  StringTransport transport;
  noted.protocol().makeConnection(transport);
  for (const auto& message : messages) noted.sendMessage(message);
  return transport.value();
}

std::string hex(std::string_view data) {
  std::string text;
  for (const char c : data) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[c & 15];
  }
  return text;
}

}  // namespace

TEST_CASE_TEMPLATE("framing: random messages, there and back", Side, WeListen, TheyListen) {
  eitherWay([](bool overTLS) {
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.theirs);
      auto ours = kind.make();
      Link link(Side::value, overTLS, kind, ours);
      std::mt19937 random(overTLS ? 1 : 2);
      Lines sent;
      for (std::size_t size = 0; sent.all.size() < 1'500'000 && sent.count < 5000;
           size = random() % 8 == 0 ? random() % (kind.greatest + 1)
                                    : random() % std::min<std::size_t>(kind.greatest, 40)) {
        const std::string message = randomBytes(random, size, kind.avoid);
        sent.note(message);
        ours->sendMessage(message);
      }
      const std::string greatest(kind.greatest, 'x');
      sent.note(greatest);
      ours->sendMessage(greatest);
      link.until([&] { return ours->count == sent.count || ours->lost; });
      CHECK(ours->summary() == sent.summary());
      ours->protocol().transport().loseConnection();
      CHECK(link.peer.hear() == "lost ConnectionDone " + sent.summary());
    }
  });
}

TEST_CASE_TEMPLATE("LineReceiver: raw data in mid-stream, there and back", Side, WeListen, TheyListen) {
  eitherWay([](bool overTLS) {
    auto ours = std::make_shared<RawLines>();
    Link link(Side::value, overTLS, "RawLines", ours);
    std::mt19937 random(3);
    Lines sent;
    const auto send = [&](const std::string& line) {
      sent.note(line);
      ours->sendLine(line);
    };
    for (int i = 0; i < 300; ++i) {
      for (auto lines = random() % 4; lines > 0; --lines) send("line " + randomBytes(random, random() % 100, "\r\n"));
      const std::string raw = randomBytes(random, 1 + random() % (i % 10 == 0 ? 200'000 : 200));
      send("raw " + std::to_string(raw.size()));
      sent.note(raw);
      ours->transport().write(raw);
    }
    send("the end");
    link.until([&] { return ours->count == sent.count || ours->lost; });
    CHECK(ours->summary() == sent.summary());
    ours->transport().loseConnection();
    CHECK(link.peer.hear() == "lost ConnectionDone " + sent.summary());
  });
}

TEST_CASE_TEMPLATE("framing: a byte at a time", Side, WeListen, TheyListen) {
  for (const Kind& kind : kinds()) {
    CAPTURE(kind.theirs);
    const std::vector<std::string> messages = {"hello", "", "no echo\x01", "\xff"};
    const std::string bytes = framed(*kind.make(), messages);
    Lines sent;
    for (const auto& message : messages) sent.note(message);
    {
      auto ours = kind.make();
      Link link(Side::value, false, kind, ours);
      link.peer.tell("drip " + hex(bytes));
      link.until([&] { return ours->count == messages.size(); });
      CHECK(ours->summary() == sent.summary());
    }
    auto ours = kind.make();
    Link link(Side::value, false, kind, ours);
    ours->protocol().transport().setTcpNoDelay(true);
    for (const char c : bytes) {
      ours->protocol().transport().write({&c, 1});
      spin(link.reactor, 2);
    }
    link.until([&] { return ours->count == 3; });  // one is not sent back
    ours->protocol().transport().loseConnection();
    CHECK(link.peer.hear() == "lost ConnectionDone " + sent.summary());
  }
}

TEST_CASE_TEMPLATE("framing: too long, or none", Side, WeListen, TheyListen) {
  struct Wrong {
    const char* theirs;
    std::string bytes;
    bool (*typed)(const Failure&);
  };
  const std::vector<Wrong> all = {
      {"Lines", std::string(16387, 'x'), [](const Failure& f) { return f.check<LineTooLongError>(); }},
      {"Lines", std::string(16385, 'x') + "\r\n", [](const Failure& f) { return f.check<LineTooLongError>(); }},
      {"OnlyLines", std::string(16387, 'x'), [](const Failure& f) { return f.check<LineTooLongError>(); }},
      {"Netstrings", "100000:", [](const Failure& f) { return f.check<StringTooLongError>(); }},
      {"Netstrings", "5:helloX", [](const Failure& f) { return f.check<NetstringParseError>(); }},
      {"Netstrings", "+5:", [](const Failure& f) { return f.check<NetstringParseError>(); }},
      {"Int32", std::string("\0\x01\x86\xa0", 4), [](const Failure& f) { return f.check<StringTooLongError>(); }},
  };
  eitherWay([&](bool overTLS) {
    for (const Wrong& wrong : all) {
      const std::string shown = wrong.bytes.substr(0, 10);
      const std::string theirs = wrong.theirs;
      CAPTURE(theirs);
      CAPTURE(shown);
      const Kind& kind =
          *std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.theirs == wrong.theirs; });
      const std::string nothing = Lines().summary();
      {
        auto ours = kind.make();
        Link link(Side::value, overTLS, kind, ours);
        link.peer.tell("writeHex " + hex(wrong.bytes));
        link.until([&] { return ours->lost.has_value(); });
        CHECK(wrong.typed(*ours->lost));
        CHECK(ours->count == 0);
        CHECK(link.peer.hear() == "lost ConnectionDone " + nothing);
      }
      auto ours = kind.make();
      Link link(Side::value, overTLS, kind, ours);
      ours->protocol().transport().write(wrong.bytes);
      link.until([&] { return ours->lost.has_value(); });
      CHECK(nameOf(*ours->lost) == "ConnectionDone");
      CHECK(link.peer.hear() == "lost ConnectionDone " + nothing);
    }
  });
}
