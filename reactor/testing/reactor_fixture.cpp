#include <reactor/testing/reactor_fixture.hpp>

#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/report.hpp>
#include <reactor/testing/assertions.hpp>

namespace torsion {

namespace {
constexpr Duration kCleanupLimit = std::chrono::seconds(120);
}

void ReactorFixture::turnUntil(UniqueFunction<bool()> done, Duration limit, const std::source_location& where) {
  bool late = false;
  DelayedCall timer = reactor.callLater(limit, [&] { late = true; });
  while (!done() && !late) reactor.iterate(limit);
  if (timer.active()) timer.cancel();
  if (!done()) detail::testFailed("wait: there is no result after " + detail::seconds(limit), where);
}

std::vector<std::string> ReactorFixture::finish() {
  std::vector<std::string> problems = cleanUp([this](const Deferred<void>& done) {
    const Duration limit = reactor.seconds() + kCleanupLimit;
    while (!done.called() && reactor.seconds() < limit) reactor.iterate(std::chrono::milliseconds(100));
  });
  auto& impl = detail::implOf(reactor);
  for (int turn = 0; turn < 20 && !impl.disconnectables().empty(); ++turn) reactor.iterate();
  for (const auto& text : log.takeErrorTexts()) problems.push_back("an error was logged: " + text);
  for (const DelayedCall& call : reactor.getDelayedCalls()) problems.push_back(detail::describeLeft(call, reactor));
  for (const auto* left : impl.disconnectables()) {
    problems.push_back("left open: " + left->describe() + ", made at " + detail::at(left->where()));
  }
  return problems;
}

}  // namespace torsion
