#include <reactor/testing/wait_until_all_disconnected.hpp>

#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/errors.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/pump.hpp>

using namespace torsion;

TEST_CASE("waitUntilAllDisconnected: fires when the last has gone") {
  auto a = std::make_shared<AccumulatingProtocol>(), b = std::make_shared<AccumulatingProtocol>(),
       c = std::make_shared<AccumulatingProtocol>(), d = std::make_shared<AccumulatingProtocol>();
  IOPump first(a, b), second(c, d);
  a->transport().loseConnection();
  first.flush();
  auto all = waitUntilAllDisconnected(std::vector{a, b, c, d});
  auto given = waitUntilAllDisconnected(std::vector{c});
  given.cancel();
  failureResultOf<CancelledError>(given);
  c->transport().abortConnection();
  assertNoResult(all);
  second.flush();
  successResultOf(all);
  successResultOf(waitUntilAllDisconnected(std::vector{a, b, c, d}));
}

TEST_CASE("waitUntilAllDisconnected: a connection that is dropped without a connectionLost") {
  auto client = std::make_shared<Protocol>();
  auto pump = std::make_unique<IOPump>(client, std::make_shared<Protocol>());
  auto all = waitUntilAllDisconnected(std::vector{client});
  client.reset();
  pump.reset();
  successResultOf(all);
}
