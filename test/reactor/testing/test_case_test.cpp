#include <reactor/testing/test_case.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <reactor/task.hpp>
#include <reactor/testing/fixture.hpp>
#include <reactor/testing/reactor_fixture.hpp>

using namespace torsion;
using namespace std::chrono_literals;

TEST_CASE("addCleanup: finish() calls the last first, once, and waits for Deferreds") {
  TestFixture fixture;
  std::string order;
  fixture.addCleanup([&] { order += "1"; });
  fixture.addCleanup([&] { return deferLater(fixture.reactor, 0s).addCallback([&] { order += "2"; }); });
  fixture.addCleanup([&] {
    order += "3";
    fixture.addCleanup([&] { order += "4"; });
  });
  CHECK(fixture.finish().empty());
  CHECK(order == "3421");
  CHECK(fixture.finish().empty());
  CHECK(order == "3421");
}

TEST_CASE("addCleanup: one that fails or never ends is a problem, and the others are done") {
  TestFixture fixture;
  bool first = false;
  fixture.addCleanup([&] { first = true; });
  const int line = __LINE__ + 1;
  fixture.addCleanup([] { throw std::runtime_error("no such thing"); });
  Resolver<void> never;
  fixture.addCleanup([&] { return never.deferred(); });
  const auto problems = fixture.finish();
  CHECK(first);
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].starts_with("a cleanup has not ended: its Deferred has no result, added at "));
  CHECK(problems[1].starts_with("a cleanup failed, added at "));
  CHECK(problems[1].find("test_case_test.cpp:" + std::to_string(line) + ":\n") != std::string::npos);
  CHECK(problems[1].find("no such thing") != std::string::npos);
}

TEST_CASE("addCleanup: what it ends is not left behind") {
  TestFixture fixture;
  auto call = fixture.reactor.callLater(1s, [] {});
  fixture.addCleanup([call]() mutable { call.cancel(); });
  CHECK(fixture.finish().empty());
}

TEST_CASE_FIXTURE(ReactorFixture, "addCleanup: with a real reactor") {
  bool done = false;
  addCleanup([&] { return deferLater(reactor, 1ms).addCallback([&] { done = true; }); });
  CHECK(finish().empty());
  CHECK(done);
}

TEST_CASE("patch: another value, until the test ends") {
  std::string name = "real";
  TestFixture fixture;
  fixture.patch(name, "fake");
  fixture.patch(name, "other");
  CHECK(name == "other");
  CHECK(fixture.finish().empty());
  CHECK(name == "real");
}

TEST_CASE("mktemp: names of files that are not there; they go with the fixture") {
  std::string first;
  {
    TestFixture fixture;
    first = fixture.mktemp();
    const std::string second = fixture.mktemp();
    CHECK(first != second);
    CHECK_FALSE(std::filesystem::exists(first));
    std::ofstream(first) << "x";
    CHECK(std::filesystem::exists(first));
  }
  CHECK_FALSE(std::filesystem::exists(first));
  CHECK_FALSE(std::filesystem::exists(std::filesystem::path(first).parent_path()));
}
