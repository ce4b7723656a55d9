// A program of several services: two servers, a client of one of them, a timer, and one of its own.
#include <chrono>
#include <iostream>
#include <memory>
#include <string_view>

#include <deferred/deferred.hpp>
#include <protocols/wire.hpp>
#include <reactor/client_service.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>
#include <reactor/service.hpp>

using namespace torsion;
using namespace std::chrono_literals;

struct Foo : Protocol {
  void connectionMade() override { transport().write("lalala\n"); }
  void dataReceived(std::string_view data) override { std::cout << data << std::flush; }
};

struct FooService : Service {
  void startService() override {
    Service::startService();
    std::cout << "lala, starting" << std::endl;
  }
  Deferred<void> stopService() override {
    std::cout << "lala, stopping\n" << std::boolalpha << (parent()->getServiceNamed(name()).get() == this) << std::endl;
    return Service::stopService();
  }
};

int main() {
  return runService([](Reactor&) {
    auto all = std::make_shared<MultiService>();
    for (const std::uint16_t port : {8080, 8081}) {
      all->addService(std::make_shared<StreamServerEndpointService>(std::make_shared<TCP4ServerEndpoint>(port),
                                                                    forProtocol<Echo>()));
    }
    all->addService(std::make_shared<TimerService>(5s, [] { std::cout << "--MARK--" << std::endl; }));
    all->addService(
        std::make_shared<ClientService>(std::make_shared<TCP4ClientEndpoint>("localhost", 8081), forProtocol<Foo>()));
    auto foo = std::make_shared<FooService>();
    foo->setName("foo");
    all->addService(foo);
    return all;
  });
}
