// A web server, run as a service: gives the files of its directory. Usage: service [ENDPOINT]
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>

#include <examples/arguments.hpp>
#include <protocols/http/site.hpp>
#include <reactor/endpoint_strings.hpp>
#include <reactor/service.hpp>

using namespace torsion;

// Plain names alone: nothing in another directory, nothing hidden.
Response getFile(const Request& request) {
  const std::string name = request.path.substr(1);
  std::error_code error;
  if (name.starts_with('.') || name.find_first_of("/%") != name.npos ||
      !std::filesystem::is_regular_file(name, error)) {
    return {.status = 404, .body = "No such file\n"};
  }
  std::ifstream file(name, std::ios::binary);
  return {.headers = {{"Content-Type", "application/octet-stream"}},
          .body = std::string(std::istreambuf_iterator<char>(file), {})};
}

// A service that a program may run beside others.
std::shared_ptr<Service> getWebService(Reactor& reactor, const std::string& endpoint) {
  auto site = std::make_shared<Site>(SiteOptions{}, reactor);
  site->route("/*", getFile);
  return std::make_shared<StreamServerEndpointService>(serverFromString(reactor, endpoint), site);
}

int main(int argc, char** argv) {
  return runService([&](Reactor& reactor) { return getWebService(reactor, argument(argc, argv, 1, "tcp:8080")); });
}
