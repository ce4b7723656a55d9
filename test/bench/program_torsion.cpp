// Fetches the URLs given, all at once, and says of each how many bytes it has or why it failed.
#include <deferred/list.hpp>
#include <iostream>
#include <protocols/http/get_page.hpp>
#include <string>
#include <utility>
#include <vector>

using namespace torsion;

Deferred<void> fetch(const std::string& url) {
  return getPage(url)
      .addCallback([url](const std::string& page) { std::cout << url << ": " << page.size() << " bytes\n"; })
      .addErrback([url](const Failure& failure) { std::cout << url << ": " << failure.getErrorMessage() << "\n"; });
}

int main(int argc, char** argv) {
  std::vector<Deferred<void>> pages;
  for (int i = 1; i < argc; ++i) pages.push_back(fetch(argv[i]));
  DeferredList(std::move(pages)).addBoth([] { reactor().stop(); });
  reactor().run();
}
