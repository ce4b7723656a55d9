// Step 1: runs the reactor, and refuses connections.
#include <reactor/reactor.hpp>

using namespace torsion;

int main() {
  reactor().run();
}
