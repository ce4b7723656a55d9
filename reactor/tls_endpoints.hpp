// Endpoints that speak TLS over TCP from the start. See also wrapClientTLS of reactor/tls.hpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <utility>

#include <deferred/deferred.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/tls.hpp>

namespace torsion {

/// A TLS server. Fails as TCP4ServerEndpoint.
///   SSL4ServerEndpoint(443, optionsForServerTLS({.certificate = "server.pem"})).listen(factory);
class SSL4ServerEndpoint final : public StreamServerEndpoint {
 public:
  SSL4ServerEndpoint(PortNumber port, TLSOptions options, std::string interface = {},
                     NetworkReactor& reactor = torsion::reactor(), int backlog = 50)
      : reactor_(reactor), tcp_(port, std::move(interface), reactor, backlog), options_(std::move(options)) {}
  Deferred<std::shared_ptr<ListeningPort>> listen(
      std::shared_ptr<Factory> factory, std::source_location where = std::source_location::current()) override {
    return tcp_.listen(tlsFactory(options_, std::move(factory), reactor_), where);
  }

 private:
  NetworkReactor& reactor_;
  TCP4ServerEndpoint tcp_;
  TLSOptions options_;
};

/// A TLS client, which connects as TCP4ClientEndpoint does and expects the server to be `options.hostname()`. connect()
/// fires before the handshake: a VerifyError arrives at connectionLost.
class SSL4ClientEndpoint final : public StreamClientEndpoint {
 public:
  SSL4ClientEndpoint(std::string host, PortNumber port, TLSOptions options,
                     NetworkReactor& reactor = torsion::reactor(), Duration timeout = std::chrono::seconds(30),
                     std::string bindAddress = {})
      : wrapped_(wrapClientTLS(
            std::move(options),
            std::make_shared<TCP4ClientEndpoint>(std::move(host), port, reactor, timeout, std::move(bindAddress)),
            reactor)) {}
  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override {
    return wrapped_->connect(std::move(factory), where);
  }

 private:
  std::shared_ptr<StreamClientEndpoint> wrapped_;
};

}  // namespace torsion
