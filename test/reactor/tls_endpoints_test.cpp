#include <reactor/tls_endpoints.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/memory_reactor.hpp>
#include <test/support/certificates.hpp>

using namespace torsion;
using namespace std::chrono_literals;
using test::testPKI;

namespace {

CertificateOptions certificateOf(const test::Issued& issued) {
  CertificateOptions options;
  options.privateKey = issued.privateKey;
  options.certificate = issued.certificate;
  return options;
}

ClientTLS trusting() {
  ClientTLS options;
  options.trustRoots = testPKI().authority.certificate;
  return options;
}

}  // namespace

TEST_CASE("SSL4ServerEndpoint and SSL4ClientEndpoint speak TLS with each other") {
  MemoryReactor reactor;
  auto server = std::make_shared<AccumulatingProtocol>();
  SSL4ServerEndpoint listening(443, optionsForServerTLS(certificateOf(testPKI().localhost)), "10.0.0.5", reactor, 7);
  auto port = successResultOf(listening.listen(makeFactory([&] { return server; })));
  CHECK(port->getHost() == Address(IPv4Address{"10.0.0.5", 443}));
  CHECK(reactor.tcpServers()[0].backlog == 7);
  failureResultOf<CannotListenError>(listening.listen(forProtocol<AccumulatingProtocol>()));

  SSL4ClientEndpoint connecting("10.0.0.5", 443, optionsForClientTLS("localhost", trusting()), reactor, 7s, "10.0.0.9");
  auto d = connecting.connect(forProtocol<AccumulatingProtocol>());
  REQUIRE(reactor.tcpClients().size() == 1);
  CHECK(reactor.tcpClients()[0].timeout == 7s);
  CHECK(reactor.tcpClients()[0].bindAddress == "10.0.0.9");
  reactor.flush();
  auto client = successResultOf(d);
  REQUIRE(TLSTransport::from(client->transport()));
  client->transport().write("hello");
  reactor.flush();
  CHECK(server->data == "hello");
  CHECK(TLSTransport::from(client->transport())->protocolVersion() == "TLSv1.3");
  client->transport().loseConnection();
  reactor.flush();
  CHECK(server->closed());
}

TEST_CASE("SSL4ClientEndpoint: another's certificate arrives at connectionLost") {
  MemoryReactor reactor;
  SSL4ServerEndpoint listening(443, optionsForServerTLS(certificateOf(testPKI().wrongName)), "", reactor);
  successResultOf(listening.listen(forProtocol<AccumulatingProtocol>()));
  SSL4ClientEndpoint connecting("10.0.0.5", 443, optionsForClientTLS("localhost", trusting()), reactor);
  auto mine = std::make_shared<AccumulatingProtocol>();
  auto d = connectProtocol(connecting, mine);
  reactor.flush();
  CHECK(successResultOf(d) == mine);
  REQUIRE(mine->closed());
  CHECK(mine->closedReason->check<VerifyError>());
}

TEST_CASE("SSL4ClientEndpoint fails and is cancelled as TCP is") {
  MemoryReactor reactor;
  SSL4ClientEndpoint connecting("10.0.0.5", 443, optionsForClientTLS("localhost", trusting()), reactor);
  auto refused = connecting.connect(forProtocol<AccumulatingProtocol>());
  reactor.flush();
  failureResultOf<ConnectionRefusedError>(refused);
  auto cancelled = connecting.connect(forProtocol<AccumulatingProtocol>());
  cancelled.cancel();
  failureResultOf<ConnectingCancelledError>(cancelled);
}
