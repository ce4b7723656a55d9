#include <reactor/transport.hpp>

#include <doctest/doctest.h>

#include <string_view>
#include <variant>

#include <reactor/error.hpp>

using namespace torsion;

TEST_CASE("the inert transport does nothing, is nowhere, and tells producers and waiters so") {
  Transport& inert = Transport::inert();
  const std::string_view pieces[] = {"a", "b"};
  inert.write("x");
  inert.writeSequence(pieces);
  inert.loseConnection();
  inert.loseConnection(ConnectionLost());
  inert.loseWriteConnection();
  inert.abortConnection();
  inert.pauseProducing();
  inert.resumeProducing();
  inert.setWriteLimit(1);
  inert.setTcpNoDelay(true);
  CHECK_FALSE(inert.getTcpNoDelay());
  CHECK(inert.disconnecting());
  CHECK(std::holds_alternative<std::monostate>(inert.getPeer()));
  CHECK(std::holds_alternative<std::monostate>(inert.getHost()));
  CHECK(inert.protocol() == nullptr);

  struct : Producer {
    void pauseProducing() override {}
    void resumeProducing() override {}
    void stopProducing() override { ++stopped; }
    int stopped = 0;
  } producer;
  inert.registerProducer(producer, true);
  inert.registerProducer(producer, false);
  CHECK(producer.stopped == 2);
  inert.unregisterProducer();

  bool failed = false;
  inert.drained().addErrback([&](const ConnectionLost&) { failed = true; });
  CHECK(failed);
}
