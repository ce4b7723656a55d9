#include <reactor/detail/name_files.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <reactor/testing/temporary_directory.hpp>

using namespace torsion;
using namespace torsion::detail;

namespace {

using Addresses = std::vector<Address>;
using Names = std::vector<std::string>;

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// As if it had been written long ago.
void makeOld(const std::string& path) {
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), old, 0) == 0);
}

// Sets a variable of the environment, for as long as it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

}  // namespace

TEST_CASE("WatchedFile: the text when it may have changed, and each time while it is new") {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  WatchedFile file(path);
  CHECK(file.changed() == "");  // not there
  CHECK(file.changed() == std::nullopt);
  write(path, "one");
  CHECK(file.changed() == "one");
  // What is written in the same instant, of the same length, changes nothing that stat(2) tells.
  write(path, "two");
  CHECK(file.changed() == "two");
  CHECK(file.changed() == "two");
  makeOld(path);
  CHECK(file.changed() == "two");
  CHECK(file.changed() == std::nullopt);
  std::filesystem::remove(path);
  CHECK(file.changed() == "");
  CHECK(file.changed() == std::nullopt);
}

TEST_CASE(
    "hosts: each name of a line, in any case, with all its addresses in order; comments and nonsense are not read") {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/hosts";
  write(path,
        "# 10.0.0.9 no\n10.0.0.1 Multi.Example multi # alias\n\tfd00::1\tmulti\n10.0.0.1 multi\nnonsense multi\n\n"
        "10.0.0.3 last.");
  HostsFile hosts(path);
  CHECK(hosts.addressesOf("multi") == Addresses{IPv4Address("10.0.0.1"), IPv6Address("fd00::1")});
  CHECK(hosts.addressesOf("MULTI.example.") == Addresses{IPv4Address("10.0.0.1")});
  CHECK(hosts.addressesOf("last") == Addresses{IPv4Address("10.0.0.3")});
  for (const char* none : {"no", "alias", "#", "", "10.0.0.1"}) CHECK(hosts.addressesOf(none).empty());
  write(path, "10.0.0.2 multi\r\n");
  CHECK(hosts.addressesOf("multi") == Addresses{IPv4Address("10.0.0.2")});
  std::filesystem::remove(path);
  CHECK(hosts.addressesOf("multi").empty());
}

TEST_CASE("resolv.conf: servers, search domains and options") {
  const auto conf = ResolvConf::parse(
      "; comment\nnameserver 10.0.0.1 # first\nnameserver fd00::1\nnameserver nonsense\nsearch one.example "
      "two.example.\n"
      "options ndots:2 timeout:3 attempts:4 rotate edns0\n");
  CHECK(conf.servers == "10.0.0.1,[fd00::1]");
  CHECK(conf.search == Names{"one.example", "two.example."});
  CHECK(conf.ndots == 2);
  CHECK(conf.timeout == 3);
  CHECK(conf.attempts == 4);
  CHECK(conf.rotate);
}

TEST_CASE("resolv.conf: what it does not say, and what is out of range") {
  const auto none = ResolvConf::parse("search\n");
  CHECK(none.servers == "127.0.0.1");
  CHECK(none.ndots == 1);
  CHECK(none.timeout == 5);
  CHECK(none.attempts == 2);
  CHECK_FALSE(none.rotate);
  const auto wild = ResolvConf::parse("options ndots:99 timeout:0 attempts:x attempts:-1\n");
  CHECK(wild.ndots == 15);
  CHECK(wild.timeout == 1);
  CHECK(wild.attempts == 1);
}

TEST_CASE("resolv.conf: the last of search and domain counts, and the environment more") {
  CHECK(ResolvConf::parse("search a b\ndomain c d\n").search == Names{"c"});
  CHECK(ResolvConf::parse("domain c\nsearch a b\n").search == Names{"a", "b"});
  const Variable domains("LOCALDOMAIN", "e f"), options("RES_OPTIONS", "ndots:4 timeout:2");
  const auto conf = ResolvConf::parse("search a b\noptions ndots:2\n");
  CHECK(conf.search == Names{"e", "f"});
  CHECK(conf.ndots == 4);
  CHECK(conf.timeout == 2);
}

TEST_CASE("candidates: a name with enough dots is tried by itself first, another in the domains first") {
  auto conf = ResolvConf::parse("search one.example two.example. .\noptions ndots:2\n");
  CHECK(conf.candidates("host") == Names{"host.one.example.", "host.two.example.", "host."});
  CHECK(conf.candidates("a.b") == Names{"a.b.one.example.", "a.b.two.example.", "a.b."});
  CHECK(conf.candidates("a.b.c") == Names{"a.b.c.", "a.b.c.one.example.", "a.b.c.two.example."});
  CHECK(conf.candidates("host.") == Names{"host."});
}

TEST_CASE("interfaceAddress: literals, localhost, and nothing for what is no name") {
  CHECK(interfaceAddress("10.0.0.1") == "10.0.0.1");
  CHECK(interfaceAddress("::1") == "::1");
  CHECK(interfaceAddress("LocalHost") == "127.0.0.1");
  for (const std::string& none :
       {std::string("no-such-name.invalid"), std::string(), std::string("a b"), std::string("localhost\0x", 11)}) {
    CHECK(interfaceAddress(none).empty());
  }
}
