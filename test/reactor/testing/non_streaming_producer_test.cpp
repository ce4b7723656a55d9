#include <reactor/testing/non_streaming_producer.hpp>

#include <memory>
#include <stdexcept>

#include <doctest/doctest.h>

#include <reactor/error.hpp>

#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/pump.hpp>

using namespace torsion;

TEST_CASE("NonStreamingProducer: ten pieces, as they are asked for") {
  auto client = std::make_shared<AccumulatingProtocol>(), server = std::make_shared<AccumulatingProtocol>();
  IOPump pump(client, server);
  NonStreamingProducer producer(client->transport());
  auto result = producer.result();
  client->transport().registerProducer(producer, false);
  CHECK(producer.counter() == 1);
  client->transport().loseConnection();
  assertNoResult(result);
  pump.flush();
  successResultOf(result);
  CHECK(server->data == "0123456789");
  CHECK(client->closedReason->check<ConnectionDone>());
  CHECK_FALSE(producer.stopped());
  CHECK_THROWS_AS(producer.resumeProducing(), std::logic_error);
  CHECK_THROWS_AS(producer.pauseProducing(), std::logic_error);
}

TEST_CASE("NonStreamingProducer: stopped when the connection is lost") {
  auto client = std::make_shared<AccumulatingProtocol>();
  IOPump pump(client, std::make_shared<AccumulatingProtocol>());
  NonStreamingProducer producer(client->transport());
  auto result = producer.result();
  client->transport().registerProducer(producer, false);
  client->transport().abortConnection();
  pump.flush();
  CHECK(producer.stopped());
  successResultOf(result);
}
