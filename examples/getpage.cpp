// Fetches a page and prints it: Twisted's getpage.py.
#include <iostream>

#include <protocols/http/get_page.hpp>

using namespace torsion;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: getpage URL\n";
    return 2;
  }
  int status = 1;
  getPage(argv[1])
      .addCallback([&](std::string page) {
        std::cout << page;
        status = 0;
      })
      .addErrback([](const HttpError& e) { std::cerr << "the server says " << e.what() << '\n'; })
      .addErrback([](const Failure& f) { std::cerr << f.getErrorMessage() << '\n'; })
      .addBoth([] { reactor().stop(); });
  reactor().run();
  return status;
}
