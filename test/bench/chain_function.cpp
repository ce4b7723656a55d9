// The least that C++ offers for the purpose: a vector of std::function, filled and run, with nothing else that a chain
// does; and, for the failure, std::exception_ptr thrown again and caught at every errback.
#include <exception>
#include <functional>
#include <vector>

#include "chain.hpp"

int main() {
  using namespace bench;
  const long a = opaque(1L), b = opaque(2L), c = opaque(0L);

  timeChains("int", 2400000, [&](int i) {
    std::vector<std::function<int(int)>> chain;
    chain.reserve(kCallbacks);
    for (int k = 0; k < kCallbacks; ++k) chain.emplace_back(intStep(a, b));
    for (auto& step : chain) i = step(i);
    return i;
  });

  const auto strings = [&](std::string value) {
    std::vector<std::function<std::string(std::string)>> chain;
    chain.reserve(kCallbacks);
    for (int k = 0; k < kCallbacks; ++k) chain.emplace_back(stringStep(c, c, c));
    for (auto& step : chain) value = step(std::move(value));
    return int(value.size());
  };
  timeChains("string", 2400000, [&](int) { return strings(kLong); });
  timeChains("short", 2400000, [&](int) { return strings(kShort); });

  timeChains("failure", 24000, [&](int) {
    std::exception_ptr failure = std::make_exception_ptr(Happened("it happened"));
    for (int k = 0; k < kCallbacks; ++k) {
      try {
        std::rethrow_exception(failure);
      } catch (const Expected&) {
        return int(a);
      } catch (...) {
        failure = std::current_exception();
      }
    }
    return failure ? 1 : 0;
  });
}
