// Step 3: drops connections.
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct FingerProtocol : Protocol {
  void connectionMade() override { transport().loseConnection(); }
};

int main() {
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>());
  reactor().run();
}
