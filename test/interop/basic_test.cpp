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

/// How both sides listen and connect: plainly, or over TLS.
class Ways {
 public:
  Ways(Reactor& reactor, bool overTLS) : reactor_(reactor), overTLS_(overTLS) {
    if (!overTLS) return;
    const Issued &own = testPKI().localhost, &authority = testPKI().authority;
    certificate_ = " cert=" + directory_.write("localhost.pem", own.certificate + own.privateKey);
    trust_ = " hostname=localhost trust=" + directory_.write("authority.pem", authority.certificate);
  }

  std::shared_ptr<ListeningPort> listen(std::shared_ptr<Factory> factory) {
    if (overTLS_) {
      const Issued& own = testPKI().localhost;
      factory = tlsFactory(optionsForServerTLS({.privateKey = own.privateKey, .certificate = own.certificate}),
                           std::move(factory), reactor_);
    }
    return reactor_.listenTCP(0, std::move(factory), 50, "127.0.0.1");
  }
  void connect(std::uint16_t port, std::shared_ptr<Protocol> protocol) {
    std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(std::move(protocol));
    if (overTLS_) factory = tlsFactory(clientOptions(), std::move(factory), reactor_);
    reactor_.connectTCP("127.0.0.1", port, std::move(factory));
  }
  std::shared_ptr<StreamClientEndpoint> endpoint(std::uint16_t port) {
    std::shared_ptr<StreamClientEndpoint> tcp = std::make_shared<TCP4ClientEndpoint>("127.0.0.1", port, reactor_);
    return overTLS_ ? wrapClientTLS(clientOptions(), std::move(tcp), reactor_) : tcp;
  }

  /// The peer's, with a class of its own.
  std::uint16_t listen(Peer& peer, const std::string& theirs) {
    return peer.listen(overTLS_ ? "listenTLS " + theirs + certificate_ : "listenTCP 127.0.0.1 " + theirs);
  }
  void connect(Peer& peer, std::uint16_t port, const std::string& theirs) {
    const std::string number = std::to_string(port);
    peer.tell(overTLS_ ? "connectTLS " + number + " " + theirs + trust_
                       : "connectTCP 127.0.0.1 " + number + " " + theirs);
  }
  /// Words behind the peer's commands `serve` and `forward`.
  const std::string& certificate() const { return certificate_; }
  const std::string& trust() const { return trust_; }

 private:
  static TLSOptions clientOptions() {
    return optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate});
  }

  Reactor& reactor_;
  const bool overTLS_;
  TemporaryDirectory directory_;
  std::string certificate_, trust_;
};

/// One connection, plain or over TLS, between `ours` and the peer's `theirs` (a class), which has said "made".
struct Link {
  Link(bool weListen, bool overTLS, const std::string& theirs, std::shared_ptr<Protocol> ours) : ours(std::move(ours)) {
    Ways ways(reactor, overTLS);
    if (weListen) {
      ways.connect(peer, portOf(ways.listen(factoryOf(this->ours))->getHost()), theirs);
    } else {
      ways.connect(ways.listen(peer, theirs), this->ours);
    }
    std::string said = peer.hear();
    CHECK(said == "made");
    runUntil(reactor, [&] { return this->ours->connected(); });
  }
  Link(bool weListen, bool overTLS, const Kind& kind, const std::shared_ptr<Noted>& noted)
      : Link(weListen, overTLS, kind.theirs, std::shared_ptr<Protocol>(noted, &noted->protocol())) {}

  void until(const std::function<bool()>& done) { runUntil(reactor, done); }

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

/// What the peer says of its loss, whatever it says before.
std::string lossOf(Peer& peer) {
  for (;;) {
    std::string said = peer.hear();
    if (said.starts_with("lost ")) return said;
  }
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

TEST_CASE("framing: the same bytes, one after another, end both receivers at the same one") {
  struct Probe {
    std::string name;  // of the receiver in twisted.protocols.basic
    std::size_t maxLength;
    std::vector<std::string> inputs;
  };
  const std::vector<Probe> probes = {
      {"LineReceiver", 5, {"12345\r\nx\r\n", "123456\r\n", "1234567", "12345\r\r\n", "\r\n\r\n12345\r"}},
      {"NetstringReceiver",
       99999,
       {"0:,1:a,",
        "5:hello,3:abcd",
        "12",
        "99999:",
        "100000:",
        "123456",
        "9999999999999999999:",
        "18446744073709551619:",
        "00:,",
        "01:a,",
        "007:",
        "+5:hello,",
        "-1:",
        " 5:hello,",
        "5 :hello,",
        "5:hello ,",
        ":",
        ",",
        "x",
        "5;",
        "\xff",
        std::string(1, '\0')}},
      {"Int8StringReceiver", 3, {"\3abc\1d", "\4abcd", "\xff"}},
      {"Int16StringReceiver", 3, {std::string("\0\3abc\0\0", 7), std::string("\0\4abcd", 6), "\xff\xff"}},
      {"Int32StringReceiver",
       3,
       {std::string("\0\0\0\3abc\0\0\0\0", 11), std::string("\0\0\0\4abcd", 8), "\xff\xff\xff\xff",
        "\x7f\xff\xff\xff"}},
  };
  Reactor reactor;
  Peer peer(reactor);
  for (const Probe& probe : probes) {
    const Kind& kind = *std::find_if(kinds().begin(), kinds().end(),
                                     [&](const Kind& k) { return probe.name.starts_with(k.theirs.substr(0, 4)); });
    for (const std::string& input : probe.inputs) {
      const std::string bytes = hex(input);
      CAPTURE(probe.name);
      CAPTURE(bytes);
      auto ours = kind.make();
      StringTransport transport;
      ours->protocol().makeConnection(transport);
      dynamic_cast<MessageReceiver&>(ours->protocol()).setMaxLength(probe.maxLength);
      std::size_t fed = 0;
      while (fed < input.size() && !transport.disconnecting()) ours->protocol().dataReceived({&input[fed++], 1});
      peer.tell("feed " + probe.name + " " + std::to_string(probe.maxLength) + " " + bytes);
      CHECK(peer.hear() == "fed " + (transport.disconnecting() ? std::to_string(fed) : "-") + " " + ours->summary());
    }
  }
}

TEST_CASE_TEMPLATE("FileSender", Side, WeListen, TheyListen) {
  std::mt19937 random(4);
  const std::string content = randomBytes(random, 12'000'000);  // more than the system's buffers
  TemporaryDirectory directory;
  const std::string path = directory.write("file", content);
  const bool overTLS = Side::value;
  auto ours = std::make_shared<Recorder>();
  SUBCASE("ours, to a reader that stalls at first") {
    Link link(Side::value, overTLS, "Stalled", ours);
    std::optional<std::string> last;
    FileSender()
        .beginFileTransfer(std::make_shared<std::ifstream>(path, std::ios::binary), ours->transport())
        .addCallback([&](std::string piece) {
          last = std::move(piece);
          ours->transport().loseConnection();
        });
    spin(link.reactor);
    CHECK_FALSE(last);
    link.peer.tell("resume");
    CHECK(lossOf(link.peer) == "lost ConnectionDone " + sum(content));
    CHECK(last == content.substr(content.size() - 1));
  }
  SUBCASE("theirs") {
    Link link(Side::value, overTLS, "Recorder", ours);
    if (overTLS) CHECK(link.peer.hear().starts_with("handshake"));
    ours->transport().pauseProducing();
    link.peer.tell("sendFile " + path);
    spin(link.reactor);
    CHECK(ours->received.empty());
    ours->transport().resumeProducing();
    CHECK(link.peer.hear() == "sent " + hex(content.substr(content.size() - 1)));
    link.until([&] { return !ours->lost.empty(); });
    CHECK(ours->lost == "ConnectionDone");
    CHECK(sum(ours->received) == sum(content));
  }
  SUBCASE("the connection ends before") {
    Link link(Side::value, overTLS, "Stalled", ours);
    std::string failed;
    FileSender()
        .beginFileTransfer(std::make_shared<std::ifstream>(path, std::ios::binary), ours->transport())
        .addErrback([&](const FileTransferStopped&) {
          failed = "stopped";
          return std::string();
        });
    link.peer.tell("abort");
    link.until([&] { return !failed.empty(); });
  }
}

// ---- port forwarding

namespace {

/// A client or server at an end of a chain: sends its data as fast as it is taken, and closes, or aborts, when it has
/// got what it waits for.
struct Traveller : Recorder, private Producer {
  void connectionMade() override {
    transport().registerProducer(*this, true);
    resumeProducing();
  }
  void pauseProducing() override {
    paused = true;
    ++pauses;
  }
  void resumeProducing() override {
    paused = false;
    while (!paused && sent < data.size()) {
      transport().write(std::string_view(data).substr(sent, 20'000));
      sent = std::min(sent + 20'000, data.size());
    }
    if (sent == data.size()) transport().unregisterProducer();
  }
  void stopProducing() override {}
  void dataReceived(std::string_view piece) override {
    received += piece;
    if (abortsAt > 0 && received.size() >= abortsAt) transport().abortConnection();
    if (received.size() == waitsFor) transport().loseConnection();
  }
  std::string data;
  std::size_t sent = 0, waitsFor = 0, abortsAt = 0;
  bool paused = false;
  int pauses = 0;
};

std::shared_ptr<ListeningPort> forwardTo(Ways& ways, std::uint16_t port) {
  return ways.listen(std::make_shared<ProxyFactory>(ways.endpoint(port)));
}

}  // namespace

TEST_CASE("portforward: chains of ours and theirs, through which many go, and half of them are aborted") {
  std::string chain;  // from the client on
  bool overTLS = false;
  SUBCASE("ours") {
    chain = "o";
  }
  SUBCASE("theirs") {
    chain = "t";
  }
  SUBCASE("ours, theirs, ours") {
    chain = "oto";
  }
  SUBCASE("theirs, ours, ours, theirs") {
    chain = "toot";
  }
  SUBCASE("ours, theirs, over TLS") {
    chain = "ot";
    overTLS = true;
  }
  SUBCASE("theirs, ours, over TLS") {
    chain = "to";
    overTLS = true;
  }
  constexpr std::size_t kClients = 24;
  const std::size_t before = openDescriptors();
  {
    Reactor reactor;
    Peer peer(reactor);
    Ways ways(reactor, overTLS);
    std::mt19937 random(5);
    std::vector<std::shared_ptr<Traveller>> servers, clients;
    std::vector<std::shared_ptr<ListeningPort>> ports;
    ports.push_back(ways.listen(makeFactory([&] {
      auto server = std::make_shared<Traveller>();
      server->data = "server " + randomBytes(random, 300'000);
      servers.push_back(server);
      return server;
    })));
    std::uint16_t number = portOf(ports.back()->getHost());
    for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
      if (*link == 'o') {
        ports.push_back(forwardTo(ways, number));
        number = portOf(ports.back()->getHost());
      } else {
        number = peer.listen("forward " + std::to_string(number) + ways.certificate() + ways.trust());
      }
    }
    for (std::size_t i = 0; i < kClients; ++i) {
      auto client = std::make_shared<Traveller>();
      client->data = "client " + randomBytes(random, 300'000);
      client->waitsFor = 300'007;
      if (i % 2 == 1) client->abortsAt = 1 + random() % 300'000;
      clients.push_back(client);
      ways.connect(number, client);
    }
    // Twisted's forwarder, full both ways when a client aborts, never closes the server's side: its loseConnection
    // waits for a producer that is gone. So with one of those in the chain, only the clients that stay are waited for.
    const auto lost = [](const auto& each) { return !each->lost.empty(); };
    const auto served = [&](const auto& server) { return lost(server) && server->received.size() == 300'007; };
    const bool theirs = chain.find('t') != std::string::npos;
    runUntil(reactor, [&] {
      return servers.size() == kClients && std::all_of(clients.begin(), clients.end(), lost) &&
             (theirs ? std::count_if(servers.begin(), servers.end(), served) >= std::ptrdiff_t(kClients / 2)
                     : std::all_of(servers.begin(), servers.end(), lost));
    });
    for (std::size_t i = 0; i < kClients; ++i) {
      CAPTURE(i);
      CHECK(clients[i]->lost == (i % 2 == 1 ? "ConnectionAborted" : "ConnectionDone"));
      // What came is of one of the servers, in order, and all of it if nobody aborted.
      const auto from = std::find_if(servers.begin(), servers.end(), [&](const auto& server) {
        return server->data.starts_with(clients[i]->received);
      });
      REQUIRE(from != servers.end());
      CHECK(clients[i]->data.starts_with((*from)->received));
      if (i % 2 == 0) CHECK(sum(clients[i]->received) == sum((*from)->data));
    }
  }
  CHECK(openDescriptors() == before);
}

TEST_CASE("portforward: behind our forwarder somebody reads slowly, and memory stays flat") {
  bool theirsToo = false;
  SUBCASE("ours") {}
  SUBCASE("theirs in between") {
    theirsToo = true;
  }
  Reactor reactor;
  Peer peer(reactor);
  std::uint16_t number = peer.listen("listenTCP 127.0.0.1 Stalled");
  if (theirsToo) number = peer.listen("forward " + std::to_string(number));
  Ways ways(reactor, false);
  const auto port = forwardTo(ways, number);
  auto client = std::make_shared<Traveller>();
  std::mt19937 random(6);
  client->data = randomBytes(random, 40'000'000);
  const std::size_t before = memoryInUse();
  reactor.connectTCP("127.0.0.1", portOf(port->getHost()), std::make_shared<RecorderClientFactory>(client));
  CHECK(peer.hear() == "made");
  // It is stalled when nothing more goes for some turns.
  for (std::size_t last = 1; last != client->sent || !client->paused;) {
    last = client->sent;
    spin(reactor, 50);
  }
  CHECK(client->sent < client->data.size());
  CHECK(memoryInUse() < before + 1'000'000);
  peer.tell("resume");
  runUntil(reactor, [&] { return client->sent == client->data.size(); });
  CHECK(memoryInUse() < before + 1'000'000);
  CHECK(client->pauses > 1);
  client->transport().loseConnection();
  CHECK(lossOf(peer) == "lost ConnectionDone " + sum(client->data));
}

// ---- the small protocols

namespace {

/// What a server sends until it closes.
std::string answerOf(Reactor& reactor, Ways& ways, std::uint16_t port, std::string_view query) {
  auto client = std::make_shared<Recorder>();
  client->made = [&] {
    if (!query.empty()) client->transport().write(query);
  };
  ways.connect(port, client);
  runUntil(reactor, [&] { return !client->lost.empty(); });
  CHECK(client->lost == "ConnectionDone");
  client->made = nullptr;
  return client->received;
}

}  // namespace

TEST_CASE("finger and QOTD: our servers and theirs answer alike") {
  eitherWay([](bool overTLS) {
    Reactor reactor;
    Peer peer(reactor);
    Ways ways(reactor, overTLS);
    const auto ours = ways.listen(forProtocol<Finger>());
    const std::uint16_t theirs = peer.listen("serve Finger" + ways.certificate());
    for (const char* query :
         {"\r\n", "ada\r\n", " ada \r\n", "/W ada\r\n", "/W\r\n", "ada@example.com\r\n", "@a@b\r\n"}) {
      CAPTURE(query);
      CHECK(answerOf(reactor, ways, portOf(ours->getHost()), query) == answerOf(reactor, ways, theirs, query));
    }
    const auto quotes = ways.listen(forProtocol<QOTD>());
    const std::uint16_t theirQuotes = peer.listen("serve QOTD" + ways.certificate());
    CHECK(answerOf(reactor, ways, portOf(quotes->getHost()), "") == answerOf(reactor, ways, theirQuotes, ""));
    // Their client.
    ways.connect(peer, portOf(ours->getHost()), "Recorder");
    CHECK(peer.hear() == "made");
    peer.tell("write ada\r");
    std::string said = peer.hear();
    if (overTLS) {
      CHECK(said.starts_with("handshake "));
      said = peer.hear();
    }
    CHECK(said == "line Login: ada");
    CHECK(peer.hear() == "line No such user");
    CHECK(peer.hear().starts_with("lost ConnectionDone "));
  });
}

TEST_CASE("echo, discard, chargen, daytime: our servers and their clients, and the reverse") {
  Reactor reactor;
  Peer peer(reactor);
  const auto ask = [&](std::shared_ptr<Factory> factory, const std::string& theirs) {
    const auto port = reactor.listenTCP(0, std::move(factory), 50, "127.0.0.1");
    peer.tell("connectTCP 127.0.0.1 " + std::to_string(portOf(port->getHost())) + " " + theirs);
    CHECK(peer.hear() == "made");
  };
  const auto connect = [&](const std::string& theirs, std::shared_ptr<Recorder> client) {
    const std::uint16_t port = peer.listen("serve " + theirs);
    reactor.connectTCP("127.0.0.1", port, std::make_shared<RecorderClientFactory>(client));
    runUntil(reactor, [&] { return client->connected(); });
  };
  auto client = std::make_shared<Recorder>();
  std::mt19937 random(7);
  const std::string text = randomBytes(random, 3'000'000);
  SUBCASE("our echo") {
    ask(forProtocol<Echo>(), "Recorder");
    peer.tell("write hello");
    CHECK(peer.hear() == "line hello");
    peer.tell("lose");
    CHECK(peer.hear() == "lost ConnectionDone " + sum("hello\n"));
  }
  SUBCASE("their echo") {
    connect("Echo", client);
    client->transport().write(text);
    runUntil(reactor, [&] { return client->received.size() == text.size(); });
    CHECK(client->received == text);
  }
  SUBCASE("our discard") {
    ask(forProtocol<Discard>(), "Recorder");
    peer.tell("produce 12000000 push");
    CHECK(lossOf(peer) == "lost ConnectionDone " + sum(""));
  }
  SUBCASE("their discard") {
    connect("Discard", client);
    client->transport().write(text);
    client->transport().loseConnection();
    runUntil(reactor, [&] { return !client->lost.empty(); });
    CHECK(client->lost == "ConnectionDone");
    CHECK(client->received.empty());
  }
  SUBCASE("chargen: both send the same") {
    connect("Chargen", client);
    auto second = std::make_shared<Recorder>();
    const auto port = reactor.listenTCP(0, forProtocol<Chargen>(), 50, "127.0.0.1");
    reactor.connectTCP("127.0.0.1", portOf(port->getHost()), std::make_shared<RecorderClientFactory>(second));
    constexpr std::size_t kSome = 100'000;
    runUntil(reactor, [&] { return client->received.size() > kSome && second->received.size() > kSome; });
    CHECK(client->received.substr(0, kSome) == second->received.substr(0, kSome));
    client->transport().abortConnection();
    second->transport().abortConnection();
    runUntil(reactor, [&] { return !client->lost.empty() && !second->lost.empty(); });
  }
  SUBCASE("our daytime") {  // theirs raises in Python 3
    ask(forProtocol<Daytime>(), "Recorder");
    CHECK(peer.hear().starts_with("line "));
    CHECK(peer.hear().starts_with("lost ConnectionDone 26 "));
  }
}

// ---- a chat

namespace {

struct ChatServer : LineReceiver {
  explicit ChatServer(std::vector<ChatServer*>& clients) : clients(clients) {}
  void connectionMade() override { clients.push_back(this); }
  void lineReceived(std::string_view line) override {
    for (ChatServer* client : clients) client->sendLine(line);
  }
  void connectionLost(const Failure&) override { std::erase(clients, this); }
  std::vector<ChatServer*>& clients;
};

}  // namespace

TEST_CASE_TEMPLATE("chat: what one says all hear", Side, WeListen, TheyListen) {
  eitherWay([](bool overTLS) {
    std::vector<ChatServer*> clients;  // outlives the connections, which the reactor ends
    Reactor reactor;
    Peer peer(reactor), second(reactor);
    Ways ways(reactor, overTLS);
    std::shared_ptr<ListeningPort> port;
    std::uint16_t number;
    if (Side::value) {
      port = ways.listen(makeFactory([&] { return std::make_shared<ChatServer>(clients); }));
      number = portOf(port->getHost());
    } else {
      number = ways.listen(peer, "Chat");
    }
    std::vector<std::shared_ptr<Lines>> ours;
    for (int i = 0; i < 2; ++i) {
      ours.push_back(std::make_shared<Lines>());
      ways.connect(number, ours.back());
      if (!Side::value) CHECK(peer.hear() == "made");
    }
    ways.connect(second, number, "Recorder");
    CHECK(second.hear() == "made");
    if (!Side::value) CHECK(peer.hear() == "made");
    runUntil(reactor, [&] { return ours[1]->connected() && (!Side::value || clients.size() == 3); });
    second.tell("write hello\r");
    if (overTLS) CHECK(second.hear().starts_with("handshake "));
    CHECK(second.hear() == "line hello\r");
    runUntil(reactor, [&] { return ours[0]->count == 1 && ours[1]->count == 1; });
    ours[0]->sendLine("good day");
    CHECK(second.hear() == "line good day\r");
    runUntil(reactor, [&] { return ours[0]->count == 2 && ours[1]->count == 2; });
    CHECK(ours[1]->all == "5:hello8:good day");
    ours[0]->transport().abortConnection();
    runUntil(reactor, [&] { return ours[0]->lost.has_value() && (!Side::value || clients.size() == 2); });
    ours[1]->sendLine("he left");
    CHECK(second.hear() == "line he left\r");
  });
}
