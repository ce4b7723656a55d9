// TLS against OpenSSL's own server and client, over sockets.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using test::OpenSSLServer;
using test::testPKI;

namespace {

/// Stops its reactor when it has lost its connection.
struct Talk : Protocol {
  explicit Talk(Reactor& reactor) : reactor(reactor) {}
  Reactor& reactor;
  std::string say, received, endsWith;
  std::string version, protocol, peer;
  bool reused = false;
  std::optional<Failure> lost;
  std::function<void()> onData;

  void connectionMade() override { transport().write(say); }
  void dataReceived(std::string_view data) override {
    received += data;
    if (TLSTransport* tls = TLSTransport::from(transport())) {
      version = tls->protocolVersion();
      protocol = tls->negotiatedProtocol();
      reused = tls->sessionReused();
      if (auto certificate = tls->getPeerCertificate()) peer = certificate->subject;
    }
    if (onData) onData();
    if (!endsWith.empty() && received.ends_with(endsWith)) transport().loseConnection();
  }
  void connectionLost(const Failure& reason) override {
    lost = reason;
    if (reactor.running()) reactor.stop();
  }
  template <class E>
  std::string lostTo() const {
    if (!lost) return "not lost";
    return (lost->check<E>() ? "" : "another error: ") + lost->getErrorMessage();
  }
  bool lostCleanly() const { return lost && lost->check<ConnectionDone>(); }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

void runUntilStopped(Reactor& reactor) {
  bool tooLong = false;
  DelayedCall limit = reactor.callLater(60s, [&] {
    tooLong = true;
    reactor.stop();
  });
  reactor.run(false);
  CHECK_FALSE(tooLong);
  if (limit.active()) limit.cancel();
}

ClientTLS trusting() {
  return {.trustRoots = testPKI().authority.certificate};
}

void connect(Reactor& reactor, const TLSOptions& options, std::uint16_t port, std::shared_ptr<Talk> talk) {
  auto endpoint = wrapClientTLS(options, std::make_shared<TCP4ClientEndpoint>("127.0.0.1", port, reactor), reactor);
  std::shared_ptr<Protocol> connected;
  connectProtocol(*endpoint, talk)
      .addCallback([&, talk](std::shared_ptr<Talk> connected) { CHECK(connected == talk); })
      .addErrback([&](const Failure& failure) {
        FAIL_CHECK(failure.getErrorMessage());
        reactor.stop();
      });
  runUntilStopped(reactor);
}

}  // namespace

TEST_CASE("TLS: our client with openssl s_server") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "hello\n";
  talk->endsWith = "olleh\n";
  std::vector<std::string> arguments{"-rev", "-alpn", "h2,http/1.1"};
  std::string version = "TLSv1.3";
  SUBCASE("TLS 1.3") {}
  SUBCASE("TLS 1.2") {
    arguments.push_back("-tls1_2");
    version = "TLSv1.2";
  }
  OpenSSLServer server(testPKI().localhost, arguments);
  ClientTLS options = trusting();
  options.acceptableProtocols = {"http/1.1"};
  connect(reactor, optionsForClientTLS("localhost", options), server.port(), talk);
  CHECK(talk->received == "olleh\n");
  CHECK(talk->version == version);
  CHECK(talk->protocol == "http/1.1");
  CHECK(talk->peer == "CN=localhost");
  CHECK(talk->lostCleanly());
}

TEST_CASE("TLS: our client takes a megabyte from openssl s_server") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "GET /page HTTP/1.0\r\n\r\n";
  std::string page(1'000'000, 'p');
  OpenSSLServer server(testPKI().localhost, {"-WWW"}, {{"page", page}});
  connect(reactor, optionsForClientTLS("127.0.0.1", trusting()), server.port(), talk);
  CHECK(talk->received.ends_with(page));
  CHECK(talk->lostCleanly());
}

TEST_CASE("TLS: our client refuses an openssl s_server that it cannot trust") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "the secret\n";
  const test::Issued* shown = &testPKI().localhost;
  std::string hostname = "localhost", text;
  SUBCASE("expired") {
    shown = &testPKI().expired;
    text = "expired on";
  }
  SUBCASE("self-signed") {
    shown = &testPKI().selfSigned;
    text = "self-signed";
  }
  SUBCASE("wrong name") {
    shown = &testPKI().wrongName;
    text = "not for \"localhost\"";
  }
  SUBCASE("wrong address") {
    shown = &testPKI().wrongName;
    hostname = "127.0.0.1";
    text = "not for \"127.0.0.1\"";
  }
  OpenSSLServer server(*shown, {"-rev"});
  connect(reactor, optionsForClientTLS(hostname, trusting()), server.port(), talk);
  CHECK(has(talk->lostTo<VerifyError>(), text));
  CHECK(talk->received.empty());
  CHECK_FALSE(has(server.process().output(), "the secret"));
}

TEST_CASE("TLS: openssl s_server refuses our client") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "hello\n";
  talk->endsWith = "\n";
  ClientTLS options = trusting();
  test::TemporaryDirectory directory;
  std::string authority = directory.write("authority.pem", testPKI().authority.certificate);
  SUBCASE("for want of a certificate") {
    OpenSSLServer server(testPKI().localhost, {"-rev", "-Verify", "1", "-verify_return_error", "-CAfile", authority});
    connect(reactor, optionsForClientTLS("localhost", options), server.port(), talk);
    CHECK(has(talk->lostTo<SSLError>(), "wants a certificate of this side"));
  }
  SUBCASE("not if it shows a good one") {
    options.clientCertificate = {testPKI().client.certificate, testPKI().client.privateKey};
    OpenSSLServer server(testPKI().localhost, {"-rev", "-Verify", "1", "-verify_return_error", "-CAfile", authority});
    connect(reactor, optionsForClientTLS("localhost", options), server.port(), talk);
    CHECK(talk->received == "olleh\n");
    CHECK(talk->lostCleanly());
  }
  SUBCASE("as it speaks only an old version of TLS") {
    OpenSSLServer server(testPKI().localhost, {"-rev", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"});
    connect(reactor, optionsForClientTLS("localhost", options), server.port(), talk);
    CHECK(has(talk->lostTo<SSLError>(), "version"));
  }
}

TEST_CASE("TLS: our server with openssl s_client") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "welcome\n";
  talk->endsWith = "hello\n";
  auto port = reactor.listenTCP(0,
                                tlsFactory(optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                                                .certificate = testPKI().localhost.certificate,
                                                                .acceptableProtocols = {"http/1.1"}}),
                                           makeFactory([&] { return talk; }), reactor),
                                50, "127.0.0.1");
  test::TemporaryDirectory directory;
  std::vector<std::string> command{"openssl", "s_client", "-quiet", "-verify_return_error", "-servername", "localhost"};
  command.insert(command.end(),
                 {"-connect", "127.0.0.1:" + std::to_string(std::get<IPv4Address>(port->getHost()).port)});
  command.insert(command.end(), {"-CAfile", directory.write("authority.pem", testPKI().authority.certificate)});
  SUBCASE("TLS 1.3") {
    command.insert(command.end(), {"-verify_hostname", "localhost", "-alpn", "h2,http/1.1"});
    test::Process client(command, "hello\n");
    runUntilStopped(reactor);
    CHECK(client.wait() == 0);
    CHECK(has(client.output(), "welcome"));
    CHECK(talk->version == "TLSv1.3");
    CHECK(talk->protocol == "http/1.1");
    CHECK(talk->received == "hello\n");
    CHECK(talk->lostCleanly());
  }
  SUBCASE("TLS 1.2") {
    command.push_back("-tls1_2");
    test::Process client(command, "hello\n");
    runUntilStopped(reactor);
    CHECK(client.wait() == 0);
    CHECK(talk->version == "TLSv1.2");
    CHECK(talk->lostCleanly());
  }
  SUBCASE("that wants another name") {
    command.insert(command.end(), {"-verify_hostname", "other.example"});
    test::Process client(command, "hello\n");
    runUntilStopped(reactor);
    CHECK(client.wait() != 0);
    CHECK(has(talk->lostTo<SSLError>(), "does not accept the certificate of this side"));
  }
  SUBCASE("that speaks only an old version of TLS") {
    command.insert(command.end(), {"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"});
    test::Process client(command, "hello\n");
    runUntilStopped(reactor);
    CHECK(has(talk->lostTo<SSLError>(), "unsupported protocol"));
  }
  SUBCASE("that is killed") {
    auto client = std::make_unique<test::Process>(command, "something else\n");
    talk->onData = [&] { client.reset(); };
    runUntilStopped(reactor);
    // Truncated, or reset if the killed process left bytes unread.
    CHECK_MESSAGE(!has(talk->lostTo<ConnectionLost>(), "another error"), talk->lostTo<ConnectionLost>());
    CHECK(talk->lost);
  }
  port->stopListening();
}

TEST_CASE("TLS: startTLS with openssl s_client, as a mail server") {
  Reactor reactor;
  auto talk = std::make_shared<Talk>(reactor);
  talk->say = "220 mail.example ESMTP\r\n";
  talk->endsWith = "hello\n";
  auto options = optionsForServerTLS(
      {.privateKey = testPKI().localhost.privateKey, .certificate = testPKI().localhost.certificate});
  talk->onData = [&, me = talk.get()] {
    if (!me->received.ends_with("\r\n")) return;
    bool start = me->received == "STARTTLS\r\n";
    me->transport().write(start ? "220 go ahead\r\n" : "250-mail.example\r\n250 STARTTLS\r\n");
    me->received.clear();
    if (start) startTLS(*me, options, reactor);
  };
  auto port = reactor.listenTCP(0, makeFactory([&] { return talk; }), 50, "127.0.0.1");
  test::TemporaryDirectory directory;
  test::Process client({"openssl", "s_client", "-quiet", "-starttls", "smtp", "-verify_return_error", "-CAfile",
                        directory.write("authority.pem", testPKI().authority.certificate), "-connect",
                        "127.0.0.1:" + std::to_string(std::get<IPv4Address>(port->getHost()).port)},
                       "hello\n");
  runUntilStopped(reactor);
  CHECK(client.wait() == 0);
  CHECK(talk->received == "hello\n");
  CHECK(talk->version == "TLSv1.3");
  CHECK(talk->lostCleanly());
  port->stopListening();
}

TEST_CASE("TLS: sessions are resumed with openssl s_server, and by openssl s_client") {
  std::string version;
  SUBCASE("TLS 1.3") {
    version = "-tls1_3";
  }
  SUBCASE("TLS 1.2") {
    version = "-tls1_2";
  }
  SUBCASE("TLS 1.2 without tickets, by the session's number") {
    OpenSSLServer server(testPKI().localhost, {"-rev", "-tls1_2", "-no_ticket"});
    TLSOptions options = optionsForClientTLS("localhost", trusting());
    for (bool expected : {false, true, true}) {
      Reactor reactor;
      auto talk = std::make_shared<Talk>(reactor);
      talk->say = "hello\n";
      talk->endsWith = "olleh\n";
      connect(reactor, options, server.port(), talk);
      CHECK(talk->reused == expected);
    }
    return;
  }
  {
    OpenSSLServer server(testPKI().localhost, {"-rev", version});
    TLSOptions options = optionsForClientTLS("localhost", trusting());
    for (bool expected : {false, true, true}) {
      Reactor reactor;
      auto talk = std::make_shared<Talk>(reactor);
      talk->say = "hello\n";
      talk->endsWith = "olleh\n";
      connect(reactor, options, server.port(), talk);
      CHECK(talk->received == "olleh\n");
      CHECK(talk->reused == expected);
      CHECK(talk->lostCleanly());
    }
  }
  Reactor reactor;
  std::shared_ptr<Talk> talk;
  TLSOptions options = optionsForServerTLS(
      {.privateKey = testPKI().localhost.privateKey, .certificate = testPKI().localhost.certificate});
  test::TemporaryDirectory directory;
  std::string session = directory.path() + "/session";
  for (const char* use : {"-sess_out", "-sess_in"}) {
    // Anew: a reactor that has stopped has closed its ports.
    auto port = reactor.listenSSL(0, makeFactory([&] { return talk; }), options, 50, "127.0.0.1");
    talk = std::make_shared<Talk>(reactor);
    talk->say = "welcome\n";
    talk->endsWith = "hello\n";
    test::Process client({"openssl", "s_client", "-quiet", version, use, session, "-servername", "localhost",
                          "-connect", "127.0.0.1:" + std::to_string(std::get<IPv4Address>(port->getHost()).port)},
                         "hello\n");
    runUntilStopped(reactor);
    CHECK(client.wait() == 0);
    CHECK(talk->reused == (use == std::string("-sess_in")));
    CHECK(talk->lostCleanly());
  }
}

TEST_CASE("TLS: listenSSL and connectSSL") {
  Reactor reactor;
  auto server = std::make_shared<Talk>(reactor), client = std::make_shared<Talk>(reactor);
  server->onData = [me = server.get()] { me->transport().write(me->received); };
  client->say = "hello";
  client->endsWith = "hello";
  struct One : ClientFactory {
    std::shared_ptr<Talk> talk;
    std::shared_ptr<Protocol> buildProtocol(const Address&) override { return talk; }
  };
  auto factory = std::make_shared<One>();
  factory->talk = client;
  auto port = reactor.listenSSL(0, makeFactory([&] { return server; }),
                                optionsForServerTLS({.privateKey = testPKI().localhost.privateKey,
                                                     .certificate = testPKI().localhost.certificate}),
                                50, "127.0.0.1");
  reactor.connectSSL("127.0.0.1", std::get<IPv4Address>(port->getHost()).port, factory,
                     optionsForClientTLS("localhost", trusting()));
  runUntilStopped(reactor);
  CHECK(client->received == "hello");
  CHECK(client->peer == "CN=localhost");
  port->stopListening();
}
