// Forwards connections to another place (twisted.protocols.portforward).
#pragma once

#include <memory>
#include <string>

#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>

namespace torsion {

/// Connects each connection to another, made to `endpoint`, and hands on the bytes both ways:
///
///   reactor().listenTCP(8080, std::make_shared<ProxyFactory>(std::make_shared<HostnameEndpoint>("example.com", 80)));
///
/// Nothing is read before there is a connection to hand it on to; if there will be none the connection is closed, and
/// why is logged. Neither side is read faster than the other takes it. When one side ends, the other is closed after
/// what was read has been sent; an end of file ends both ways.
class ProxyFactory final : public Factory {
 public:
  explicit ProxyFactory(std::shared_ptr<StreamClientEndpoint> endpoint);
  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override;

 private:
  std::shared_ptr<StreamClientEndpoint> endpoint_;
};

}  // namespace torsion
