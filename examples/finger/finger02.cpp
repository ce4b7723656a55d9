// Step 2: accepts connections, and does nothing with them.
#include <reactor/endpoint_strings.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct FingerProtocol : Protocol {};

int main() {
  serverFromString(reactor(), "tcp:1079")->listen(forProtocol<FingerProtocol>());
  reactor().run();
}
