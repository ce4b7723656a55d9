// Stands in for TCP and names until they are there.
#include <stdexcept>

#include <reactor/reactor.hpp>

namespace torsion {

std::shared_ptr<ListeningPort> Reactor::listenTCP(std::uint16_t, std::shared_ptr<Factory>, int, const std::string&) {
  throw std::logic_error("listenTCP is not there yet");
}

std::shared_ptr<Connector> Reactor::connectTCP(const std::string&, std::uint16_t, std::shared_ptr<ClientFactory>,
                                               Duration, const std::string&) {
  throw std::logic_error("connectTCP is not there yet");
}

Deferred<std::vector<Address>> Reactor::resolve(const std::string&) {
  throw std::logic_error("resolve is not there yet");
}

}  // namespace torsion
