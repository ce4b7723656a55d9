// TLS: our ends with Python Twisted's. Against OpenSSL's own programs: test/reactor/tls_openssl_test.cpp.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <protocols/basic.hpp>
#include <reactor/tls.hpp>
#include <test/interop/interop.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace torsion::test;

namespace {

struct TLSRecorder : Recorder, HandshakeListener {
  void handshakeCompleted() override {
    TLSTransport* tls = TLSTransport::from(transport());
    alpn = tls->negotiatedProtocol();
    version = tls->protocolVersion();
    if (auto certificate = tls->getPeerCertificate()) certified = certificate->subject;
    shaken = true;
  }
  bool shaken = false;
  std::string alpn, version, certified;
};

/// What each side shows and asks for; theirs as words for tls_peer.py.
struct TLSConnection {
  TLSConnection() {
    server.certificate = testPKI().localhost.certificate;
    server.privateKey = testPKI().localhost.privateKey;
    client.trustRoots = testPKI().authority.certificate;
  }
  std::string file(const Issued& issued) {
    return directory.write(std::to_string(++files) + ".pem", issued.certificate + issued.privateKey);
  }
  std::string authority() { return "trust=" + file(testPKI().authority); }
  /// The words of a peer that is a server with this certificate.
  std::string theirServer(const Issued& issued = testPKI().localhost) { return " cert=" + file(issued); }
  std::string theirClient(const std::string& hostname = "localhost") {
    return " hostname=" + hostname + " " + authority();
  }

  void listen(const std::string& theirs, const std::string& words) {
    listen(optionsForServerTLS(server), theirs, words);
  }
  void listen(const TLSOptions& options, const std::string& theirs, const std::string& words) {
    listenTCP(tlsFactory(options, factoryOf(ours), reactor), theirs, words);
  }
  void listenTCP(std::shared_ptr<Factory> factory, const std::string& theirs, const std::string& words) {
    port = reactor.listenTCP(0, std::move(factory), 50, "127.0.0.1");
    peer.tell("connectTLS " + std::to_string(portOf(port->getHost())) + " " + theirs + words);
    CHECK(peer.hear() == "made");
  }
  void connect(const std::string& theirs, const std::string& words, const std::string& hostname = "localhost") {
    const std::uint16_t number = peer.listen("listenTLS " + theirs + words);
    std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(ours);
    reactor.connectTCP("127.0.0.1", number, tlsFactory(optionsForClientTLS(hostname, client), factory, reactor));
    CHECK(peer.hear() == "made");
  }
  void either(bool weListen, const std::string& theirs) {
    if (weListen) {
      listen(theirs, theirClient());
    } else {
      connect(theirs, theirServer());
    }
    CHECK(peer.hear() == (weListen ? "handshake - localhost" : "handshake - -"));
    runUntil(reactor, [&] { return ours->shaken; });
  }
  std::string ourLoss() {
    runUntil(reactor, [&] { return !ours->lost.empty(); });
    return ours->lost;
  }

  TemporaryDirectory directory;
  int files = 0;
  CertificateOptions server;
  ClientTLS client;
  Reactor reactor;
  std::shared_ptr<TLSRecorder> ours = std::make_shared<TLSRecorder>();
  std::shared_ptr<ListeningPort> port;
  Peer peer{reactor};
};

const std::string nothing = sum("");

}  // namespace

TEST_CASE_TEMPLATE("TLS: echo", Side, WeListen, TheyListen) {
  TLSConnection c;
  const std::string text(2'000'000, 't');
  SUBCASE("theirs") {
    c.either(Side::value, "Echo");
    c.ours->transport().write(text);
    runUntil(c.reactor, [&] { return c.ours->received.size() == text.size(); });
    CHECK(c.ours->received == text);
    c.ours->transport().loseConnection();
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum(text));
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("ours") {
    c.ours->echo = true;
    c.either(Side::value, "Recorder");
    c.peer.tell("write hello");
    CHECK(c.peer.hear() == "line hello");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum("hello\n"));
    CHECK(c.ourLoss() == "ConnectionDone");
  }
}

TEST_CASE_TEMPLATE("TLS: how a connection ends", Side, WeListen, TheyListen) {
  TLSConnection c;
  c.either(Side::value, "Recorder");
  SUBCASE("we write and close") {
    c.ours->transport().write("goodbye\n");
    c.ours->transport().loseConnection();
    CHECK(c.peer.hear() == "line goodbye");
    CHECK(c.peer.hear() == "lost ConnectionDone " + sum("goodbye\n"));
    CHECK(c.ourLoss() == "ConnectionDone");
  }
  SUBCASE("they write and close") {
    c.peer.tell("write goodbye");
    c.peer.tell("lose");
    CHECK(c.peer.hear() == "lost ConnectionDone " + nothing);
    CHECK(c.ourLoss() == "ConnectionDone");
    CHECK(c.ours->received == "goodbye\n");
  }
  SUBCASE("we abort") {
    c.ours->transport().abortConnection();
    CHECK(c.ourLoss() == "ConnectionAborted");
    CHECK(c.peer.hear() == "lost ConnectionLost " + nothing);
  }
  SUBCASE("they abort") {
    c.peer.tell("abort");
    CHECK(c.peer.hear() == "lost ConnectionLost " + nothing);  // over TLS Twisted forgets who aborted
    CHECK(c.ourLoss() == "ConnectionLost");
  }
}

TEST_CASE_TEMPLATE("TLS: a reader that stalls, and their producers", Side, WeListen, TheyListen) {
  std::string kind = "push";
  SUBCASE("push") {}
  SUBCASE("pull") {
    kind = "pull";
  }
  constexpr std::size_t size = 10'000'000;
  TLSConnection c;
  c.either(Side::value, "Recorder");
  c.ours->transport().pauseProducing();
  c.peer.tell("produce " + std::to_string(size) + " " + kind);
  if (kind == "push") CHECK(c.peer.hear() == "producer paused");
  spin(c.reactor);
  CHECK(c.ours->received.empty());
  c.ours->transport().resumeProducing();
  CHECK(c.ourLoss() == "ConnectionDone");
  std::string wanted;
  while (wanted.size() < size) wanted += static_cast<char>(32 + wanted.size() % 95);
  CHECK(sum(c.ours->received) == sum(wanted));
}

TEST_CASE("TLS: STARTTLS in mid-stream") {
  struct Starter : LineReceiver, HandshakeListener {
    explicit Starter(std::function<TLSOptions()> options) : options(std::move(options)) {}
    void lineReceived(std::string_view line) override {
      lines += std::string(line) + (TLSTransport::from(transport()) ? " (TLS)\n" : "\n");
      if (line == "READY") {
        startTLS(*this, options());
        sendLine("secret");
      }
      if (line == "STARTTLS") {
        sendLine("READY");
        startTLS(*this, options());
      }
    }
    void handshakeCompleted() override { shaken = true; }
    void connectionLost(const Failure& reason) override { lost = nameOf(reason); }
    std::function<TLSOptions()> options;
    std::string lines, lost;
    bool shaken = false;
  };
  TLSConnection c;
  Reactor& reactor = c.reactor;
  std::shared_ptr<Starter> ours;
  SUBCASE("they are the server") {
    ours = std::make_shared<Starter>([&] { return optionsForClientTLS("localhost", c.client); });
    ours->setDelimiter("\n");
    const std::uint16_t port = c.peer.listen("listenTCP 127.0.0.1 Recorder");
    reactor.connectTCP("127.0.0.1", port, std::make_shared<RecorderClientFactory>(ours));
    CHECK(c.peer.hear() == "made");
    runUntil(reactor, [&] { return ours->connected(); });
    ours->sendLine("STARTTLS");
    CHECK(c.peer.hear() == "line STARTTLS");
    c.peer.tell("startTLS server READY" + c.theirServer());
    CHECK(c.peer.hear() == "handshake - -");
    CHECK(c.peer.hear() == "line secret");
    c.peer.tell("write thanks");
    c.peer.tell("lose");
    runUntil(reactor, [&] { return !ours->lost.empty(); });
    CHECK(ours->lines == "READY\nthanks (TLS)\n");
  }
  SUBCASE("we are the server") {
    ours = std::make_shared<Starter>([&] { return optionsForServerTLS(c.server); });
    ours->setDelimiter("\n");
    auto port = reactor.listenTCP(0, factoryOf(ours), 50, "127.0.0.1");
    c.peer.tell("connectTCP 127.0.0.1 " + std::to_string(portOf(port->getHost())) + " Recorder");
    CHECK(c.peer.hear() == "made");
    c.peer.tell("write plain");
    c.peer.tell("write STARTTLS");
    CHECK(c.peer.hear() == "line READY");
    c.peer.tell("startTLS client -" + c.theirClient());
    CHECK(c.peer.hear() == "handshake - localhost");
    c.peer.tell("write secret");
    c.peer.tell("lose");
    runUntil(reactor, [&] { return !ours->lost.empty(); });
    CHECK(ours->lines == "plain\nSTARTTLS\nsecret (TLS)\n");
  }
  CHECK(c.peer.hear().starts_with("lost ConnectionDone "));
  CHECK(ours->lost == "ConnectionDone");
  CHECK(ours->shaken);
}

TEST_CASE("TLS: client certificates that their server asks for") {
  TLSConnection c;
  const std::string words = c.theirServer() + " " + c.authority();
  SUBCASE("the right one") {
    c.client.clientCertificate = {testPKI().client.certificate, testPKI().client.privateKey};
    c.connect("Echo", words);
    CHECK(c.peer.hear() == "handshake - a_client");
    c.ours->transport().write("hello\n");
    CHECK(c.peer.hear() == "line hello");
    runUntil(c.reactor, [&] { return c.ours->received == "hello\n"; });
  }
  SUBCASE("a wrong one") {
    c.client.clientCertificate = {testPKI().selfSigned.certificate, testPKI().selfSigned.privateKey};
    c.connect("Echo", words);
    c.ours->transport().write("hello\n");
    CHECK(c.ourLoss() == "SSLError");
    CHECK(c.peer.hear() == "lost Error " + nothing);
  }
  SUBCASE("none") {
    c.connect("Echo", words);
    c.ours->transport().write("hello\n");
    CHECK(c.ourLoss() == "SSLError");
    CHECK(c.peer.hear() == "lost Error " + nothing);
  }
}

TEST_CASE("TLS: client certificates that our server asks for") {
  TLSConnection c;
  c.server.trustRoots = testPKI().authority.certificate;
  SUBCASE("the right one") {
    c.listen("Recorder", c.theirClient() + " cert=" + c.file(testPKI().client));
    CHECK(c.peer.hear() == "handshake - localhost");
    c.peer.tell("write hello");
    runUntil(c.reactor, [&] { return c.ours->received == "hello\n"; });
    CHECK(c.ours->certified == "CN=a client");
  }
  SUBCASE("a wrong one") {
    c.listen("Recorder", c.theirClient() + " cert=" + c.file(testPKI().selfSigned));
    CHECK(c.ourLoss() == "VerifyError");
    CHECK_FALSE(c.ours->shaken);
  }
  SUBCASE("none") {
    c.listen("Recorder", c.theirClient());
    CHECK(c.ourLoss() == "VerifyError");
    CHECK_FALSE(c.ours->shaken);
  }
}

TEST_CASE("TLS: a server that the client cannot trust") {
  TLSConnection c;
  SUBCASE("ours refuses a self-signed certificate") {
    c.connect("Recorder", c.theirServer(testPKI().selfSigned));
    c.ours->transport().write("the secret\n");
    CHECK(c.ourLoss() == "VerifyError");
    CHECK(c.peer.hear() == "lost Error " + nothing);
  }
  SUBCASE("ours refuses another name") {
    c.connect("Recorder", c.theirServer(testPKI().wrongName));
    c.ours->transport().write("the secret\n");
    CHECK(c.ourLoss() == "VerifyError");
    CHECK(c.peer.hear() == "lost Error " + nothing);
  }
  SUBCASE("theirs refuses a self-signed certificate") {
    c.server.certificate = testPKI().selfSigned.certificate;
    c.server.privateKey = testPKI().selfSigned.privateKey;
    c.listen("Recorder", c.theirClient());
    CHECK(c.peer.hear() == "lost Error " + nothing);
    CHECK(c.ourLoss() == "SSLError");
  }
  SUBCASE("theirs refuses another name") {
    c.listen("Recorder", c.theirClient("other.example"));
    CHECK(c.peer.hear() == "handshake - localhost");
    CHECK(c.peer.hear() == "lost VerificationError " + nothing);
    CHECK(c.ourLoss() != "ConnectionDone");
  }
}

TEST_CASE("TLS: ALPN") {
  TLSConnection c;
  SUBCASE("the server's order counts: theirs") {
    c.client.acceptableProtocols = {"http/1.1", "h2"};
    c.connect("Recorder", c.theirServer() + " alpn=h2,http/1.1");
    CHECK(c.peer.hear() == "handshake h2 -");
    runUntil(c.reactor, [&] { return c.ours->shaken; });
    CHECK(c.ours->alpn == "h2");
  }
  SUBCASE("the server's order counts: ours") {
    c.server.acceptableProtocols = {"h2", "http/1.1"};
    c.listen("Recorder", c.theirClient() + " alpn=http/1.1,h2");
    CHECK(c.peer.hear() == "handshake h2 localhost");
    CHECK(c.ours->alpn == "h2");
  }
  SUBCASE("none in common") {
    c.server.acceptableProtocols = {"h2"};
    c.listen("Recorder", c.theirClient() + " alpn=http/1.1");
    CHECK(c.peer.hear() == "handshake - localhost");
    CHECK(c.ours->alpn.empty());
  }
}

TEST_CASE("TLS: the name that the client sends") {
  TLSConnection c;
  SUBCASE("theirs chooses our server's certificate") {
    CertificateOptions other;
    other.certificate = testPKI().wrongName.certificate;
    other.privateKey = testPKI().wrongName.privateKey;
    c.listen(selectServerTLS(optionsForServerTLS(c.server), {{"other.example", optionsForServerTLS(other)}}),
             "Recorder", c.theirClient("other.example"));
    CHECK(c.peer.hear() == "handshake - localhost");  // it is the common name of both; the name was verified
  }
  SUBCASE("ours reaches their server") {
    c.connect("Recorder", c.theirServer(testPKI().wrongName) + " names=yes", "other.example");
    CHECK(c.peer.hear() == "servername other.example");
    CHECK(c.peer.hear() == "handshake - -");
  }
  SUBCASE("an address is not sent") {
    c.connect("Recorder", c.theirServer() + " names=yes", "127.0.0.1");
    CHECK(c.peer.hear() == "servername -");
    CHECK(c.peer.hear() == "handshake - -");
  }
}

TEST_CASE("TLS: a server of TLS 1.1") {
  TLSConnection c;
  c.connect("Recorder", c.theirServer() + " maximum=TLSv1_1");
  CHECK(c.ourLoss() == "SSLError");
  CHECK(c.peer.hear() == "lost Error " + nothing);
}

TEST_CASE_TEMPLATE("TLS: inside TLS", Side, WeListen, TheyListen) {
  TLSConnection c;
  if (Side::value) {
    TLSOptions options = optionsForServerTLS(c.server);
    c.listenTCP(tlsFactory(options, tlsFactory(options, factoryOf(c.ours), c.reactor), c.reactor), "Echo",
                c.theirClient() + " layers=2");
  } else {
    const std::uint16_t port = c.peer.listen("listenTLS Echo" + c.theirServer() + " layers=2");
    TLSOptions options = optionsForClientTLS("localhost", c.client);
    std::shared_ptr<ClientFactory> factory = std::make_shared<RecorderClientFactory>(c.ours);
    factory = tlsFactory(options, tlsFactory(options, factory, c.reactor), c.reactor);
    c.reactor.connectTCP("127.0.0.1", port, factory);
    CHECK(c.peer.hear() == "made");
  }
  runUntil(c.reactor, [&] { return c.ours->shaken; });
  const std::string text(300'000, 'i');
  c.ours->transport().write(text);
  runUntil(c.reactor, [&] { return c.ours->received.size() == text.size(); });
  CHECK(c.ours->received == text);
  CHECK(c.peer.hear().starts_with("handshake - "));
  c.ours->transport().loseConnection();
  CHECK(c.ourLoss() == "ConnectionDone");
  CHECK(c.peer.hear() == "lost ConnectionDone " + sum(text));
}
