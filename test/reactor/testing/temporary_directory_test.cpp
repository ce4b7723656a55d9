#include <reactor/testing/temporary_directory.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

using namespace torsion;

TEST_CASE("TemporaryDirectory: goes with its files") {
  std::string path;
  {
    TemporaryDirectory directory;
    path = directory.path();
    const std::string file = directory.write("name", "content");
    CHECK(file == path + "/name");
    std::string content;
    std::ifstream(file) >> content;
    CHECK(content == "content");
    CHECK(TemporaryDirectory().path() != path);
  }
  CHECK_FALSE(std::filesystem::exists(path));
}
