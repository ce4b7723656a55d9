// Chains of KJ promises (Cap'n Proto's): fulfilled after the callbacks were added, then waited for.
#include <kj/async.h>

#include <utility>

#include "chain.hpp"

int main() {
  using namespace bench;
  kj::EventLoop loop;
  kj::WaitScope waitScope(loop);
  const long a = opaque(1L), b = opaque(2L), c = opaque(0L);

  timeChains("int", 480000, [&](int i) {
    auto [promise, fulfiller] = kj::newPromiseAndFulfiller<int>();
    for (int k = 0; k < kCallbacks; ++k) promise = promise.then(intStep(a, b));
    fulfiller->fulfill(kj::cp(i));
    return promise.wait(waitScope);
  });

  const auto strings = [&](const char* text) {
    auto [promise, fulfiller] = kj::newPromiseAndFulfiller<std::string>();
    for (int k = 0; k < kCallbacks; ++k) promise = promise.then(stringStep(c, c, c));
    fulfiller->fulfill(text);
    return int(promise.wait(waitScope).size());
  };
  timeChains("string", 480000, [&](int) { return strings(kLong); });
  timeChains("short", 480000, [&](int) { return strings(kShort); });

  // KJ's exceptions have one type and four kinds. An errback passes on what it does not want by returning it.
  timeChains("failure", 48000, [&](int) {
    auto [promise, fulfiller] = kj::newPromiseAndFulfiller<int>();
    for (int k = 0; k < kCallbacks; ++k) {
      promise = promise.catch_([a](kj::Exception&& e) -> kj::Promise<int> {
        if (e.getType() == kj::Exception::Type::DISCONNECTED) return int(a);
        return kj::mv(e);
      });
    }
    auto handled = promise.catch_([](kj::Exception&&) { return 1; });
    fulfiller->reject(kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::str("it happened")));
    return handled.wait(waitScope);
  });
}
