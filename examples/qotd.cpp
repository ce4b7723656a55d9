// Sends a quote to whoever connects: a factory with what its protocols need. Usage: qotd [PORT [QUOTE]]
#include <memory>
#include <string>
#include <utility>

#include <examples/arguments.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class QOTD : public Protocol {
 public:
  explicit QOTD(std::string quote) : quote_(std::move(quote)) {}
  void connectionMade() override {
    transport().write(quote_ + "\r\n");
    transport().loseConnection();
  }

 private:
  std::string quote_;
};

class QOTDFactory : public Factory {
 public:
  explicit QOTDFactory(std::string quote) : quote_(std::move(quote)) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<QOTD>(quote_); }

 private:
  std::string quote_;
};

int main(int argc, char** argv) {
  TCP4ServerEndpoint endpoint(portArgument(argc, argv, 1, 8007));
  endpoint.listen(std::make_shared<QOTDFactory>(argument(argc, argv, 2, "An apple a day keeps the doctor away")));
  reactor().run();
}
