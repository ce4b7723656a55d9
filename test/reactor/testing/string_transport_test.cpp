#include <reactor/testing/string_transport.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/protocol.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>

using namespace torsion;

namespace {

struct NullProducer final : Producer {
  void pauseProducing() override {}
  void resumeProducing() override {}
  void stopProducing() override {}
};

using State = StringTransport::ProducerState;

}  // namespace

TEST_CASE("StringTransport: value is what was written, until clear") {
  StringTransport transport;
  CHECK(transport.value() == "");
  transport.write("ab");
  const std::string_view pieces[] = {"c", "d"};
  transport.writeSequence(pieces);
  CHECK(transport.value() == "abcd");
  transport.clear();
  transport.write("e");
  CHECK(transport.value() == "e");
}

TEST_CASE("StringTransport::registerProducer records its arguments") {
  StringTransport transport;
  NullProducer producer;
  CHECK(transport.producer() == nullptr);
  transport.registerProducer(producer, true);
  CHECK(transport.producer() == &producer);
  CHECK(transport.streaming());
}

TEST_CASE("StringTransport::registerProducer throws if a producer is registered") {
  StringTransport transport;
  NullProducer producer, other;
  transport.registerProducer(producer, true);
  CHECK_THROWS_AS(transport.registerProducer(other, false), std::logic_error);
  CHECK(transport.producer() == &producer);
  CHECK(transport.streaming());
}

TEST_CASE("StringTransport::unregisterProducer makes room for another") {
  StringTransport transport;
  NullProducer producer, other;
  transport.registerProducer(producer, false);
  transport.unregisterProducer();
  CHECK(transport.producer() == nullptr);
  transport.registerProducer(other, true);
  CHECK(transport.producer() == &other);
  CHECK(transport.streaming());
}

TEST_CASE("StringTransport::unregisterProducer throws if there is none") {
  CHECK_THROWS_AS(StringTransport().unregisterProducer(), std::logic_error);
}

TEST_CASE("StringTransport::producerState follows pause, resume and stop") {
  StringTransport transport;
  CHECK(transport.producerState() == State::producing);
  transport.pauseProducing();
  CHECK(transport.producerState() == State::paused);
  transport.resumeProducing();
  CHECK(transport.producerState() == State::producing);
  transport.stopProducing();
  CHECK(transport.producerState() == State::stopped);
}

TEST_CASE("StringTransport: once stopped it cannot pause or resume") {
  StringTransport transport;
  transport.stopProducing();
  CHECK_THROWS_AS(transport.pauseProducing(), std::logic_error);
  CHECK_THROWS_AS(transport.resumeProducing(), std::logic_error);
}

TEST_CASE("StringTransport: while disconnecting it cannot pause or resume, unless it is lenient") {
  StringTransport transport;
  transport.loseConnection();
  CHECK_THROWS_AS(transport.pauseProducing(), std::logic_error);
  CHECK_THROWS_AS(transport.resumeProducing(), std::logic_error);

  StringTransport lenient({}, {}, true);
  lenient.loseConnection();
  lenient.pauseProducing();
  CHECK(lenient.producerState() == State::paused);
  lenient.resumeProducing();
  CHECK(lenient.producerState() == State::producing);
}

TEST_CASE("StringTransport: loseConnection and abortConnection are recorded") {
  StringTransport transport;
  CHECK_FALSE(transport.disconnecting());
  transport.loseConnection();
  CHECK(transport.disconnecting());
  CHECK_FALSE(transport.disconnected());
  transport.abortConnection();
  CHECK(transport.disconnected());

  StringTransport half;
  half.loseWriteConnection();
  CHECK(half.writeDisconnecting());
  CHECK_FALSE(half.disconnecting());
}

TEST_CASE("StringTransport: what is written after the end is ignored, as by a real transport") {
  StringTransport transport;
  NullProducer producer;
  transport.registerProducer(producer, true);
  transport.loseConnection();
  transport.write("from the producer");
  transport.unregisterProducer();
  transport.write("late");
  CHECK(transport.value() == "from the producer");

  StringTransport half;
  half.loseWriteConnection();
  half.write("late");
  CHECK(half.value() == "");
}

TEST_CASE("StringTransport: addresses, given and by default") {
  const Address address = UNIXAddress{"/x"};
  CHECK(StringTransport(address).getHost() == address);
  CHECK(StringTransport({}, address).getPeer() == address);
  CHECK(StringTransport().getHost() == Address(IPv4Address{"10.0.0.1", 12345}));
  CHECK(StringTransport().getPeer() == Address(IPv4Address{"192.168.1.1", 54321}));
}

TEST_CASE("StringTransport::drained fires at once") {
  StringTransport transport;
  successResultOf(transport.drained());
}

TEST_CASE("StringTransport: transport and protocol on the stack, either going first") {
  {
    AccumulatingProtocol protocol;
    StringTransport transport;
    protocol.makeConnection(transport);
    CHECK(protocol.made);
    CHECK(protocol.connected());
    protocol.transport().write("x");
    CHECK(transport.value() == "x");
  }
  StringTransport transport;
  {
    AccumulatingProtocol protocol;
    protocol.makeConnection(transport);
  }
  CHECK(transport.protocol() == nullptr);
}

TEST_CASE("StringTransport: keeps a protocol that nobody else keeps") {
  StringTransport transport;
  std::make_shared<AccumulatingProtocol>()->makeConnection(transport);
  REQUIRE(transport.protocol() != nullptr);
  transport.protocol()->dataReceived("x");
  CHECK(static_cast<AccumulatingProtocol*>(transport.protocol())->data == "x");
}

TEST_CASE("StringTransportWithDisconnection: loseConnection calls connectionLost with ConnectionDone, once") {
  auto protocol = std::make_shared<AccumulatingProtocol>();
  StringTransportWithDisconnection transport;
  protocol->makeConnection(transport);
  protocol->transport().loseConnection();
  REQUIRE(protocol->closed());
  CHECK(protocol->closedReason->check<ConnectionDone>());
  CHECK_FALSE(protocol->connected());
  protocol->closedReason.reset();
  transport.loseConnection();
  CHECK_FALSE(protocol->closed());
}

TEST_CASE("StringTransportWithDisconnection: abortConnection calls connectionLost with ConnectionAborted") {
  auto protocol = std::make_shared<AccumulatingProtocol>();
  StringTransportWithDisconnection transport;
  protocol->makeConnection(transport);
  transport.abortConnection();
  REQUIRE(protocol->closed());
  CHECK(protocol->closedReason->check<ConnectionAborted>());
}

TEST_CASE("StringTransportWithDisconnection: a protocol that only the transport keeps survives its connectionLost") {
  struct Probe final : Protocol {
    explicit Probe(std::string& log) : log(log) {}
    void connectionLost(const Failure&) override { log += member; }
    std::string& log;
    std::string member = "alive";
  };
  std::string log;
  StringTransportWithDisconnection transport;
  std::make_shared<Probe>(log)->makeConnection(transport);
  transport.loseConnection();
  CHECK(log == "alive");
  CHECK(transport.protocol() == nullptr);
}
