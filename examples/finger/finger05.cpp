// Step 5: reads the name of a user, and answers that there is none.
#include <string_view>

#include <protocols/basic.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct FingerProtocol : LineReceiver {
  void lineReceived(std::string_view) override {
    sendLine("No such user");
    transport().loseConnection();
  }
};

int main() {
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>());
  reactor().run();
}
