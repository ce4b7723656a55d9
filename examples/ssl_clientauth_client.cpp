// echoclient_ssl with a certificate of its own. Usage: ssl_clientauth_client [PORT [PEM [AUTHORITY]]]
#include <memory>

#include <examples/arguments.hpp>
#include <examples/echoclient.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    ClientTLS shown;
    shown.trustRoots = argument(argc, argv, 3, "public.pem");
    shown.clientCertificate = PrivateCertificate{.certificate = argument(argc, argv, 2, "server.pem")};
    TLSOptions options = optionsForClientTLS("example.com", shown);
    auto tcp = std::make_shared<TCP4ClientEndpoint>("127.0.0.1", portArgument(argc, argv, 1, 8000));
    return connectProtocol(*wrapClientTLS(options, tcp), std::make_shared<EchoClient>())
        .addCallback([](std::shared_ptr<EchoClient> client) { return client->whenDone(); });
  });
}
