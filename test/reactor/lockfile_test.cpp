#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

#include <reactor/lockfile.hpp>
#include <test/support/process.hpp>

using namespace torsion;

TEST_CASE("a lock is held by one, and is clean after it was released") {
  torsion::test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/lock";
  CHECK_FALSE(isLocked(name));
  {
    FilesystemLock first(name), second(name);
    CHECK(first.lock());
    CHECK(first.clean());
    CHECK(isLocked(name));
    CHECK_FALSE(second.lock());
    CHECK_THROWS_AS(second.unlock(), std::logic_error);
    first.unlock();
    CHECK_FALSE(first.locked());
    CHECK_FALSE(isLocked(name));
    CHECK(second.lock());
    CHECK(second.clean());
  }
  CHECK_FALSE(isLocked(name));
  CHECK_FALSE(std::filesystem::is_symlink(name));
}

TEST_CASE("the lock of a process that is gone is taken over, and is not clean") {
  torsion::test::TemporaryDirectory directory;
  const std::string name = directory.path() + "/lock";
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  std::filesystem::create_symlink(std::to_string(child), name);
  CHECK_FALSE(isLocked(name));
  FilesystemLock lock(name);
  CHECK(lock.lock());
  CHECK_FALSE(lock.clean());
}

TEST_CASE("what cannot be a lock throws") {
  torsion::test::TemporaryDirectory directory;
  CHECK_THROWS_AS(FilesystemLock(directory.path() + "/no/such/lock").lock(), std::system_error);
  std::filesystem::create_symlink("nobody", directory.path() + "/link");
  CHECK_THROWS_AS(FilesystemLock(directory.path() + "/link").lock(), std::runtime_error);
}
