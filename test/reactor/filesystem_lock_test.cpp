#include <reactor/filesystem_lock.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include <deferred/errors.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/clock.hpp>
#include <test/support/process.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

struct Fixture {
  test::TemporaryDirectory directory;
  Clock clock;
  const std::string name = directory.path() + "/lock";
  FilesystemLock other{name};
  DeferredFilesystemLock lock{name, clock};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: a free lock is taken at once") {
  successResultOf(lock.deferUntilLocked(1s));
  CHECK(lock.locked());
  CHECK_FALSE(other.lock());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: a lock that is held for longer than the timeout") {
  REQUIRE(other.lock());
  auto waiting = lock.deferUntilLocked(5500ms);
  clock.advance(5400ms);
  assertNoResult(waiting);
  clock.advance(100ms);
  const auto failure = failureResultOf<TimeoutError>(waiting);
  CHECK(failure.getErrorMessage().find(name + " is still held after 5.5") != std::string::npos);
  CHECK_FALSE(lock.locked());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: a lock that is released in time is tried again each second") {
  REQUIRE(other.lock());
  clock.callLater(1500ms, [&] { other.unlock(); });
  auto waiting = lock.deferUntilLocked(10s);
  clock.pump({1s, 500ms});
  assertNoResult(waiting);
  clock.advance(500ms);
  successResultOf(waiting);
  CHECK(lock.locked());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: it is tried once more when the time is up") {
  REQUIRE(other.lock());
  auto waiting = lock.deferUntilLocked(1500ms);
  clock.advance(1s);
  other.unlock();
  clock.advance(500ms);
  successResultOf(waiting);
  CHECK(lock.locked());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: one waits at a time") {
  REQUIRE(other.lock());
  auto first = lock.deferUntilLocked();
  failureResultOf<AlreadyTryingToLockError>(lock.deferUntilLocked());
  other.unlock();
  clock.advance(1s);
  successResultOf(first);
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: again from its own callback") {
  REQUIRE(other.lock());
  auto twice = lock.deferUntilLocked(10s).addCallback([&] {
    lock.unlock();
    return lock.deferUntilLocked(10s);
  });
  other.unlock();
  clock.advance(1s);
  successResultOf(twice);
  CHECK(lock.locked());
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: cancel() ends the wait and takes nothing") {
  REQUIRE(other.lock());
  auto waiting = lock.deferUntilLocked(10s);
  other.unlock();
  waiting.cancel();
  failureResultOf<CancelledError>(waiting);
  CHECK(clock.getDelayedCalls().empty());
  CHECK_FALSE(lock.locked());
  CHECK(other.lock());
}

TEST_CASE_FIXTURE(Fixture, "deferUntilLocked: a lock that cannot be made") {
  DeferredFilesystemLock nowhere(directory.path() + "/no/such/lock", clock);
  failureResultOf<std::system_error>(nowhere.deferUntilLocked(1s));
  REQUIRE(other.lock());
  auto waiting = lock.deferUntilLocked(10s);
  other.unlock();
  std::filesystem::create_symlink("nobody", name);
  clock.advance(1s);
  failureResultOf<std::runtime_error>(waiting);
  CHECK(clock.getDelayedCalls().empty());
}

TEST_CASE("deferUntilLocked: when the lock or the time goes, nobody waits for ever") {
  test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/lock";
  FilesystemLock other(name);
  REQUIRE(other.lock());
  std::optional<Clock> clock(std::in_place);
  std::optional<DeferredFilesystemLock> lock(std::in_place, name, *clock);
  auto waiting = lock->deferUntilLocked(10s);
  SUBCASE("the lock") {
    lock.reset();
    CHECK(clock->getDelayedCalls().empty());
  }
  SUBCASE("the time") {
    clock.reset();
  }
  failureResultOf<BrokenDeferred>(waiting);
  CHECK(other.locked());
}
