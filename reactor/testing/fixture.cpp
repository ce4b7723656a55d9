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

}  // namespace

IOPump& TestFixture::connect(std::shared_ptr<Protocol> client, std::shared_ptr<Protocol> server,
                             std::source_location where) {
  pumps_.push_back(reactor.connect(std::move(client), std::move(server), where));
  return *pumps_.back();
}

std::vector<std::string> TestFixture::finish() {
  std::vector<std::string> problems = cleanUp([this](const Deferred<void>&) { reactor.flush(); });
  for (const auto& text : log.takeErrorTexts()) problems.push_back("an error was logged: " + text);
  for (const DelayedCall& call : reactor.getDelayedCalls()) problems.push_back(detail::describeLeft(call, reactor));
  const auto attempt = [&](const Address& to, const std::source_location& where) {
    problems.push_back("an attempt to connect was left: to " + describe(to) + ", made at " + detail::at(where));
  };
  for (const auto& c : reactor.tcpClients()) attempt(HostnameAddress{c.host, c.port}, c.where);
  for (const auto& c : reactor.sslClients()) attempt(HostnameAddress{c.host, c.port}, c.where);
  for (const auto& c : reactor.unixClients()) attempt(UNIXAddress{c.address}, c.where);
  for (const auto& pump : reactor.connections()) {
    problems.push_back("a connection was left open: " + endOf(pump->clientIO()) + " to " + endOf(pump->serverIO()) +
                       ", made at " + detail::at(pump->where()));
  }
  return problems;
}

}  // namespace torsion
