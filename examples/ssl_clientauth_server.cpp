// Echo over TLS for clients that show a certificate of the authority in public.pem.
// Usage: ssl_clientauth_server [PORT [PEM [AUTHORITY]]]
#include <iostream>

#include <examples/arguments.hpp>
#include <protocols/wire.hpp>
#include <reactor/reactor.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  TLSOptions options = optionsForServerTLS({
      .certificate = argument(argc, argv, 2, "server.pem"),
      .trustRoots = argument(argc, argv, 3, "public.pem"),
  });
  auto port = reactor().listenSSL(portArgument(argc, argv, 1, 8000), forProtocol<Echo>(), options);
  std::cout << "listening on " << describe(port->getHost()) << std::endl;
  reactor().run();
}
