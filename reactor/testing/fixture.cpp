#include <reactor/testing/fixture.hpp>

#include <typeinfo>

#include <reactor/address.hpp>
#include <reactor/detail/report.hpp>
#include <reactor/testing/assertions.hpp>

namespace torsion {

namespace {

std::string endOf(FakeTransport& transport) {
  Protocol* protocol = transport.protocol();
  return describe(transport.getHost()) + (protocol ? " (" + detail::typeName(typeid(*protocol)) + ")" : "");
}

std::string describeConnection(IOPump& pump) {
  return "a connection was left open: " + endOf(pump.clientIO()) + " to " + endOf(pump.serverIO());
}

}  // namespace

IOPump& TestFixture::connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                             std::source_location where) {
  pumps_.emplace_back(std::make_unique<IOPump>(std::move(client), std::move(server)), where);
  return *pumps_.back().first;
}

std::vector<std::string> TestFixture::finish() {
  std::vector<std::string> problems;
  for (const auto& text : log.takeErrorTexts()) problems.push_back("an error was logged: " + text);
  for (const DelayedCall& call : reactor.getDelayedCalls()) problems.push_back(detail::describeLeft(call, reactor));
  for (const auto& client : reactor.tcpClients()) {
    problems.push_back("an attempt to connect was left: to " + client.host + ":" + std::to_string(client.port));
  }
  for (const auto& client : reactor.unixClients()) {
    problems.push_back("an attempt to connect was left: to " + describe(UNIXAddress{client.address}));
  }
  for (const auto& pump : reactor.connections()) problems.push_back(describeConnection(*pump));
  for (const auto& [pump, where] : pumps_) {
    if (pump->connected()) problems.push_back(describeConnection(*pump) + ", made at " + detail::at(where));
  }
  return problems;
}

}  // namespace torsion
