#include <reactor/tls.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/testing/clock.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/pump.hpp>
#include <reactor/testing/string_transport.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

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
    pump->flush();
  }
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
  pair.pump->flush();
  pair.client->transport().write("late");
  pair.pump->flush();
  CHECK(pair.server->received == "early at handshake late");
  CHECK(pair.client->received == "early at handshake late");
  CHECK(pair.client->events == std::vector<std::string>{"made", "handshake", "data"});
  pair.client->transport().loseConnection();
  CHECK_FALSE(pair.client->lost);
  pair.pump->flush();
  CHECK(pair.client->lostCleanly());
  CHECK(pair.server->lostCleanly());
  CHECK_FALSE(pair.pump->connected());
  CHECK(pair.clock.getDelayedCalls().empty());
  CHECK_FALSE(pair.client->connected());
  pair.client->transport().write("ignored");
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
  pair.pump->flush();
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
  pump.flush();
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
  pair.pump->flush();
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
  pair.pump->flush();
  pair.pump->clientIO().loseConnection();  // behind TLS's back
  pair.pump->flush();
  CHECK(pair.server->received == "half of it");
  CHECK(has(pair.server->lostTo<ConnectionLost>(), "truncated"));
}

TEST_CASE("TLS: bytes changed on the way break the connection") {
  Pair pair;
  pair.run();
  pair.pump->clientIO().write(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'z'));
  pair.pump->flush();
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
    pair.pump->flush();
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
  pair.pump->flush();
  SUBCASE("then the lower transport closes") {
    pair.clock.advance(4999ms);
    CHECK_FALSE(pair.pump->clientIO().disconnecting());
    pair.clock.advance(1ms);
    CHECK(pair.pump->clientIO().disconnecting());
    pair.pump->serverIO().resumeProducing();
    pair.pump->flush();
    CHECK(pair.client->lostCleanly());
    CHECK(pair.server->lostCleanly());
  }
  SUBCASE("or until it is gone") {
    pair.pump->serverIO().abortConnection();
    pair.pump->flush();
    CHECK(pair.client->lost->check<ConnectionLost>());
  }
  CHECK(pair.clock.getDelayedCalls().empty());
}

TEST_CASE("TLS: what arrives after loseConnection is not delivered, and does not keep the connection") {
  Pair pair;
  pair.run();
  pair.server->transport().write("crossing");
  pair.client->transport().loseConnection();
  pair.pump->flush();
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
    pair.pump->flush();
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
    pair.pump->flush();
  }
  SUBCASE("in dataReceived") {
    pair.client->onData = [](Recorder& me, std::string_view) {
      me.transport().abortConnection();
      CHECK_FALSE(me.lost);
    };
    pair.run();
    pair.server->transport().write("one");
    pair.server->transport().write("two");
    pair.pump->flush();
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
  pair.pump->flush();
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
  pair.pump->flush();
  CHECK(pair.client->received.empty());
  SUBCASE("until it resumes, on a later turn") {
    pair.client->transport().resumeProducing();
    CHECK(pair.client->received.empty());
    pair.clock.advance(0s);
    pair.pump->flush();
    CHECK(pair.client->received == "banner and more");
  }
  SUBCASE("also when it pauses again at once") {
    pair.client->transport().resumeProducing();
    pair.client->transport().pauseProducing();
    pair.clock.advance(0s);
    pair.pump->flush();
    CHECK(pair.client->received.empty());
    pair.client->transport().resumeProducing();
    pair.clock.advance(0s);
    pair.pump->flush();
    CHECK(pair.client->received == "banner and more");
  }
  SUBCASE("and pauses in dataReceived") {
    pair.client->onData = [](Recorder& me, std::string_view) { me.transport().pauseProducing(); };
    pair.client->transport().resumeProducing();
    pair.clock.advance(0s);
    pair.pump->flush();
    std::string first = pair.client->received;
    CHECK(first.starts_with("banner"));
    pair.server->transport().write("!");
    pair.pump->flush();
    CHECK(pair.client->received == first);
  }
  SUBCASE("and loses the connection") {
    pair.client->transport().loseConnection();
    pair.pump->flush();
    CHECK(pair.client->received.empty());
    CHECK(pair.client->lostCleanly());
    CHECK(pair.server->lostCleanly());
  }
}

TEST_CASE("TLS: pauseProducing in dataReceived stops the next delivery") {
  Pair pair;
  pair.client->onData = [](Recorder& me, std::string_view) { me.transport().pauseProducing(); };
  pair.run();
  pair.server->transport().write("one");
  pair.pump->flush();
  pair.server->transport().write("two");
  pair.pump->flush();
  CHECK(pair.client->received == "one");
  pair.client->onData = nullptr;
  pair.client->transport().resumeProducing();
  CHECK(pair.client->received == "one");
  pair.pump->flush();
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
    pair.pump->flush();
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
  pair.pump->flush();
  CHECK_FALSE(pair.client->lost);
  CHECK(pair.server->received == "the last");
  SUBCASE("until it is unregistered") {
    pair.client->transport().unregisterProducer();
    pair.pump->flush();
    CHECK(pair.client->lostCleanly());
    CHECK(producer.stopped == 0);
  }
  SUBCASE("unless the peer ends the connection") {
    pair.server->transport().loseConnection();
    pair.pump->flush();
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
  pair.pump->flush();
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
    pair.pump->flush();
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

TEST_CASE("TLS: writeSequence makes one record") {
  Pair pair;
  pair.run();
  std::size_t before = pair.pump->clientIO().queued();
  std::string_view pieces[] = {"a", "b", "", "c"};
  pair.client->transport().writeSequence(pieces);
  CHECK(pair.pump->clientIO().queued() - before < 40);
  pair.pump->flush();
  CHECK(pair.server->received == "abc");
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
    pair.pump->flush();
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
    pair.pump->flush();
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
