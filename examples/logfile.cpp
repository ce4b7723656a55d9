// Writes each line that comes to a file, which is open for as long as the port is. Usage: logfile FILE [PORT]
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <examples/arguments.hpp>
#include <protocols/basic.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

class LoggingProtocol : public LineReceiver {
 public:
  explicit LoggingProtocol(std::shared_ptr<std::ofstream> file) : file_(std::move(file)) {}
  void lineReceived(std::string_view line) override { *file_ << line << std::endl; }

 private:
  std::shared_ptr<std::ofstream> file_;
};

class LogfileFactory : public Factory {
 public:
  explicit LogfileFactory(std::string fileName) : fileName_(std::move(fileName)) {}
  void startFactory() override {
    file_ = std::make_shared<std::ofstream>(fileName_, std::ios::app);
    if (!*file_) throw std::runtime_error("cannot write to " + fileName_);
  }
  void stopFactory() override { file_.reset(); }
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return std::make_shared<LoggingProtocol>(file_); }

 private:
  std::string fileName_;
  std::shared_ptr<std::ofstream> file_;
};

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: logfile FILE [PORT]\n";
    return 2;
  }
  try {
    auto port = reactor().listenTCP(portArgument(argc, argv, 2, 8007), std::make_shared<LogfileFactory>(argv[1]));
    std::cout << "listening on " << describe(port->getHost()) << std::endl;
  } catch (const std::runtime_error& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
  reactor().run();
}
