// getpage.cpp as a coroutine.
#include <iostream>

#include <protocols/http/get_page.hpp>
#include <reactor/task.hpp>

using namespace torsion;

Deferred<int> fetch(std::string url) {
  try {
    std::cout << co_await getPage(url);
    co_return 0;
  } catch (const HttpError& e) {
    std::cerr << "the server says " << e.what() << '\n';
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
  }
  co_return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: getpage_coroutine URL\n";
    return 2;
  }
  return react([&](Reactor&) { return fetch(argv[1]); });
}
