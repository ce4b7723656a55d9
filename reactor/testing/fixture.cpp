#include <reactor/testing/fixture.hpp>

#include <chrono>
#include <cstdio>
#include <typeinfo>

#include <reactor/address.hpp>
#include <reactor/testing/assertions.hpp>

namespace torsion {

namespace {

std::string at(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

std::string seconds(Duration duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(duration).count());
  return text;
}

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
  for (const LogEvent& event : log.events()) {
    if (event.failure) {
      problems.push_back("an error was logged: " + event.text() + "\n" + event.failure->getTraceback());
    }
  }
  log.flushLoggedErrors();
  for (const DelayedCall& call : reactor.getDelayedCalls()) {
    problems.push_back("a call was left, due in " + seconds(call.getTime() - reactor.seconds()) + ", scheduled at " +
                       at(call.where()));
  }
  for (const auto& client : reactor.tcpClients()) {
    problems.push_back("an attempt to connect was left: to " + client.host + ":" + std::to_string(client.port));
  }
  for (const auto& pump : reactor.connections()) problems.push_back(describeConnection(*pump));
  for (const auto& [pump, where] : pumps_) {
    if (pump->connected()) problems.push_back(describeConnection(*pump) + ", made at " + at(where));
  }
  return problems;
}

}  // namespace torsion
