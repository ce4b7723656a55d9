// Prints a file, and what is appended to it as soon as it is (Twisted's filewatch.py, which looks ten times a second).
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <system_error>

#include <reactor/inotify.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  std::ifstream file;
  if (argc == 2) file.open(argv[1]);
  if (!file.is_open()) {
    std::cerr << "usage: filewatch FILE\n";
    return 2;
  }
  const auto printNew = [&] {
    file.clear();  // of the end that was reached before
    std::string data;
    while (std::getline(file, data, '\0')) std::cout << data;
    std::cout << std::flush;
  };
  INotify notifier;
  notifier.watch(argv[1], IN_MODIFY, false, {[&](const INotify::Watch&, const std::string&, std::uint32_t mask) {
                   if (mask & (IN_MODIFY | IN_Q_OVERFLOW)) printNew();
                 }});
  printNew();
  reactor().run();
}
