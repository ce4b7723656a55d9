#include <reactor/tls.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>
#include <test/support/resources.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using test::testPKI;

namespace {

struct Recorder : Protocol, HandshakeListener {
  std::vector<std::string> events;
  std::string received;
  std::optional<Failure> lost;
  std::function<void(Recorder&)> onMade, onHandshake, onLost;
  std::function<void(Recorder&, std::string_view)> onData;

  void connectionMade() override {
    events.push_back("made");
    if (onMade) onMade(*this);
  }
  void handshakeCompleted() override {
    events.push_back("handshake");
    if (onHandshake) onHandshake(*this);
  }
  void dataReceived(std::string_view data) override {
    if (events.back() != "data") events.push_back("data");
    received += data;
    if (onData) onData(*this, data);
  }
  void connectionLost(const Failure& reason) override {
    events.push_back("lost");
    lost = reason;
    if (onLost) onLost(*this);
  }

  TLSTransport& tls() {
    TLSTransport* found = TLSTransport::from(transport());
    REQUIRE(found);
    return *found;
  }
  template <class E>
  std::string lostTo() const {
    if (!lost) return "not lost";
    return lost->check<E>() ? lost->getErrorMessage() : "another error: " + lost->getErrorMessage();
  }
  bool lostCleanly() const { return lost && lost->check<ConnectionDone>(); }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

const TLSOptions& localhostServer() {
  static const TLSOptions options = optionsForServerTLS(
      {.privateKey = testPKI().localhost.privateKey, .certificate = testPKI().localhost.certificate});
  return options;
}

TLSOptions serverWith(const test::Issued& issued) {
  return optionsForServerTLS({.privateKey = issued.privateKey, .certificate = issued.certificate});
}

TLSOptions clientFor(const std::string& hostname) {
  return optionsForClientTLS(hostname, {.trustRoots = testPKI().authority.certificate});
}

std::shared_ptr<Protocol> over(const TLSOptions& options, std::shared_ptr<Protocol> protocol, Time& time) {
  return tlsFactory(options, makeFactory([&] { return protocol; }), time)->buildProtocol({});
}

/// Until all is quiet, with what waits for the end of a turn.
void flushBoth(IOPump& pump, Clock& clock) {
  do {
    clock.advance(0s);
  } while (pump.flush());
}

/// A client and a server, both ours, over the pump.
struct Pair {
  Clock clock;
  std::shared_ptr<Recorder> client = std::make_shared<Recorder>();
  std::shared_ptr<Recorder> server = std::make_shared<Recorder>();
  std::optional<IOPump> pump;

  void start(const TLSOptions& clientOptions = clientFor("localhost"),
             const TLSOptions& serverOptions = localhostServer()) {
    pump.emplace(over(clientOptions, client, clock), over(serverOptions, server, clock));
  }
  void run(const TLSOptions& clientOptions = clientFor("localhost"),
           const TLSOptions& serverOptions = localhostServer()) {
    start(clientOptions, serverOptions);
    flush();
  }
  void flush() { flushBoth(*pump, clock); }
};

struct RecordingProducer : Producer {
  int paused = 0, resumed = 0, stopped = 0;
  std::function<void()> onPause, onResume;
  void pauseProducing() override {
    ++paused;
    if (onPause) onPause();
  }
  void resumeProducing() override {
    ++resumed;
    if (onResume) onResume();
  }
  void stopProducing() override { ++stopped; }
};

}  // namespace

TEST_CASE("TLS: bytes written before and after the handshake arrive in order, and both ends end cleanly") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) { me.transport().write("early "); };
  pair.client->onHandshake = [](Recorder& me) { me.transport().write("at handshake "); };
  pair.server->onData = [](Recorder& me, std::string_view data) { me.transport().write(data); };
  std::size_t piece = 65536;
  SUBCASE("in large pieces") {}
  SUBCASE("byte by byte") {
    piece = 1;
  }
  pair.start();
  pair.pump->setPieceSize(piece);
  pair.flush();
  pair.client->transport().write("late");
  pair.flush();
  CHECK(pair.server->received == "early at handshake late");
  CHECK(pair.client->received == "early at handshake late");
  CHECK(pair.client->events == std::vector<std::string>{"made", "handshake", "data"});
  pair.client->transport().loseConnection();
  CHECK_FALSE(pair.client->lost);
  pair.flush();
  CHECK(pair.client->lostCleanly());
  CHECK(pair.server->lostCleanly());
  CHECK_FALSE(pair.pump->connected());
  CHECK(pair.clock.getDelayedCalls().empty());
  CHECK_FALSE(pair.client->connected());
  pair.client->transport().write("ignored");
}

TEST_CASE("TLS: loseConnection with a reason") {
  Pair pair;
  pair.client->onHandshake = [](Recorder& me) { me.transport().loseConnection(std::runtime_error("had enough")); };
  pair.run();
  CHECK(pair.client->lostTo<std::runtime_error>() == "had enough");
  CHECK(pair.server->lostCleanly());
}

TEST_CASE("TLS: nothing that is written goes out in clear") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) { me.transport().write("the secret"); };
  auto server = std::make_shared<Recorder>();  // no TLS: sees what is on the wire
  IOPump pump(over(clientFor("localhost"), pair.client, pair.clock), server);
  pump.flush();
  CHECK(server->received.size() > 100);  // a ClientHello
  CHECK_FALSE(has(server->received, "the secret"));
  CHECK(has(server->received, "localhost"));  // SNI
}

TEST_CASE("TLS: large data both ways, in pieces of any size") {
  Pair pair;
  std::string big(1'000'000, 'x');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 7 + i / 251);
  pair.client->onMade = [&](Recorder& me) { me.transport().write(big); };
  pair.server->onData = [](Recorder& me, std::string_view data) { me.transport().write(data); };
  pair.start();
  SUBCASE("64 KiB") {}
  SUBCASE("all") {
    pair.pump->setPieceSize(10'000'000);
  }
  SUBCASE("1009") {
    pair.pump->setPieceSize(1009);
  }
  pair.flush();
  CHECK(pair.server->received == big);
  CHECK(pair.client->received == big);
}

TEST_CASE("TLS over TLS") {
  Clock clock;
  auto client = std::make_shared<Recorder>(), server = std::make_shared<Recorder>();
  server->onData = [](Recorder& me, std::string_view data) { me.transport().write(data); };
  client->onMade = [](Recorder& me) { me.transport().write(std::string(200'000, 'y')); };
  IOPump pump(over(clientFor("localhost"), over(clientFor("127.0.0.1"), client, clock), clock),
              over(localhostServer(), over(localhostServer(), server, clock), clock));
  pump.flush();
  CHECK(client->received == std::string(200'000, 'y'));
  server->transport().loseConnection();
  flushBoth(pump, clock);
  CHECK(client->lostCleanly());
  CHECK(server->lostCleanly());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: what a protocol can ask about the connection") {
  Pair pair;
  auto ours = optionsForClientTLS(
      "localhost", {.trustRoots = testPKI().authority.certificate, .acceptableProtocols = {"h2", "http/1.1"}});
  auto theirs = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                     .certificate = testPKI().localhost.certificate,
                                     .acceptableProtocols = {"http/1.1", "h2"}});
  pair.client->onMade = [](Recorder& me) {
    CHECK_FALSE(me.tls().getPeerCertificate());
    CHECK(me.tls().negotiatedProtocol().empty());
    CHECK(me.tls().protocolVersion().empty());
  };
  pair.client->onHandshake = pair.client->onLost = [](Recorder& me) {
    auto certificate = me.tls().getPeerCertificate();
    REQUIRE(certificate);
    CHECK(certificate->pem == testPKI().localhost.certificate);
    CHECK(certificate->der.size() > 100);
    CHECK(certificate->subject == "CN=localhost");
    CHECK(certificate->issuer == "CN=Torsion test authority");
    CHECK(me.tls().negotiatedProtocol() == "http/1.1");
    CHECK(me.tls().protocolVersion() == "TLSv1.3");
    CHECK(has(me.tls().cipherName(), "TLS_"));
  };
  pair.run(ours, theirs);
  CHECK(pair.server->tls().negotiatedProtocol() == "http/1.1");
  CHECK_FALSE(pair.server->tls().getPeerCertificate());
  CHECK(pair.client->transport().getPeer() == Address(IPv4Address{"192.168.1.1", 54321}));
  pair.client->transport().loseConnection();
  pair.flush();
  CHECK(pair.client->lostCleanly());
  CHECK_FALSE(TLSTransport::from(pair.client->transport()));
}

TEST_CASE("TLS: without a common protocol none is negotiated") {
  Pair pair;
  pair.run(
      optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate, .acceptableProtocols = {"h2"}}),
      optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                           .certificate = testPKI().localhost.certificate,
                           .acceptableProtocols = {"http/1.1"}}));
  CHECK(pair.client->tls().negotiatedProtocol().empty());
}

TEST_CASE("TLS: a certificate that is not acceptable is a VerifyError that says why, and nothing was sent") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) { me.transport().write("the secret"); };
  TLSOptions client = clientFor("localhost");
  const test::Issued* shown = &testPKI().localhost;
  std::vector<std::string> texts;
  SUBCASE("expired") {
    shown = &testPKI().expired;
    texts = {"\"localhost\"", "CN=expired", "expired on 20", "renew"};
  }
  SUBCASE("not yet valid") {
    shown = &testPKI().notYet;
    texts = {"CN=not yet", "not valid before 20", "clock"};
  }
  SUBCASE("self-signed") {
    shown = &testPKI().selfSigned;
    texts = {"self-signed", "trustRoots"};
  }
  SUBCASE("wrong name") {
    shown = &testPKI().wrongName;
    texts = {"\"other.example\", \"*.third.example\", 192.0.2.1", "not for \"localhost\""};
  }
  SUBCASE("wrong address") {
    client = clientFor("127.0.0.1");
    shown = &testPKI().wrongName;
    texts = {"192.0.2.1", "not for \"127.0.0.1\""};
  }
  SUBCASE("an address is no name") {
    client = clientFor("10.0.0.7");
    texts = {"\"localhost\", 127.0.0.1", "not for \"10.0.0.7\""};
  }
  SUBCASE("a wildcard stands for one label") {
    client = clientFor("a.b.third.example");
    shown = &testPKI().wrongName;
    texts = {"not for \"a.b.third.example\""};
  }
  SUBCASE("the common name does not count") {
    shown = &testPKI().nameless;
    texts = {"no subjectAltName", "\"localhost\""};
  }
  SUBCASE("unknown issuer") {
    client = optionsForClientTLS("localhost");
    texts = {"unknown issuer, CN=Torsion test authority", "trustRoots"};
  }
  pair.run(client, serverWith(*shown));
  std::string text = pair.client->lostTo<VerifyError>();
  for (auto& part : texts) {
    CAPTURE(text);
    CHECK(has(text, part));
  }
  CHECK(pair.client->events == std::vector<std::string>{"made", "lost"});
  CHECK(pair.server->received.empty());
  CHECK(has(pair.server->lostTo<SSLError>(), "refused"));
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: certificates that are acceptable") {
  Pair pair;
  SUBCASE("a name") {
    pair.run(clientFor("localhost"));
  }
  SUBCASE("a name in another case, with the root's dot") {
    pair.run(clientFor("LocalHost."));
  }
  SUBCASE("an address") {
    pair.run(clientFor("127.0.0.1"));
  }
  SUBCASE("a wildcard") {
    pair.run(clientFor("www.third.example"), serverWith(testPKI().wrongName));
  }
  SUBCASE("a self-signed one that is trusted") {
    pair.run(optionsForClientTLS("localhost", {.trustRoots = testPKI().selfSigned.certificate}),
             serverWith(testPKI().selfSigned));
  }
  SUBCASE("one issued by an intermediate authority that the server sends along") {
    auto middle = test::makeCertificate({.commonName = "middle", .authority = true, .issuer = &testPKI().authority});
    auto leaf = test::makeCertificate({.commonName = "leaf", .names = {"localhost"}, .issuer = &middle});
    auto chainApart = optionsForServerTLS(
        {.privateKey = leaf.privateKey, .certificate = leaf.certificate, .extraCertChain = middle.certificate});
    auto together = optionsForServerTLS({.certificate = leaf.privateKey + leaf.certificate + middle.certificate});
    SUBCASE("apart") {
      pair.run(clientFor("localhost"), chainApart);
    }
    SUBCASE("in one PEM with the key") {
      pair.run(clientFor("localhost"), together);
    }
  }
  SUBCASE("one that the environment's SSL_CERT_FILE trusts") {
    test::TemporaryDirectory directory;
    setenv("SSL_CERT_FILE", directory.write("roots.pem", testPKI().authority.certificate).c_str(), 1);
    TLSOptions client = optionsForClientTLS("localhost", {.acceptableProtocols = {"h2"}});
    unsetenv("SSL_CERT_FILE");
    pair.run(client);
  }
  SUBCASE("for another hostname with the same context") {
    pair.run(clientFor("elsewhere.example").forHostname("localhost"));
  }
  SUBCASE("files and directories") {
    test::TemporaryDirectory directory, roots;
    roots.write("one.pem", testPKI().authority.certificate);
    roots.write("README", "not a certificate");
    pair.run(optionsForClientTLS("localhost", {.trustRoots = roots.path()}),
             optionsForServerTLS({.privateKey = directory.write("key.pem", testPKI().localhost.privateKey),
                                  .certificate = directory.write("cert.pem", testPKI().localhost.certificate)}));
  }
  CHECK(pair.client->events.back() == "handshake");
  CHECK(pair.server->events.back() == "handshake");
}

TEST_CASE("TLS: client certificates") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) { me.transport().write("hello"); };
  TLSOptions server = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                           .certificate = testPKI().localhost.certificate,
                                           .trustRoots = testPKI().authority.certificate});
  ClientTLS client{.trustRoots = testPKI().authority.certificate};
  SUBCASE("good") {
    client.clientCertificate = {testPKI().client.certificate, testPKI().client.privateKey};
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(pair.server->received == "hello");
    CHECK(pair.server->tls().getPeerCertificate()->subject == "CN=a client");
  }
  SUBCASE("none") {
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(has(pair.server->lostTo<VerifyError>(), "no certificate"));
    CHECK(pair.server->received.empty());
    CHECK(has(pair.client->lostTo<SSLError>(), "wants a certificate"));
  }
  SUBCASE("of an unknown issuer") {
    client.clientCertificate = {testPKI().selfSigned.certificate, testPKI().selfSigned.privateKey};
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(has(pair.server->lostTo<VerifyError>(), "The certificate of the client (CN=localhost) is self-signed"));
    CHECK(has(pair.client->lostTo<SSLError>(), "does not accept the certificate of this side"));
  }
}

TEST_CASE("TLS: options that cannot be used say what is wrong") {
  auto text = [](auto make) -> std::string {
    try {
      make();
    } catch (const std::exception& e) {
      return e.what();
    }
    return "nothing thrown";
  };
  auto& good = testPKI().localhost;
  CHECK_THROWS_AS(optionsForClientTLS(""), std::invalid_argument);
  CHECK(has(text([] {
              optionsForClientTLS(
                  "b\xc3\xbc"
                  "cher.example");
            }),
            "xn--"));
  CHECK_THROWS_AS(optionsForClientTLS("a b"), std::invalid_argument);
  CHECK_THROWS_AS(localhostServer().forHostname("a"), std::invalid_argument);
  CHECK_THROWS_AS(optionsForClientTLS("a", {.acceptableProtocols = {""}}), std::invalid_argument);
  CHECK(has(text([&] { optionsForServerTLS({.privateKey = "/none/key.pem", .certificate = good.certificate}); }),
            "Cannot read the private key \"/none/key.pem\": No such file"));
  CHECK(has(text([&] { optionsForServerTLS({.certificate = good.certificate}); }), "no usable private key"));
  CHECK(has(text([&] { optionsForServerTLS({.privateKey = good.privateKey}); }), "needs a certificate"));
  CHECK(has(text([&] { optionsForServerTLS({.certificate = good.privateKey}); }), "no certificate in"));
  CHECK(has(
      text([&] { optionsForServerTLS({.privateKey = testPKI().client.privateKey, .certificate = good.certificate}); }),
      "does not belong"));
  CHECK(has(text([&] {
              std::string broken = good.certificate;
              broken.replace(60, 20, "!!!!!!!!!!!!!!!!!!!!");
              optionsForServerTLS({.privateKey = good.privateKey, .certificate = broken});
            }),
            "Cannot use the certificate"));
  test::TemporaryDirectory empty;
  CHECK(has(text([&] { optionsForClientTLS("a", {.trustRoots = empty.path()}); }), "no .pem or .crt"));
  CHECK_THROWS_AS(optionsForClientTLS("a", {.trustRoots = "/none/roots.pem"}), SSLError);
  CHECK(has(text([&] { optionsForClientTLS("a", {.trustRoots = empty.write("x.pem", "words")}); }), "not in PEM"));
}

TEST_CASE("TLS: a peer that speaks no TLS") {
  Pair pair;
  auto peer = std::make_shared<Recorder>();
  SUBCASE("a server that greets in clear") {
    peer->onMade = [](Recorder& me) { me.transport().write("220 mail.example ready\r\n"); };
    IOPump pump(over(clientFor("localhost"), pair.client, pair.clock), peer);
    pump.flush();
    CHECK(has(pair.client->lostTo<SSLError>(), "does the peer speak TLS on this port?"));
  }
  SUBCASE("a browser that speaks HTTP") {
    peer->onMade = [](Recorder& me) { me.transport().write("GET / HTTP/1.1\r\n\r\n"); };
    IOPump pump(peer, over(localhostServer(), pair.server, pair.clock));
    pump.flush();
    CHECK(has(pair.server->lostTo<SSLError>(), "does the peer speak TLS on this port?"));
  }
  SUBCASE("noise") {
    peer->onMade = [](Recorder& me) { me.transport().write(std::string(1000, '\xee')); };
    IOPump pump(peer, over(localhostServer(), pair.server, pair.clock));
    pump.flush();
    CHECK(pair.server->lostTo<SSLError>().starts_with("The TLS handshake failed"));
  }
  SUBCASE("one that closes in the middle of the handshake") {
    peer->onData = [](Recorder& me, std::string_view) { me.transport().loseConnection(); };
    IOPump pump(over(clientFor("localhost"), pair.client, pair.clock), peer);
    pump.flush();
    CHECK(has(pair.client->lostTo<SSLError>(), "in the middle of the TLS handshake"));
  }
  SUBCASE("one that resets in the middle of the handshake") {
    peer->onData = [](Recorder& me, std::string_view) { me.transport().abortConnection(); };
    IOPump pump(over(clientFor("localhost"), pair.client, pair.clock), peer);
    pump.flush();
    CHECK_FALSE(pair.client->lostCleanly());
    CHECK(pair.client->lost->check<ConnectionLost>());
  }
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: the end of the lower connection without close_notify is truncation") {
  Pair pair;
  pair.run();
  pair.client->transport().write("half of it");
  pair.flush();
  pair.pump->clientIO().loseConnection();  // behind TLS's back
  pair.flush();
  CHECK(pair.server->received == "half of it");
  CHECK(has(pair.server->lostTo<ConnectionLost>(), "truncated"));
}

TEST_CASE("TLS: bytes changed on the way break the connection") {
  Pair pair;
  pair.run();
  pair.pump->clientIO().write(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'z'));
  pair.flush();
  CHECK(has(pair.server->lostTo<ConnectionLost>(), "broke"));
  CHECK(pair.server->received.empty());
}

TEST_CASE("TLS: loseConnection sends what is queued and waits for the peer's close_notify") {
  Pair pair;
  SUBCASE("after the handshake") {
    pair.run();
    pair.client->transport().write(std::string(300'000, 'z'));
    pair.client->transport().loseConnection();
    pair.client->transport().write("too late");
    pair.flush();
  }
  SUBCASE("before it") {
    pair.client->onMade = [](Recorder& me) {
      me.transport().write(std::string(300'000, 'z'));
      me.transport().loseConnection();
      me.transport().write("too late");
      CHECK(me.transport().disconnecting());
    };
    pair.run();
  }
  CHECK(pair.server->received == std::string(300'000, 'z'));
  CHECK(pair.client->lostCleanly());
  CHECK(pair.server->lostCleanly());
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: loseConnection before the handshake with nothing written closes at once") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) { me.transport().loseConnection(); };
  pair.run();
  CHECK(pair.client->lostCleanly());
  CHECK(pair.client->events == std::vector<std::string>{"made", "lost"});
  CHECK(pair.server->lostTo<SSLError>().starts_with("The peer closed"));
}

TEST_CASE("TLS: a peer that does not answer close_notify is waited for five seconds") {
  Pair pair;
  pair.run();
  pair.pump->serverIO().pauseProducing();
  pair.client->transport().loseConnection();
  pair.flush();
  SUBCASE("then the lower transport closes") {
    pair.clock.advance(4999ms);
    CHECK_FALSE(pair.pump->clientIO().disconnecting());
    pair.clock.advance(1ms);
    CHECK(pair.pump->clientIO().disconnecting());
    pair.pump->serverIO().resumeProducing();
    pair.flush();
    CHECK(pair.client->lostCleanly());
    CHECK(pair.server->lostCleanly());
  }
  SUBCASE("or until it is gone") {
    pair.pump->serverIO().abortConnection();
    pair.flush();
    CHECK(pair.client->lost->check<ConnectionLost>());
  }
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: what arrives after loseConnection is not delivered, and does not keep the connection") {
  Pair pair;
  pair.run();
  pair.server->transport().write("crossing");
  pair.client->transport().loseConnection();
  pair.flush();
  CHECK(pair.client->received.empty());
  CHECK(pair.client->lostCleanly());
  CHECK(pair.server->lostCleanly());
}

TEST_CASE("TLS: abortConnection") {
  Pair pair;
  SUBCASE("after the handshake") {
    pair.run();
    pair.client->transport().write("dropped");
    pair.client->transport().abortConnection();
    CHECK_FALSE(pair.client->lost);
    pair.flush();
    CHECK(pair.server->lost->check<ConnectionLost>());
  }
  SUBCASE("while the handshake is under way") {
    pair.client->onMade = [](Recorder& me) {
      me.transport().write("dropped");
      me.transport().abortConnection();
      me.transport().abortConnection();
    };
    pair.run();
  }
  SUBCASE("in handshakeCompleted, before what was written is sent") {
    pair.client->onMade = [](Recorder& me) { me.transport().write("dropped"); };
    pair.client->onHandshake = [](Recorder& me) { me.transport().abortConnection(); };
    pair.run();
  }
  SUBCASE("after loseConnection") {
    pair.run();
    pair.pump->serverIO().pauseProducing();
    pair.client->transport().loseConnection();
    pair.client->transport().abortConnection();
    pair.pump->serverIO().resumeProducing();
    pair.flush();
  }
  SUBCASE("in dataReceived") {
    pair.client->onData = [](Recorder& me, std::string_view) {
      me.transport().abortConnection();
      CHECK_FALSE(me.lost);
    };
    pair.run();
    pair.server->transport().write("one");
    pair.server->transport().write("two");
    pair.flush();
  }
  CHECK(pair.client->lost->check<ConnectionAborted>());
  CHECK(pair.server->received.empty());
  CHECK(pair.client->events.back() == "lost");
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: what a protocol throws ends its connection and is what connectionLost gets") {
  Pair pair;
  LogCapture logs;
  SUBCASE("connectionMade") {
    pair.client->onMade = [](Recorder&) { throw std::domain_error("mine"); };
  }
  SUBCASE("handshakeCompleted") {
    pair.client->onHandshake = [](Recorder&) { throw std::domain_error("mine"); };
  }
  SUBCASE("dataReceived") {
    pair.server->onMade = [](Recorder& me) { me.transport().write("x"); };
    pair.client->onData = [](Recorder&, std::string_view) { throw std::domain_error("mine"); };
  }
  SUBCASE("dataReceived after a pause") {
    pair.server->onMade = [](Recorder& me) { me.transport().write("x"); };
    pair.client->onMade = [](Recorder& me) { me.transport().pauseProducing(); };
    pair.client->onData = [](Recorder&, std::string_view) { throw std::domain_error("mine"); };
    pair.run();
    CHECK(pair.client->received.empty());
    pair.client->transport().resumeProducing();
    pair.clock.advance(0s);
  }
  if (!pair.pump) pair.start();
  pair.flush();
  CHECK(pair.client->lostTo<std::domain_error>() == "mine");
  CHECK(pair.server->lost);
  CHECK(pair.clock.getDelayedCalls().size() == 0);
}

TEST_CASE("TLS: a paused protocol gets nothing, while the handshake goes on") {
  Pair pair;
  pair.client->onMade = [](Recorder& me) {
    me.transport().pauseProducing();
    me.transport().write("from the paused one");
  };
  pair.server->onMade = [](Recorder& me) { me.transport().write("banner"); };
  pair.run();
  CHECK(pair.server->received == "from the paused one");
  CHECK(pair.client->received.empty());
  pair.server->transport().write(" and more");
  pair.flush();
  CHECK(pair.client->received.empty());
  SUBCASE("until it resumes, on a later turn") {
    pair.client->transport().resumeProducing();
    CHECK(pair.client->received.empty());
    pair.clock.advance(0s);
    pair.flush();
    CHECK(pair.client->received == "banner and more");
  }
  SUBCASE("also when it pauses again at once") {
    pair.client->transport().resumeProducing();
    pair.client->transport().pauseProducing();
    pair.clock.advance(0s);
    pair.flush();
    CHECK(pair.client->received.empty());
    pair.client->transport().resumeProducing();
    pair.clock.advance(0s);
    pair.flush();
    CHECK(pair.client->received == "banner and more");
  }
  SUBCASE("and pauses in dataReceived") {
    pair.client->onData = [](Recorder& me, std::string_view) { me.transport().pauseProducing(); };
    pair.client->transport().resumeProducing();
    pair.clock.advance(0s);
    pair.flush();
    std::string first = pair.client->received;
    CHECK(first.starts_with("banner"));
    pair.server->transport().write("!");
    pair.flush();
    CHECK(pair.client->received == first);
  }
  SUBCASE("and loses the connection") {
    pair.client->transport().loseConnection();
    pair.flush();
    CHECK(pair.client->received.empty());
    CHECK(pair.client->lostCleanly());
    CHECK(pair.server->lostCleanly());
  }
}

TEST_CASE("TLS: a protocol gives its transport to another") {
  Pair pair;
  auto next = std::make_shared<Recorder>();
  std::weak_ptr<Recorder> gone = pair.server;
  std::string expected;
  const auto giveAway = [&](Recorder& self) { next->makeConnection(self.transport()); };
  SUBCASE("before the handshake") {
    pair.server->onMade = giveAway;
    expected = "made handshake data";
  }
  SUBCASE("when it is done") {
    pair.server->onHandshake = giveAway;
    expected = "made data";
  }
  SUBCASE("when data comes") {
    pair.server->onData = [&](Recorder& self, std::string_view) { giveAway(self); };
    expected = "made data";
  }
  SUBCASE("at the end") {
    pair.server->onLost = giveAway;
    expected = "made";
  }
  Clock& clock = pair.clock;
  auto server = over(localhostServer(), std::exchange(pair.server, nullptr), clock);
  pair.pump.emplace(over(clientFor("localhost"), pair.client, clock), std::move(server));
  pair.flush();
  for (const char* text : {"first", "second"}) {
    pair.client->transport().write(text);
    pair.flush();
  }
  pair.client->transport().loseConnection();
  pair.flush();
  CHECK(gone.expired());
  std::string events;
  for (const std::string& event : next->events) events += (events.empty() ? "" : " ") + event;
  if (expected != "made") expected += " lost";
  CHECK(events == expected);
  CHECK(pair.client->lostCleanly());
}

TEST_CASE("TLS: a protocol that paused before startTLS reads when it resumes") {
  Clock clock;
  auto client = std::make_shared<Recorder>(), server = std::make_shared<Recorder>();
  IOPump pump(client, server);
  server->transport().pauseProducing();
  startTLS(*server, localhostServer(), clock);
  startTLS(*client, clientFor("localhost"), clock);
  client->transport().write("secret");
  flushBoth(pump, clock);
  CHECK(server->received.empty());
  server->transport().resumeProducing();
  flushBoth(pump, clock);
  CHECK(server->received == "secret");
}

TEST_CASE("TLS: what came with the end of the handshake waits while the protocol is paused, also if it pauses again") {
  Pair pair;
  pair.server->onMade = [](Recorder& me) { me.transport().pauseProducing(); };
  pair.client->onMade = [](Recorder& me) { me.transport().write("early"); };
  pair.run();
  Transport& transport = pair.server->transport();
  transport.resumeProducing();
  transport.pauseProducing();
  pair.clock.advance(0s);
  pair.flush();
  CHECK(pair.server->received.empty());
  transport.resumeProducing();
  pair.flush();
  CHECK(pair.server->received == "early");
}

TEST_CASE("TLS: pauseProducing in dataReceived stops the next delivery") {
  Pair pair;
  pair.client->onData = [](Recorder& me, std::string_view) { me.transport().pauseProducing(); };
  pair.run();
  pair.server->transport().write("one");
  pair.flush();
  pair.server->transport().write("two");
  pair.flush();
  CHECK(pair.client->received == "one");
  pair.client->onData = nullptr;
  pair.client->transport().resumeProducing();
  CHECK(pair.client->received == "one");
  pair.flush();
  CHECK(pair.client->received == "onetwo");
}

TEST_CASE("TLS: push producers") {
  Pair pair;
  RecordingProducer producer;
  SUBCASE("above 64 KiB that wait for the handshake it is paused, and resumed when they are gone") {
    pair.client->onMade = [&](Recorder& me) {
      me.transport().registerProducer(producer, true);
      me.transport().write(std::string(65536, 'a'));
      CHECK(producer.paused == 0);
      me.transport().write("a");
      CHECK(producer.paused == 1);
      me.transport().write("a");
      CHECK(producer.paused == 1);
    };
    pair.run();
    CHECK(producer.resumed == 1);
    CHECK(pair.server->received.size() == 65538);
  }
  SUBCASE("after it the lower transport's queue counts") {
    pair.run();
    Transport& transport = pair.client->transport();
    transport.registerProducer(producer, true);
    CHECK_THROWS_AS(transport.registerProducer(producer, true), std::logic_error);
    producer.onPause = [&] { transport.write("from pauseProducing"); };
    transport.write(std::string(100'000, 'b'));
    CHECK(producer.paused == 1);
    CHECK(producer.resumed == 0);
    pair.flush();
    CHECK(producer.resumed == 1);
    CHECK(pair.server->received == std::string(100'000, 'b') + "from pauseProducing");
  }
}

TEST_CASE("TLS: loseConnection lets a producer finish") {
  Pair pair;
  RecordingProducer producer;
  pair.run();
  pair.client->transport().registerProducer(producer, true);
  pair.client->transport().loseConnection();
  pair.client->transport().write("the last");
  pair.flush();
  CHECK_FALSE(pair.client->lost);
  CHECK(pair.server->received == "the last");
  SUBCASE("until it is unregistered") {
    pair.client->transport().unregisterProducer();
    pair.flush();
    CHECK(pair.client->lostCleanly());
    CHECK(producer.stopped == 0);
  }
  SUBCASE("unless the peer ends the connection") {
    pair.server->transport().loseConnection();
    pair.flush();
    CHECK(pair.client->lostCleanly());
    CHECK(producer.stopped == 1);
  }
}

TEST_CASE("TLS: a producer is stopped if the handshake fails, or the connection is closing") {
  Pair pair;
  RecordingProducer producer, late;
  pair.client->onMade = [&](Recorder& me) { me.transport().registerProducer(producer, true); };
  pair.client->onLost = [&](Recorder& me) { me.transport().registerProducer(late, true); };
  pair.run(clientFor("localhost"), serverWith(testPKI().expired));
  CHECK(producer.stopped == 1);
  CHECK(late.stopped == 1);
}

TEST_CASE("TLS: pull producers are asked once before the handshake, then when the queue is empty") {
  Pair pair;
  RecordingProducer producer;
  producer.onResume = [&] {
    if (producer.resumed <= 5) {
      pair.client->transport().write(std::string(1, static_cast<char>('0' + producer.resumed)));
    } else {
      pair.client->transport().unregisterProducer();
    }
  };
  pair.client->onMade = [&](Recorder& me) {
    me.transport().registerProducer(producer, false);
    CHECK(producer.resumed == 1);
  };
  pair.start();
  CHECK(producer.resumed == 1);
  pair.flush();
  CHECK(pair.server->received == "12345");
  CHECK(producer.resumed == 6);
}

TEST_CASE("TLS: what a producer throws ends the connection") {
  Pair pair;
  LogCapture logs;
  RecordingProducer producer;
  producer.onPause = [] { throw std::domain_error("mine"); };
  SUBCASE("push, before the handshake") {
    pair.client->onMade = [&](Recorder& me) {
      me.transport().registerProducer(producer, true);
      me.transport().write(std::string(70'000, 'e'));
    };
    pair.run();
  }
  SUBCASE("push, after it") {
    pair.run();
    pair.client->transport().registerProducer(producer, true);
    pair.client->transport().write(std::string(70'000, 'e'));
    pair.flush();
  }
  SUBCASE("pull") {
    producer.onResume = producer.onPause;
    pair.client->onMade = [&](Recorder& me) { me.transport().registerProducer(producer, false); };
    pair.run();
  }
  CHECK(pair.client->lostTo<std::domain_error>() == "mine");
  CHECK(producer.stopped == 1);
  CHECK(logs.flushLoggedErrors<std::domain_error>().size() == 1);
}

TEST_CASE("TLS: small writes of one turn leave together at its end") {
  Pair pair;
  pair.run();
  auto queued = [&] { return pair.pump->clientIO().queued(); };
  Transport& transport = pair.client->transport();
  constexpr std::size_t kOverhead = 22;  // of a record of TLS 1.3: header, type, tag
  SUBCASE("as one record") {
    std::string_view pieces[] = {"a", "b", "", "c"};
    transport.writeSequence(pieces);
    transport.write("d");
    CHECK(queued() == 0);
    pair.clock.advance(0s);
    CHECK(queued() == 4 + kOverhead);
    CHECK(pair.clock.getDelayedCalls().empty());
    pair.flush();
    CHECK(pair.server->received == "abcd");
  }
  SUBCASE("without waiting for a later turn if they were written in a call from below") {
    pair.client->onData = [&](Recorder& me, std::string_view) {
      me.transport().write("e");
      me.transport().write("f");
      CHECK(queued() == 0);
    };
    pair.server->transport().write("x");
    pair.clock.advance(0s);
    pair.pump->pump();
    CHECK(queued() == 2 + kOverhead);
    CHECK(pair.clock.getDelayedCalls().empty());
  }
  SUBCASE("a full record does not wait") {
    std::string all;
    for (int i = 0; i < 20; ++i) {
      std::string piece(1000, static_cast<char>('a' + i));
      transport.write(piece);
      all += piece;
    }
    CHECK(queued() == 16384 + kOverhead);
    pair.clock.advance(0s);
    CHECK(queued() == 20'000 + 2 * kOverhead);
    pair.flush();
    CHECK(pair.server->received == all);
  }
  SUBCASE("before a large one, in order") {
    transport.write("small ");
    transport.write(std::string(100'000, 'L'));
    transport.write(" small");
    CHECK(queued() > 100'000);
    pair.flush();
    CHECK(pair.server->received == "small " + std::string(100'000, 'L') + " small");
  }
  SUBCASE("before close_notify") {
    transport.write("last");
    transport.loseConnection();
    pair.pump->flush();
    CHECK(pair.server->received == "last");
    CHECK(pair.client->lostCleanly());
  }
  SUBCASE("before the peer's close_notify is answered") {
    pair.client->onData = [](Recorder& me, std::string_view) { me.transport().write("answer"); };
    // Both in one read; the answer must come before our own close_notify, or it could not be sent.
    pair.server->transport().write("ask");
    pair.server->transport().loseConnection();
    std::size_t before = queued();
    pair.pump->pump();
    CHECK(queued() > before + 6 + kOverhead);
  }
  SUBCASE("never, once the connection is aborted") {
    transport.write("dropped");
    transport.abortConnection();
    pair.flush();
    CHECK(pair.server->received.empty());
  }
  pair.flush();
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: the records of a large write leave together") {
  Clock clock;
  auto client = std::make_shared<Recorder>(), server = std::make_shared<Recorder>();
  IOPump pump(over(clientFor("localhost"), over(clientFor("localhost"), client, clock), clock),
              over(localhostServer(), over(localhostServer(), server, clock), clock));
  flushBoth(pump, clock);
  client->transport().write(std::string(64 * 1024, 'L'));
  // Four records that the TLS below got at once: it made five of them, of a write for each it would have made eight.
  CHECK(pump.clientIO().queued() == 64 * 1024 + (4 + 5) * 22);
  flushBoth(pump, clock);
  CHECK(server->received == std::string(64 * 1024, 'L'));
}

TEST_CASE("TLS: a producer that writes when it is paused does so behind what paused it") {
  Pair pair;
  pair.run();
  RecordingProducer producer;
  Transport& transport = pair.client->transport();
  producer.onPause = [&] { transport.write(std::string(40'000, 'b')); };
  transport.registerProducer(producer, true);
  transport.write(std::string(200'000, 'a'));
  CHECK(producer.paused == 1);
  transport.unregisterProducer();
  pair.flush();
  CHECK(pair.server->received == std::string(200'000, 'a') + std::string(40'000, 'b'));
}

TEST_CASE("TLS: small writes under back-pressure keep their order, and the producer hears of it") {
  Pair pair;
  pair.run();
  struct Push : RecordingProducer {
    bool on = true;
    void pauseProducing() override { RecordingProducer::pauseProducing(), on = false; }
    void resumeProducing() override { RecordingProducer::resumeProducing(), on = true; }
  } producer;
  Transport& transport = pair.client->transport();
  transport.registerProducer(producer, true);
  std::string all;
  while (producer.on) {
    std::string piece = std::to_string(all.size()) + ' ';
    transport.write(piece);
    all += piece;
    REQUIRE(all.size() < 200'000);
  }
  CHECK(all.size() > 60'000);
  transport.unregisterProducer();
  pair.flush();
  CHECK(pair.server->received == all);
}

TEST_CASE("TLS: drained()") {
  Pair pair;
  std::vector<std::string> fired;
  auto wait = [&](Recorder& me) {
    me.transport().drained().addCallback([&] { fired.push_back("drained"); }).addErrback([&](const Failure& f) {
      fired.push_back(f.check<VerifyError>() ? "VerifyError" : "failed");
    });
  };
  SUBCASE("with little written") {
    pair.client->onMade = [&](Recorder& me) {
      me.transport().write("little");
      wait(me);
      CHECK(fired.size() == 1);
    };
    pair.run();
  }
  SUBCASE("waits for the handshake") {
    pair.client->onMade = [&](Recorder& me) {
      me.transport().write(std::string(70'000, 'c'));
      wait(me);
      CHECK(fired.empty());
    };
    pair.run();
    CHECK(fired == std::vector<std::string>{"drained"});
  }
  SUBCASE("waits for the lower transport") {
    pair.run();
    pair.client->transport().write(std::string(70'000, 'c'));
    wait(*pair.client);
    CHECK(fired.empty());
    pair.flush();
    CHECK(fired == std::vector<std::string>{"drained"});
  }
  SUBCASE("fails with the reason") {
    pair.client->onMade = [&](Recorder& me) {
      me.transport().write(std::string(70'000, 'c'));
      wait(me);
    };
    pair.run(clientFor("localhost"), serverWith(testPKI().expired));
    CHECK(fired == std::vector<std::string>{"VerifyError"});
  }
}

TEST_CASE("TLS: loseWriteConnection ends both directions, as TLS has no half-closing here") {
  Pair pair;
  pair.run();
  pair.client->transport().write("last");
  pair.client->transport().loseWriteConnection();
  CHECK(pair.client->transport().disconnecting());
  pair.client->transport().write("ignored");
  pair.flush();
  CHECK(pair.server->received == "last");
  CHECK(pair.client->lostCleanly());
  CHECK(pair.server->lostCleanly());
}

TEST_CASE("TLS: TCP's options are those of the transport below") {
  struct Below : StringTransport {
    void setTcpNoDelay(bool on) override { noDelay = on; }
    bool getTcpNoDelay() const override { return noDelay; }
    void setTcpKeepAlive(bool on) override { keepAlive = on; }
    bool getTcpKeepAlive() const override { return keepAlive; }
    bool noDelay = true, keepAlive = false;
  } below;
  Clock clock;
  auto client = std::make_shared<Recorder>();
  const auto tls = over(clientFor("localhost"), client, clock);
  tls->makeConnection(below);
  Transport& transport = client->transport();
  CHECK(transport.getTcpNoDelay());
  CHECK_FALSE(transport.getTcpKeepAlive());
  transport.setTcpNoDelay(false);
  transport.setTcpKeepAlive(true);
  CHECK_FALSE(below.noDelay);
  CHECK(below.keepAlive);
}

TEST_CASE("TLS: the write limit") {
  Pair pair;
  SUBCASE("holds before the handshake") {
    pair.client->onMade = [](Recorder& me) {
      me.transport().setWriteLimit(1000);
      me.transport().write(std::string(1000, 'd'));
      CHECK_FALSE(me.transport().disconnecting());
      me.transport().write("d");
      CHECK(me.transport().disconnecting());
    };
    pair.run();
    CHECK(has(pair.client->lostTo<ConnectionLost>(), "1000"));
  }
  SUBCASE("and after") {
    pair.run();
    pair.client->transport().setWriteLimit(1000);
    pair.client->transport().write(std::string(1001, 'd'));
    pair.flush();
    CHECK(pair.client->lost->check<ConnectionLost>());
  }
}

TEST_CASE("TLS: factories") {
  Clock clock;
  struct Counting : ClientFactory {
    std::vector<std::string> events;
    bool refuse = false;
    std::shared_ptr<Protocol> buildProtocol(const Address&) override {
      return refuse ? nullptr : std::make_shared<Recorder>();
    }
    void startFactory() override { events.push_back("start"); }
    void stopFactory() override { events.push_back("stop"); }
    void startedConnecting(Connector&) override { events.push_back("started"); }
    void clientConnectionFailed(Connector&, const Failure&) override { events.push_back("failed"); }
    void clientConnectionLost(Connector&, const Failure&) override { events.push_back("lost"); }
  };
  struct FakeConnector : Connector {
    void connect() override {}
    void disconnect() override {}
    void stopConnecting() override {}
    Address getDestination() const override { return {}; }
  } connector;
  auto counting = std::make_shared<Counting>();
  std::shared_ptr<ClientFactory> wrapped =
      tlsFactory(clientFor("localhost"), std::static_pointer_cast<ClientFactory>(counting), clock);
  wrapped->doStart();
  wrapped->startedConnecting(connector);
  wrapped->clientConnectionFailed(connector, ConnectionDone());
  wrapped->clientConnectionLost(connector, ConnectionDone());
  wrapped->doStop();
  CHECK(counting->events == std::vector<std::string>{"start", "started", "failed", "lost", "stop"});
  CHECK(wrapped->buildProtocol({}));
  counting->refuse = true;
  CHECK_FALSE(wrapped->buildProtocol({}));
}

TEST_CASE("TLS: over a StringTransport on the stack, dropped at any time") {
  Clock clock;
  auto client = std::make_shared<Recorder>();
  client->onMade = [](Recorder& me) { me.transport().write("held"); };
  {
    StringTransport transport;
    auto tls = over(clientFor("localhost"), client, clock);
    tls->makeConnection(transport);
    CHECK(transport.value().size() > 100);
    CHECK(client->connected());
  }
  CHECK_FALSE(client->connected());
  client->transport().write("to nobody");
  StringTransportWithDisconnection transport;
  auto tls = over(clientFor("localhost"), client, clock);
  tls->makeConnection(transport);
  tls->dataReceived("garbage that fails the handshake");
  CHECK(client->lost->check<SSLError>());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: startTLS in mid-stream") {
  Clock clock;
  auto client = std::make_shared<Recorder>(), server = std::make_shared<Recorder>();
  client->onMade = [](Recorder& me) { me.transport().write("STARTTLS\r\n"); };
  server->onData = [&](Recorder& me, std::string_view data) {
    if (data != "STARTTLS\r\n") return;
    me.transport().write("GO\r\n");
    startTLS(me, localhostServer(), clock);
  };
  client->onData = [&](Recorder& me, std::string_view data) {
    if (data != "GO\r\n") return;
    startTLS(me, clientFor("localhost"), clock);
    me.transport().write("now hidden");
  };
  IOPump pump(client, server);
  pump.flush();
  CHECK(server->received == "STARTTLS\r\nnow hidden");
  CHECK(client->events == std::vector<std::string>{"made", "data", "handshake"});
  CHECK(client->tls().getPeerCertificate()->subject == "CN=localhost");
  client->transport().loseConnection();
  pump.flush();
  CHECK(client->lostCleanly());
  CHECK(server->lostCleanly());
}

TEST_CASE("TLS: a server selects its certificate and ALPN by the name that the client sent") {
  auto certificateFor = [](const std::string& name) {
    return test::makeCertificate({.commonName = name, .names = {name}, .issuer = &testPKI().authority});
  };
  test::Issued one = certificateFor("one.example"), many = certificateFor("*.many.example");
  auto serving = [](const test::Issued& issued, const std::string& protocol) {
    return optionsForServerTLS(
        {.privateKey = issued.privateKey, .certificate = issued.certificate, .acceptableProtocols = {protocol}});
  };
  TLSOptions server =
      selectServerTLS(serving(testPKI().localhost, "default"),
                      {{"One.example", serving(one, "one")}, {"*.many.example", serving(many, "many")}});
  CHECK_FALSE(server.isClient());
  std::string hostname, subject, protocol;
  SUBCASE("exactly") {
    hostname = "ONE.example";
    subject = "CN=one.example";
    protocol = "one";
  }
  SUBCASE("by a wildcard") {
    hostname = "www.many.example";
    subject = "CN=*.many.example";
    protocol = "many";
  }
  SUBCASE("an unknown name gets the default") {
    hostname = "localhost";
    subject = "CN=localhost";
    protocol = "default";
  }
  SUBCASE("no name (an address) too") {
    hostname = "127.0.0.1";
    subject = "CN=localhost";
    protocol = "default";
  }
  Pair pair;
  pair.run(optionsForClientTLS(hostname, {.trustRoots = testPKI().authority.certificate,
                                          .acceptableProtocols = {"one", "many", "default"}}),
           server);
  REQUIRE(pair.client->events.back() == "handshake");
  CHECK(pair.client->tls().getPeerCertificate()->subject == subject);
  CHECK(pair.client->tls().negotiatedProtocol() == protocol);
}

TEST_CASE("TLS: an unknown name does not get a wildcard's certificate of another level") {
  Pair pair;
  pair.run(clientFor("a.b.third.example"),
           selectServerTLS(localhostServer(), {{"*.third.example", serverWith(testPKI().wrongName)}}));
  CHECK(has(pair.client->lostTo<VerifyError>(), "is for \"localhost\""));
}

TEST_CASE("TLS: what a server selects decides whether clients must show a certificate") {
  TLSOptions strict = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                           .certificate = testPKI().localhost.certificate,
                                           .trustRoots = testPKI().authority.certificate});
  TLSOptions open = serverWith(testPKI().wrongName);
  TLSOptions server = selectServerTLS(open, {{"localhost", strict}});
  Pair pair;
  SUBCASE("for one name") {
    pair.run(clientFor("localhost"), server);
    CHECK(has(pair.server->lostTo<VerifyError>(), "no certificate"));
  }
  SUBCASE("not for the other") {
    pair.run(clientFor("other.example"), server);
    CHECK(pair.server->events.back() == "handshake");
  }
}

TEST_CASE("TLS: a session that was made without a client certificate does not pass where one is required") {
  test::Issued both = test::makeCertificate(
      {.commonName = "both", .names = {"open.example", "strict.example"}, .issuer = &testPKI().authority});
  std::string asked;
  TLSOptions open = serverWith(both);
  TLSOptions strict = optionsForServerTLS(
      {.privateKey = both.privateKey, .certificate = both.certificate, .trustRoots = testPKI().authority.certificate});
  bool requires_ = false;  // the same name, so that the client offers its session
  TLSOptions server = selectServerTLS([&](const std::string&) { return requires_ ? strict : open; });
  TLSOptions client = clientFor("open.example");
  Pair first;
  first.run(client, server);
  CHECK(first.server->events.back() == "handshake");
  requires_ = true;
  Pair second;
  second.run(client, server);
  CHECK(has(second.server->lostTo<VerifyError>(), "no certificate"));
}

TEST_CASE("TLS: what selects a server's options throws, or gives options that cannot serve") {
  Pair pair;
  LogCapture logs;
  SUBCASE("throws") {
    pair.run(clientFor("localhost"),
             selectServerTLS([](const std::string&) -> TLSOptions { throw std::domain_error("mine"); }));
    CHECK(pair.server->lostTo<std::domain_error>() == "mine");
    CHECK(logs.flushLoggedErrors<std::domain_error>().size() == 1);
  }
  SUBCASE("a client's") {
    pair.run(clientFor("localhost"), selectServerTLS([](const std::string&) { return clientFor("localhost"); }));
    CHECK(has(pair.server->lostTo<std::logic_error>(), "optionsForServerTLS"));
    CHECK(logs.flushLoggedErrors<std::logic_error>().size() == 1);
  }
  CHECK(pair.client->lost->check<SSLError>());
  CHECK_THROWS_AS(selectServerTLS(clientFor("localhost"), {}), std::invalid_argument);
  CHECK_THROWS_AS(selectServerTLS(localhostServer(), {{"a", clientFor("a")}}), std::invalid_argument);
}

TEST_CASE("TLS: a server's certificate is renewed without a restart") {
  TLSOptions current = localhostServer();
  TLSOptions server = selectServerTLS([&](const std::string&) { return current; });
  TLSOptions client = clientFor("localhost");
  Pair before;
  before.server->onData = [](Recorder& me, std::string_view data) { me.transport().write(data); };
  before.run(client, server);
  CHECK(before.client->tls().getPeerCertificate()->subject == "CN=localhost");
  current = serverWith(
      test::makeCertificate({.commonName = "renewed", .names = {"localhost"}, .issuer = &testPKI().authority}));
  Pair after;
  after.run(client, server);  // offers the session made with the old certificate
  CHECK(after.client->tls().getPeerCertificate()->subject == "CN=renewed");
  CHECK_FALSE(after.client->tls().sessionReused());
  before.client->transport().write("still here");
  before.flush();
  CHECK(before.client->received == "still here");
}

TEST_CASE("TLS: trustRoots are trusted instead of the system's") {
  test::TemporaryDirectory directory;
  setenv("SSL_CERT_FILE", directory.write("roots.pem", testPKI().authority.certificate).c_str(), 1);
  TLSOptions pinned = optionsForClientTLS("localhost", {.trustRoots = testPKI().selfSigned.certificate});
  Pair other, same;
  other.run(pinned);
  same.run(pinned, serverWith(testPKI().selfSigned));
  unsetenv("SSL_CERT_FILE");
  CHECK(has(other.client->lostTo<VerifyError>(), "unknown issuer"));
  CHECK(same.client->events.back() == "handshake");
  // Pinned is not excused from being for the name.
  Pair wrong;
  wrong.run(pinned.forHostname("elsewhere.example"), serverWith(testPKI().selfSigned));
  CHECK(has(wrong.client->lostTo<VerifyError>(), "not for \"elsewhere.example\""));
}

TEST_CASE("TLS: a server that asks for a certificate and does not require it") {
  TLSOptions server = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                           .certificate = testPKI().localhost.certificate,
                                           .trustRoots = testPKI().authority.certificate,
                                           .requireCertificate = false});
  ClientTLS client{.trustRoots = testPKI().authority.certificate};
  Pair pair;
  SUBCASE("takes a client without") {
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(pair.server->events.back() == "handshake");
    CHECK_FALSE(pair.server->tls().getPeerCertificate());
  }
  SUBCASE("sees a good one") {
    client.clientCertificate = {testPKI().client.certificate, testPKI().client.privateKey};
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(pair.server->tls().getPeerCertificate()->subject == "CN=a client");
  }
  SUBCASE("refuses a bad one") {
    client.clientCertificate = {testPKI().selfSigned.certificate, testPKI().selfSigned.privateKey};
    pair.run(optionsForClientTLS("localhost", client), server);
    CHECK(has(pair.server->lostTo<VerifyError>(), "self-signed"));
  }
}

TEST_CASE("TLS: sessions are resumed") {
  TLSOptions client = optionsForClientTLS(
      "localhost", {.trustRoots = testPKI().authority.certificate,
                    .clientCertificate = {{testPKI().client.certificate, testPKI().client.privateKey}}});
  TLSOptions server = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                           .certificate = testPKI().localhost.certificate,
                                           .trustRoots = testPKI().authority.certificate,
                                           .requireCertificate = false});
  auto connect = [](const TLSOptions& client, const TLSOptions& server) {
    Pair pair;
    pair.client->onMade = [](Recorder& me) {
      CHECK_FALSE(me.tls().sessionReused());
      me.transport().write("hello");
    };
    pair.run(client, server);
    REQUIRE(pair.client->events.back() == "handshake");
    CHECK(pair.server->received == "hello");
    bool reused = pair.client->tls().sessionReused();
    CHECK(pair.server->tls().sessionReused() == reused);
    // Who the peers are is known as well after a short handshake.
    CHECK(pair.client->tls().getPeerCertificate()->subject.starts_with("CN="));
    pair.client->transport().loseConnection();
    pair.flush();
    CHECK(pair.client->lostCleanly());
    return reused;
  };
  SUBCASE("by the same options and their copies") {
    CHECK_FALSE(connect(client, server));
    for (int i = 0; i < 5; ++i) CHECK(connect(TLSOptions(client).forHostname("localhost"), server));
  }
  SUBCASE("not by other options") {
    CHECK_FALSE(connect(client, server));
    CHECK_FALSE(connect(clientFor("localhost"), server));
  }
  SUBCASE("not with other options of a server") {
    CHECK_FALSE(connect(client, server));
    CHECK_FALSE(connect(client, localhostServer()));
  }
  SUBCASE("with the certificate of the client still known") {
    CHECK_FALSE(connect(client, server));
    Pair pair;
    pair.run(client, server);
    CHECK(pair.server->tls().sessionReused());
    CHECK(pair.server->tls().getPeerCertificate()->subject == "CN=a client");
  }
  SUBCASE("for the verified name alone") {
    CHECK_FALSE(connect(client, server));
    CHECK_FALSE(connect(client.forHostname("127.0.0.1"), server));  // verified anew
    Pair pair;
    pair.run(client.forHostname("elsewhere.example"), server);  // and so refused
    CHECK(has(pair.client->lostTo<VerifyError>(), "not for \"elsewhere.example\""));
    Pair again;
    again.run(client.forHostname("elsewhere.example"), server);
    CHECK(has(again.client->lostTo<VerifyError>(), "not for \"elsewhere.example\""));
  }
  SUBCASE("with a server that selects its options") {
    TLSOptions selecting = selectServerTLS(localhostServer(), {{"localhost", server}});
    CHECK_FALSE(connect(client, selecting));
    CHECK(connect(client, selecting));
  }
}

TEST_CASE("TLS: a handshake that takes too long") {
  Pair pair;
  auto silent = std::make_shared<Recorder>();
  SUBCASE("ends a client after 30 seconds") {
    IOPump pump(over(clientFor("localhost"), pair.client, pair.clock), silent);
    pump.flush();
    pair.clock.advance(29'999ms);
    pump.flush();
    CHECK_FALSE(pair.client->lost);
    pair.clock.advance(1ms);
    CHECK_FALSE(pair.client->lost);
    pump.flush();
    CHECK(has(pair.client->lostTo<ConnectTimeoutError>(), "30000 ms (handshakeTimeout)"));
    CHECK(silent->lost->check<ConnectionLost>());
  }
  SUBCASE("ends a server, which is told the limit") {
    TLSOptions server = optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                             .certificate = testPKI().localhost.certificate,
                                             .handshakeTimeout = 5s});
    IOPump pump(silent, over(server, pair.server, pair.clock));
    silent->transport().write("\x16\x03\x01");  // a beginning
    pump.flush();
    pair.clock.advance(5s);
    pump.flush();
    CHECK(has(pair.server->lostTo<ConnectTimeoutError>(), "5000 ms"));
  }
  SUBCASE("ends it with startTLS too, and where loseConnection waits for what was written") {
    pair.client->onMade = [&](Recorder& me) {
      startTLS(me, clientFor("localhost"), pair.clock);
      me.transport().write("held");
      me.transport().loseConnection();
    };
    IOPump pump(pair.client, silent);
    pump.flush();
    CHECK_FALSE(pair.client->lost);
    pair.clock.advance(30s);
    pump.flush();
    CHECK(pair.client->lost->check<ConnectTimeoutError>());
  }
  SUBCASE("is waited for where there is no limit") {
    TLSOptions client =
        optionsForClientTLS("localhost", {.trustRoots = testPKI().authority.certificate, .handshakeTimeout = 0s});
    IOPump pump(over(client, pair.client, pair.clock), silent);
    pump.flush();
    CHECK(pair.clock.getDelayedCalls().empty());
    pair.clock.advance(24h);
    CHECK_FALSE(pair.client->lost);
  }
  SUBCASE("is not one that has been finished") {
    pair.run();
    pair.clock.advance(1h);
    pair.flush();
    CHECK_FALSE(pair.client->lost);
  }
  CHECK(pair.clock.getDelayedCalls().empty());
  CHECK_THROWS_AS(optionsForClientTLS("a", {.handshakeTimeout = -1s}), std::invalid_argument);
}

// Over sockets, with the time of the handshakes in the test's hand.
TEST_CASE("TLS: a thousand peers that break their handshakes get typed errors, and nothing of them is held") {
  constexpr std::size_t kPeers = 1000;
  const test::DescriptorLimit limit(2 * kPeers + 100);
  REQUIRE(test::DescriptorLimit::now() >= 2 * kPeers + 100);
  LogCapture log;
  Reactor reactor;
  Clock clock;
  std::vector<std::shared_ptr<Recorder>> servers;
  std::size_t lost = 0;
  auto factory = tlsFactory(localhostServer(), makeFactory([&] {
                              auto& server = *servers.emplace_back(std::make_shared<Recorder>());
                              server.onLost = [&](Recorder&) { ++lost; };
                              return servers.back();
                            }),
                            clock);
  auto port = reactor.listenTCP(0, factory, 2000, "127.0.0.1");
  const std::uint16_t number = std::get<IPv4Address>(port->getHost()).port;

  std::function<void(int)> speak;  // what a peer does when it is connected
  bool finished = false;           // of itself
  std::vector<int> resets;         // those to be closed when the server has accepted them
  std::size_t timedOut = 0, refused = 0, reset = 0;
  const auto wave = [&] {
    servers.clear();
    lost = timedOut = refused = reset = 0;
    std::vector<int> peers;
    for (std::size_t i = 0; i < kPeers; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(number);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
      peers.push_back(fd);
      speak(fd);
    }
    test::runUntil(reactor, [&] { return servers.size() == kPeers; });
    for (const int fd : std::exchange(resets, {})) ::close(fd);
    if (!finished) {
      test::spin(reactor);
      CHECK(lost == 0);
      CHECK(clock.getDelayedCalls().size() == kPeers);
      clock.advance(kHandshakeTimeout);
    }
    test::runUntil(reactor, [&] { return lost == kPeers; });
    for (const auto& server : servers) {
      if (server->lost->check<ConnectTimeoutError>()) {
        ++timedOut;
      } else if (server->lost->check<SSLError>()) {
        ++refused;
      } else if (server->lost->check<ConnectionLost>()) {
        ++reset;
      }
      CHECK(server->events == std::vector<std::string>{"made", "lost"});
      CHECK_FALSE(server->connected());
    }
    if (reset == 0) {
      for (const int fd : peers) ::close(fd);
    }
    servers.clear();
    servers.shrink_to_fit();
    CHECK(clock.getDelayedCalls().empty());
  };
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);  // the beginning of a ClientHello

  SUBCASE("that say nothing") {
    speak = [](int) {};
    wave();
    CHECK(timedOut == kPeers);
  }
  SUBCASE("that stop in the middle") {
    speak = [&](int fd) { ::send(fd, hello.data(), hello.size(), 0); };
    wave();
    CHECK(timedOut == kPeers);
  }
  SUBCASE("that close in the middle") {
    finished = true;
    speak = [&](int fd) {
      ::send(fd, hello.data(), hello.size(), 0);
      ::shutdown(fd, SHUT_WR);
    };
    wave();
    CHECK(refused == kPeers);
  }
  SUBCASE("that send noise") {
    finished = true;
    speak = [](int fd) {
      const std::string noise(3000, '\xee');
      ::send(fd, noise.data(), noise.size(), 0);
    };
    wave();
    CHECK(refused == kPeers);
  }
  SUBCASE("that reset in the middle") {
    finished = true;
    speak = [&](int fd) {
      const linger hard{1, 0};
      ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      ::send(fd, hello.data(), hello.size(), 0);
      resets.push_back(fd);
    };
    wave();
    CHECK(reset == kPeers);
  }
  // The second wave finds what tables and caches the first has left.
  const std::size_t descriptors = test::openDescriptors(), memory = test::memoryInUse();
  wave();
  CHECK(test::openDescriptors() == descriptors);
  CHECK(test::memoryInUse() < memory + 64 * 1024);
  CHECK(log.flushLoggedErrors().empty());
}

TEST_CASE("TLS: a peer that does not read holds up a producer that obeys, and memory with it") {
  constexpr std::size_t kTotal = 200 << 20;
  Reactor reactor;
  auto server = std::make_shared<Recorder>(), client = std::make_shared<Recorder>();
  auto port = reactor.listenSSL(0, makeFactory([&] { return server; }), localhostServer(), 50, "127.0.0.1");
  struct Connecting : ClientFactory {
    explicit Connecting(std::shared_ptr<Protocol> protocol) : protocol(std::move(protocol)) {}
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::exchange(protocol, nullptr); }
    std::shared_ptr<Protocol> protocol;
  };
  reactor.connectSSL("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, std::make_shared<Connecting>(client),
                     clientFor("127.0.0.1"));
  client->onHandshake = [](Recorder& me) { me.transport().pauseProducing(); };
  test::runUntil(reactor, [&] { return server->events.size() == 2 && client->events.size() == 2; });
  const std::size_t before = test::memoryInUse();
  RecordingProducer producer;
  std::size_t written = 0, most = 0;
  bool paused = false;
  const auto produce = [&] {
    while (!paused && written < kTotal) {
      server->transport().write(std::string(10'000, 'x'));
      written += 10'000;
      most = std::max(most, test::memoryInUse() - before);
    }
  };
  producer.onPause = [&] { paused = true; };
  producer.onResume = [&] {
    paused = false;
    produce();
  };
  server->transport().registerProducer(producer, true);
  produce();
  test::spin(reactor, 200);
  CHECK(paused);
  CHECK(written < kTotal / 4);  // what the kernel takes, and 64 KiB
  CHECK(most < 512 * 1024);
  const std::size_t stalled = written;
  test::spin(reactor, 200);
  CHECK(written == stalled);
  client->transport().resumeProducing();
  test::runUntil(reactor, [&] { return written > stalled + (1 << 20); });
  CHECK(most < 512 * 1024 + client->received.capacity());
  server->transport().unregisterProducer();
  server->transport().abortConnection();
  test::runUntil(reactor, [&] { return client->lost && server->lost; });
}
