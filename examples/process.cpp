// Lets wc(1) count the lines of a song (the listing process.py of Twisted's guide to processes).
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include <reactor/process.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

int statusOf(const Failure& reason) {
  const auto* error = reason.get<ProcessTerminated>();
  return error ? error->exitCode.value_or(-1) : 0;
}

class MyPP : public ProcessProtocol {
 public:
  explicit MyPP(int verses) : verses_(verses) {}

  void connectionMade() override {
    std::cout << "connectionMade!\n";
    for (int i = 0; i < verses_; ++i) {
      transport().write(
          "Aleph-null bottles of beer on the wall,\n"
          "Aleph-null bottles of beer,\n"
          "Take one down and pass it around,\n"
          "Aleph-null bottles of beer on the wall.\n");
    }
    transport().closeStdin();  // tell them we're done
  }
  void outReceived(std::string_view data) override {
    std::cout << "outReceived! with " << data.size() << " bytes!\n";
    data_ += data;
  }
  void errReceived(std::string_view data) override { std::cout << "errReceived! with " << data.size() << " bytes!\n"; }
  void inConnectionLost() override { std::cout << "inConnectionLost! stdin is closed! (we probably did it)\n"; }
  void outConnectionLost() override {
    std::cout << "outConnectionLost! The child closed their stdout!\n";
    int lines = 0;
    std::istringstream(data_) >> lines;
    std::cout << "I saw " << lines << " lines\n";
  }
  void errConnectionLost() override { std::cout << "errConnectionLost! The child closed their stderr.\n"; }
  void processExited(const Failure& reason) override {
    std::cout << "processExited, status " << statusOf(reason) << '\n';
  }
  void processEnded(const Failure& reason) override {
    std::cout << "processEnded, status " << statusOf(reason) << "\nquitting\n";
    reactor().stop();
  }

 private:
  int verses_;
  std::string data_;
};

int main() {
  reactor().spawnProcess(std::make_shared<MyPP>(10), "wc", {"wc"});
  reactor().run();
}
