// Against the real file system, and once against what Twisted tells of the same operations.
#include <doctest/doctest.h>
#include <sys/inotify.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/inotify.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/log_capture.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using torsion::test::runUntil;
using torsion::test::spin;
namespace fs = std::filesystem;

namespace {

using Log = std::vector<std::string>;

std::string textOf(const std::string& path, std::uint32_t mask) {
  std::string text = path;
  for (const std::string& name : humanReadableMask(mask)) text += ' ' + name;
  return text;
}

struct Fixture {
  Reactor reactor;
  test::TemporaryDirectory temporary;
  const std::string& top = temporary.path();
  std::optional<INotify> notifier{std::in_place, reactor};
  Log log;
  const std::vector<INotify::Callback> note{[this](const INotify::Watch&, const std::string& path, std::uint32_t mask) {
    log.push_back(textOf(path.substr(std::min(top.size(), path.size())), mask));
  }};

  // What has happened until now is told before this.
  void settle() {
    INotify mark(reactor);
    bool seen = false;
    test::TemporaryDirectory other;
    mark.watch(other.path(), IN_CREATE, false,
               {[&](const INotify::Watch&, const std::string&, std::uint32_t) { seen = true; }});
    other.write("x", "");
    runUntil(reactor, [&] { return seen; });
    spin(reactor);
  }
  Log told() {
    settle();
    return std::exchange(log, {});
  }
};

TEST_CASE("humanReadableMask") {
  CHECK(humanReadableMask(IN_CREATE | IN_ISDIR) == Log{"create", "is_dir"});
  CHECK(humanReadableMask(IN_CLOSE) == Log{"close_write", "close_nowrite"});
  CHECK(humanReadableMask(IN_CHANGED) == Log{"modify", "attrib"});
  CHECK(humanReadableMask(0).empty());
  CHECK(humanReadableMask(~0U).size() == 20);
}

TEST_CASE_FIXTURE(Fixture, "INotify: what happens in a directory, in order, with the mask and the path") {
  notifier->watch(top, IN_WATCH_MASK | IN_CLOSE_WRITE, false, note);
  temporary.write("a", "text");
  fs::rename(top + "/a", top + "/b");
  fs::remove(top + "/b");
  fs::create_directory(top + "/d");
  CHECK(told() == Log{"/a create", "/a modify", "/a close_write", "/a moved_from", "/b moved_to", "/b delete",
                      "/d create is_dir"});
  temporary.write("d/in", "not watched: neither autoAdd nor recursive");
  CHECK(told().empty());
}

TEST_CASE_FIXTURE(Fixture, "a file; only what is asked for; every callback, with its watch; relative paths") {
  const std::string file = temporary.write("file", "text");
  int calls = 0;
  const INotify::Callback count = [&](const INotify::Watch& watch, const std::string& path, std::uint32_t mask) {
    CHECK(watch.path == file);
    CHECK(watch.mask == (IN_OPEN | IN_DELETE_SELF));
    CHECK_FALSE(watch.autoAdd);
    CHECK(path == file);
    CHECK(mask == IN_OPEN);
    ++calls;
  };
  notifier->watch(fs::relative(file).string(), IN_OPEN, false, {count, count});
  temporary.write("file", "more");
  settle();
  CHECK(calls == 2);
}

TEST_CASE_FIXTURE(Fixture, "a path watched a second time stays as it is") {
  notifier->watch(top, IN_CREATE, false, note);
  notifier->watch(top + "/", IN_DELETE, false, {});
  temporary.write("a", "");
  CHECK(told() == Log{"/a create"});
}

TEST_CASE_FIXTURE(Fixture,
                  "ignore: nothing more is told, not even what has happened; afterwards it can be watched anew") {
  CHECK_THROWS_AS(notifier->ignore(top), std::out_of_range);
  notifier->watch(top, IN_WATCH_MASK, false, note);
  temporary.write("a", "");
  notifier->ignore(top);
  temporary.write("b", "");
  CHECK(told().empty());
  CHECK_THROWS_AS(notifier->ignore(top), std::out_of_range);
  notifier->watch(top, IN_CREATE, false, note);
  temporary.write("c", "");
  CHECK(told() == Log{"/c create"});
}

TEST_CASE_FIXTURE(Fixture, "what cannot be watched is an INotifyError") {
  try {
    notifier->watch(top + "/missing");
    FAIL("nothing thrown");
  } catch (const INotifyError& error) {
    CHECK(error.code().value() == ENOENT);
    CHECK(std::string(error.what()).find(top + "/missing") != std::string::npos);
  }
  CHECK_THROWS_AS(notifier->watch(top + "/missing", IN_CREATE, false, {}, true), INotifyError);
  CHECK_THROWS_AS(notifier->watch(temporary.write("file", ""), IN_CREATE | IN_ONLYDIR), INotifyError);
}

TEST_CASE_FIXTURE(Fixture, "a deleted path: its watch ends, the others go on; a new one of the name can be watched") {
  fs::create_directory(top + "/d");
  notifier->watch(top + "/d", IN_CREATE, false, note);
  notifier->watch(top, IN_CREATE, false, note);
  fs::remove(top + "/d");
  CHECK(told() == Log{"/d delete_self"});
  CHECK_THROWS_AS(notifier->ignore(top + "/d"), std::out_of_range);
  fs::create_directory(top + "/d");
  notifier->watch(top + "/d", IN_CREATE, false, note);
  temporary.write("d/x", "");
  CHECK(told() == Log{"/d create is_dir", "/d/x create"});
}

TEST_CASE_FIXTURE(Fixture, "IN_ONESHOT: one event, then IN_IGNORED, and the path can be watched anew") {
  notifier->watch(top, IN_CREATE | IN_ONESHOT, false, note);
  temporary.write("a", "");
  temporary.write("b", "");
  CHECK(told() == Log{"/a create", " ignored"});
  notifier->watch(top, IN_CREATE, false, note);
  temporary.write("c", "");
  CHECK(told() == Log{"/c create"});
}

TEST_CASE_FIXTURE(Fixture, "a moved path stays watched under the name it had, until it is watched under the new one") {
  fs::create_directory(top + "/old");
  notifier->watch(top + "/old", IN_WATCH_MASK, false, note);
  fs::rename(top + "/old", top + "/new");
  temporary.write("new/a", "");
  CHECK(told() == Log{"/old move_self", "/old/a create"});
  notifier->watch(top + "/new", IN_CREATE, false, note);
  temporary.write("new/b", "");
  CHECK(told() == Log{"/new/b create"});
  CHECK_THROWS_AS(notifier->ignore(top + "/old"), std::out_of_range);
}

TEST_CASE_FIXTURE(Fixture, "recursive: the directories that are there, but not those that links lead to") {
  fs::create_directories(top + "/a/b");
  fs::create_directory_symlink(top, top + "/a/loop");
  notifier->watch(top, IN_CREATE, false, note, true);
  temporary.write("x", "");
  temporary.write("a/x", "");
  temporary.write("a/b/x", "");
  CHECK(told() == Log{"/x create", "/a/x create", "/a/b/x create"});
}

TEST_CASE_FIXTURE(Fixture, "autoAdd: new directories are watched, and what was in them before is told") {
  notifier->watch(top, IN_CREATE | IN_DELETE, true, note);
  fs::create_directories(top + "/a/b");
  temporary.write("a/b/early", "");
  Log log = told();
  // Some of it may be told twice, as with Twisted; nothing is missing.
  std::set<std::string> paths;
  for (const std::string& line : log) paths.insert(line.substr(0, line.find(' ')));
  CHECK(paths == std::set<std::string>{"/a", "/a/b", "/a/b/early"});
  CHECK(log.front() == "/a create is_dir");
  temporary.write("a/b/late", "");
  CHECK(told() == Log{"/a/b/late create"});
  SUBCASE("one that is gone again at once is no error") {
    LogCapture logs;
    fs::create_directory(top + "/gone");
    fs::remove(top + "/gone");
    CHECK(told() == Log{"/gone create is_dir", "/gone delete is_dir"});
    CHECK(logs.flushLoggedErrors().empty());
  }
}

TEST_CASE_FIXTURE(Fixture, "events that came too fast are lost: every watch is told") {
  fs::create_directory(top + "/d");
  notifier->watch(top, IN_ATTRIB, false, note);
  notifier->watch(top + "/d", IN_ATTRIB, false, note);
  const std::string a = temporary.write("a", ""), b = temporary.write("b", "");
  std::size_t limit = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> limit;
  REQUIRE(limit > 0);
  // Equal events in a row are one.
  for (std::size_t i = 0; i <= limit / 2; ++i) {
    fs::permissions(a, fs::perms::owner_all);
    fs::permissions(b, fs::perms::owner_all);
  }
  const auto overflown = [&] { return std::count(log.begin(), log.end(), "/d queue_overflow"); };
  runUntil(reactor, [&] { return overflown() > 0; });
  CHECK(std::count(log.begin(), log.end(), " queue_overflow") == 1);
  log.clear();
  fs::permissions(a, fs::perms::owner_all);
  CHECK(told() == Log{"/a attrib"});
}

TEST_CASE_FIXTURE(Fixture, "a callback may ignore, watch, throw, and end it all") {
  LogCapture logs;
  SUBCASE("ignore and watch") {
    fs::create_directory(top + "/d");
    notifier->watch(top, IN_CREATE, false, {[&](const INotify::Watch& watch, const std::string& path, std::uint32_t) {
                      notifier->ignore(watch.path);
                      notifier->watch(top + "/d", IN_CREATE, false, note);
                      CHECK(watch.path == top);
                      CHECK(path == top + "/a");
                    }});
    temporary.write("a", "");
    temporary.write("b", "");
    settle();
    temporary.write("d/c", "");
    CHECK(told() == Log{"/d/c create"});
  }
  SUBCASE("throw: the next one is still called, and it goes on") {
    std::vector<INotify::Callback> callbacks = note;
    callbacks.insert(callbacks.begin(), [](const INotify::Watch&, const std::string&, std::uint32_t) {
      throw std::runtime_error("oops");
    });
    notifier->watch(top, IN_CREATE, false, callbacks);
    temporary.write("a", "");
    temporary.write("b", "");
    CHECK(told() == Log{"/a create", "/b create"});
    CHECK(logs.flushLoggedErrors().size() == 2);
  }
  SUBCASE("destroy it") {
    std::vector<INotify::Callback> callbacks = note;
    callbacks.insert(callbacks.begin(),
                     [&](const INotify::Watch&, const std::string&, std::uint32_t) { notifier.reset(); });
    notifier->watch(top, IN_CREATE, true, callbacks);
    temporary.write("a", "");
    fs::create_directory(top + "/d");
    runUntil(reactor, [&] { return !notifier; });
    CHECK(told().empty());
  }
}

TEST_CASE("an INotify that outlives its reactor tells nothing; neither does one of a reactor that has stopped") {
  test::TemporaryDirectory directory;
  auto reactor = std::make_unique<Reactor>();
  INotify notifier(*reactor);
  bool told = false;
  notifier.watch(directory.path(), IN_CREATE, false,
                 {[&](const INotify::Watch&, const std::string&, std::uint32_t) { told = true; }});
  SUBCASE("stopped") {
    reactor->callLater(Duration::zero(), [&] { reactor->stop(); });
    reactor->run(false);
    directory.write("a", "");
    spin(*reactor);
  }
  SUBCASE("gone") {
    reactor.reset();
  }
  CHECK_FALSE(told);
  CHECK_THROWS_AS(notifier.watch(directory.path() + "/.."), ReactorNotRunning);
  notifier.ignore(directory.path());
}

// ---- the same operations watched by Twisted

constexpr const char* kTwisted = R"(
import sys
from twisted.internet import inotify, reactor
from twisted.python.filepath import FilePath
top = sys.argv[1]
def note(watch, path, mask):
    name = path.path.decode()[len(top):]
    print(" ".join([name] + inotify.humanReadableMask(mask)), flush=True)
    if name == "/end" and mask & inotify.IN_CREATE:
        reactor.stop()
notifier = inotify.INotify()
notifier.startReading()
notifier.watch(FilePath(top), inotify.IN_WATCH_MASK | inotify.IN_CLOSE_WRITE, callbacks=[note], recursive=True)
print("ready", flush=True)
reactor.run()
)";

TEST_CASE_FIXTURE(Fixture, "the same operations give the same events as with Twisted") {
  fs::create_directories(top + "/sub/deep");
  test::TemporaryDirectory scripts;
  test::Process twisted({"/usr/bin/python3", scripts.write("watch.py", kTwisted), top});
  twisted.waitFor("ready\n");
  notifier->watch(top, IN_WATCH_MASK | IN_CLOSE_WRITE, false, note, true);
  temporary.write("a", "text");
  temporary.write("sub/b", "text");
  fs::permissions(top + "/a", fs::perms::owner_all);
  fs::rename(top + "/a", top + "/sub/deep/c");
  fs::create_directory(top + "/new");
  fs::create_hard_link(top + "/sub/b", top + "/link");
  fs::create_symlink("nowhere", top + "/dangling");
  fs::rename(top + "/sub/deep", top + "/moved");
  temporary.write("moved/inside", "");
  fs::remove_all(top + "/new");
  fs::create_directory(top + "/end");
  REQUIRE(twisted.wait() == 0);
  std::string expected = twisted.output();
  std::string ours = "ready\n";
  for (const std::string& line : told()) {
    ours += line + '\n';
  }
  CHECK(ours == expected);
}

}  // namespace
