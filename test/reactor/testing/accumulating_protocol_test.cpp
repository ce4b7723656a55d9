#include <reactor/testing/accumulating_protocol.hpp>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/string_transport.hpp>

using namespace torsion;

TEST_CASE("AccumulatingProtocol keeps what happens to it") {
  AccumulatingProtocol protocol;
  CHECK_FALSE(protocol.made);
  StringTransport transport;
  protocol.makeConnection(transport);
  CHECK(protocol.made);
  protocol.dataReceived("a");
  protocol.dataReceived("bc");
  CHECK(protocol.data == "abc");

  auto closed = protocol.whenClosed();
  assertNoResult(closed);
  CHECK_FALSE(protocol.closed());
  protocol.connectionLost(ConnectionDone());
  CHECK(protocol.closedReason->check<ConnectionDone>());
  successResultOf(closed);
  successResultOf(protocol.whenClosed());
}
