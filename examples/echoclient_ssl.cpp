// echoclient over TLS, to a server that shows a certificate for example.com of the authority in public.pem (which may
// be that certificate itself). Usage: echoclient_ssl [PORT [PEM]]
#include <memory>

#include <examples/arguments.hpp>
#include <examples/echoclient.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/task.hpp>
#include <reactor/tls.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  return react([&](Reactor&) {
    TLSOptions options = optionsForClientTLS("example.com", {.trustRoots = argument(argc, argv, 2, "public.pem")});
    auto tcp = std::make_shared<TCP4ClientEndpoint>("127.0.0.1", portArgument(argc, argv, 1, 8000));
    return connectProtocol(*wrapClientTLS(options, tcp), std::make_shared<EchoClient>())
        .addCallback([](std::shared_ptr<EchoClient> client) { return client->whenDone(); });
  });
}
