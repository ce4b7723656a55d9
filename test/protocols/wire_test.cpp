#include <protocols/wire.hpp>

#include <ctime>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/pump.hpp>

using namespace torsion;

namespace {

template <class P>
struct Served {
  std::shared_ptr<AccumulatingProtocol> client = std::make_shared<AccumulatingProtocol>();
  IOPump pump{client, std::make_shared<P>()};
  bool closed() const { return client->closed() && client->closedReason->check<ConnectionDone>(); }
};

}  // namespace

TEST_CASE("Echo: all comes back") {
  Served<Echo> t;
  t.client->transport().write("hello");
  t.pump.flush();
  CHECK(t.client->data == "hello");
  t.client->transport().loseConnection();
  t.pump.flush();
  CHECK(t.closed());
}

TEST_CASE("Echo: reads no faster than its peer") {
  Served<Echo> t;
  t.client->transport().pauseProducing();
  for (int i = 0; i < 100; ++i) {
    t.client->transport().write(std::string(10000, 'x'));
    t.pump.flush();
  }
  CHECK(t.pump.serverIO().paused());
  CHECK(t.pump.serverIO().queued() < 200000);
  t.client->transport().resumeProducing();
  t.pump.flush();
  CHECK(t.client->data.size() == 1000000);
  CHECK_FALSE(t.pump.serverIO().paused());
  t.client->transport().loseConnection();
  t.pump.flush();
}

TEST_CASE("Discard: nothing comes back") {
  Served<Discard> t;
  t.client->transport().write("hello");
  t.pump.flush();
  CHECK(t.client->data.empty());
  t.client->transport().loseConnection();
  t.pump.flush();
  CHECK(t.closed());
}

TEST_CASE("Chargen: sends while the peer reads") {
  Served<Chargen> t;
  for (int i = 0; i < 10; ++i) t.pump.pump();
  const std::size_t got = t.client->data.size();
  CHECK(got > 300);
  CHECK(t.client->data.starts_with("@ABC"));
  t.client->transport().pauseProducing();
  t.pump.flush();
  CHECK(t.client->data.size() == got);
  CHECK(t.pump.serverIO().queued() < 1000);
  t.client->transport().abortConnection();
  t.pump.flush();
}

TEST_CASE("QOTD: a quote") {
  struct Wise : QOTD {
    std::string getQuote() override { return "Less is more.\r\n"; }
  };
  Served<QOTD> usual;
  usual.pump.flush();
  CHECK(usual.client->data == "An apple a day keeps the doctor away.\r\n");
  CHECK(usual.closed());
  Served<Wise> wise;
  wise.pump.flush();
  CHECK(wise.client->data == "Less is more.\r\n");
}

TEST_CASE("Daytime: now, as C's asctime has it") {
  const std::time_t before = std::time(nullptr);
  Served<Daytime> t;
  t.pump.flush();
  CHECK(t.closed());
  std::tm fields{};
  REQUIRE(::strptime(t.client->data.c_str(), "%a %b %d %H:%M:%S %Y\r\n", &fields) != nullptr);
  const std::time_t said = ::timegm(&fields);
  CHECK(said >= before);
  CHECK(said <= std::time(nullptr));
}
