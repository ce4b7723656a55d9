#include <protocols/testing/line_sending_protocol.hpp>

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/error.hpp>
#include <reactor/testing/pump.hpp>

using namespace torsion;

namespace {

using Lines = std::vector<std::string>;

struct Greeting final : LineReceiver {
  void connectionMade() override { sendLine("ready"); }
  void lineReceived(std::string_view line) override {
    sendLine("got " + std::string(line));
    if (line == "QUIT") transport().loseConnection();
  }
};

}  // namespace

TEST_CASE("LineSendingProtocol: sends its lines at once, and keeps the answers") {
  auto client = std::make_shared<LineSendingProtocol>(Lines{"HELO", "QUIT"});
  IOPump pump(client, std::make_shared<Greeting>());
  pump.setPieceSize(1);
  CHECK(pump.clientIO().queued() == 12);
  pump.flush();
  CHECK(client->response == Lines{"ready", "got HELO", "got QUIT"});
  CHECK(client->lostConn());
  CHECK(client->closedReason->check<ConnectionDone>());
}

TEST_CASE("LineSendingProtocol: waits for the first line if told to") {
  auto client = std::make_shared<LineSendingProtocol>(Lines{"QUIT"}, false);
  IOPump pump(client, std::make_shared<Greeting>());
  CHECK(pump.clientIO().queued() == 0);
  CHECK_FALSE(client->lostConn());
  pump.flush();
  CHECK(client->response == Lines{"ready", "got QUIT"});
}
