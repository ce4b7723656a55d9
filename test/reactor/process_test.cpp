// Real children: /bin/sh and the like.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <reactor/detail/reactor_impl.hpp>
#include <reactor/error.hpp>
#include <reactor/process.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/reactor_fixture.hpp>
#include <test/support/process.hpp>
#include <test/support/turns.hpp>

using namespace torsion;
using torsion::test::runUntil;

namespace {

using Log = std::vector<std::string>;

std::string nameOf(const Failure& reason) {
  if (reason.check<ProcessDone>()) return "done";
  const auto* error = reason.get<ProcessTerminated>();
  if (!error) return reason.getErrorMessage();
  return error->exitCode ? "exit " + std::to_string(*error->exitCode) : "signal " + std::to_string(*error->signal);
}

struct Recorder : ProcessProtocol {
  void connectionMade() override {
    log.push_back("made");
    if (made) made(transport());
  }
  void childDataReceived(int childFD, std::string_view data) override {
    if (received) received(childFD);
    data_[childFD] += data;
  }
  void inConnectionLost() override { log.push_back("in lost"); }
  void outConnectionLost() override { log.push_back("out lost"); }
  void errConnectionLost() override { log.push_back("err lost"); }
  void processExited(const Failure& reason) override { log.push_back("exited " + nameOf(reason)); }
  void processEnded(const Failure& reason) override {
    log.push_back("ended " + nameOf(reason));
    over = true;
  }
  std::function<void(ProcessTransport&)> made;
  std::function<void(int)> received;
  std::map<int, std::string> data_;
  Log log;
  bool over = false;
};

struct Fixture {
  Reactor reactor;
  std::shared_ptr<Recorder> protocol = std::make_shared<Recorder>();
  void sh(const std::string& script, ProcessOptions options = {}) {
    reactor.spawnProcess(protocol, "/bin/sh", {"sh", "-c", script}, options);
  }
  void end() {
    runUntil(reactor, [&] { return protocol->over; });
  }
  bool noChildren() { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }
};

TEST_CASE_FIXTURE(Fixture, "spawnProcess: what is written reaches the child, and what it writes the protocol") {
  protocol->made = [](ProcessTransport& child) {
    CHECK(child.pid() > 0);
    child.write("one two");
    child.closeStdin();
    child.write("not sent");
  };
  sh("exec /bin/cat; exit 3");
  const auto& transport = protocol->transport();
  end();
  CHECK(protocol->data_[1] == "one two");
  CHECK(transport.pid() == 0);
  CHECK(protocol->log.front() == "made");
  CHECK(protocol->log.back() == "ended done");
  CHECK(protocol->log.size() == 6);
  CHECK(noChildren());
}

TEST_CASE_FIXTURE(Fixture, "processEnded comes after all pipes have closed, processExited as soon as it has exited") {
  sh("exec 3<&0; /bin/cat <&3 & exec 3<&-; exit 3");
  runUntil(reactor, [&] { return protocol->log.back().starts_with("exited"); });
  CHECK(protocol->log.back() == "exited exit 3");
  protocol->transport().closeStdin();
  end();
  CHECK(protocol->log.back() == "ended exit 3");
}

TEST_CASE_FIXTURE(Fixture, "signals: by name and number, the reason tells which; afterwards ProcessExitedAlready") {
  sh("echo ready; read x");
  protocol->received = [&](int) { protocol->transport().signalProcess("TERM"); };
  end();
  CHECK(protocol->log.back() == "ended signal " + std::to_string(SIGTERM));
  CHECK_THROWS_AS(protocol->transport().signalProcess(SIGKILL), ProcessExitedAlready);
  CHECK_THROWS_AS(protocol->transport().signalProcess("NOPE"), std::invalid_argument);
}

TEST_CASE_FIXTURE(Fixture, "a program that cannot be run: the error names it, and no child is left") {
  try {
    reactor.spawnProcess(protocol, "/no/such/program");
    FAIL("nothing thrown");
  } catch (const std::system_error& error) {
    CHECK(error.code().value() == ENOENT);
    CHECK(std::string(error.what()).find("/no/such/program") != std::string::npos);
  }
  CHECK_THROWS_AS(reactor.spawnProcess(protocol, "no_such_program"), std::system_error);
  // Also where the child's descriptors take the number that the error was to be reported at.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ProcessOptions options;
  for (int fd = 0; fd < 100; ++fd) options.childFDs[fd] = null;
  CHECK_THROWS_AS(reactor.spawnProcess(protocol, "/no/such/program", {}, options), std::system_error);
  ::close(null);
  CHECK(protocol->log.empty());
  CHECK(noChildren());
}

TEST_CASE_FIXTURE(Fixture, "the environment is empty unless given; nullopt inherits; the directory is as asked for") {
  ::setenv("TORSION_TEST", "inherited", 1);
  SUBCASE("empty") {
    sh("echo [$TORSION_TEST]");
    end();
    CHECK(protocol->data_[1] == "[]\n");
  }
  SUBCASE("inherited") {
    sh("echo [$TORSION_TEST]; pwd", {.env = std::nullopt, .path = "/usr"});
    end();
    CHECK(protocol->data_[1] == "[inherited]\n/usr\n");
  }
  SUBCASE("given") {
    sh("echo [$TORSION_TEST]", {.env = {{{"TORSION_TEST", "given"}}}});
    end();
    CHECK(protocol->data_[1] == "[given]\n");
  }
}

TEST_CASE_FIXTURE(Fixture, "childFDs: other descriptors, any permutation, and nothing else is inherited") {
  const int leaked = ::open("/dev/null", O_RDONLY);
  const int lent = ::open("/dev/zero", O_RDONLY);
  protocol->made = [](ProcessTransport& child) {
    child.writeToChild(5, "to five\n");
    child.closeChildFD(5);
    CHECK_THROWS_AS(child.writeToChild(4, "x"), std::out_of_range);
    CHECK_THROWS_AS(child.closeChildFD(9), std::out_of_range);
  };
  sh("cat <&5 >&4; for i in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$i >/dev/null && echo $i; done",
     {.env = std::nullopt, .childFDs = {{0, lent}, {1, 'r'}, {2, 'r'}, {4, 'r'}, {5, 'w'}}});
  end();
  CHECK(protocol->data_[4] == "to five\n");
  CHECK(protocol->data_[1] == "0\n1\n2\n4\n5\n");
  CHECK(protocol->data_[2] == "");
  ::close(leaked);
  ::close(lent);
}

TEST_CASE_FIXTURE(Fixture, "the child has no signal blocked or ignored") {
  const auto old = ::signal(SIGPIPE, SIG_IGN);
  sh("while read a b; do case $a in SigBlk:|SigIgn:) echo $b;; esac; done < /proc/$$/status");
  end();
  ::signal(SIGPIPE, old);
  CHECK(protocol->data_[1] == "0000000000000000\n0000000000000000\n");
}

TEST_CASE_FIXTURE(Fixture, "a producer is held up while the child does not read") {
  struct Source : Producer {
    void pauseProducing() override { paused = true; }
    void resumeProducing() override { paused = false, ++resumed; }
    void stopProducing() override { stopped = true; }
    bool paused = false, stopped = false;
    int resumed = 0;
  } source;
  protocol->made = [&](ProcessTransport& child) { child.registerProducer(source, true); };
  sh("read go; cat >/dev/null", {.env = std::nullopt});
  auto& child = protocol->transport();
  while (!source.paused) child.write(std::string(10000, 'x'));
  for (int i = 0; i < 20; ++i) reactor.iterate();
  if (source.paused) child.write("\n");
  child.write("\n");
  runUntil(reactor, [&] { return source.resumed > 0; });
  child.unregisterProducer();
  child.closeStdin();
  end();
  CHECK(protocol->log.back() == "ended done");
  CHECK_FALSE(source.stopped);
}

TEST_CASE_FIXTURE(Fixture, "a child that closes its standard input ends the writing, without a signal to us") {
  sh("exec <&-; exec sleep 100", {.env = std::nullopt});
  runUntil(reactor, [&] { return protocol->log.size() == 2; });
  CHECK(protocol->log.back() == "in lost");
  protocol->transport().write("nobody reads it");
  protocol->transport().signalProcess("KILL");
  end();
}

TEST_CASE_FIXTURE(Fixture, "usePTY: the child has a terminal") {
  protocol->made = [](ProcessTransport& child) { child.write("hello\n"); };
  sh("test -t 0 && test -t 1 && read x && echo got $x", {.usePTY = true});
  end();
  CHECK(protocol->data_[1].find("got hello\r\n") != std::string::npos);
  CHECK(protocol->log == Log{"made", "exited done", "ended done"});
}

TEST_CASE_FIXTURE(Fixture, "what the protocol throws is logged and closes the pipes; the child is still reaped") {
  LogCapture capture;
  protocol->received = [](int) { throw std::runtime_error("bad"); };
  sh("echo x; read y");
  end();
  CHECK(capture.flushLoggedErrors<std::runtime_error>().size() == 1);
  CHECK(noChildren());
}

TEST_CASE_FIXTURE(Fixture, "childFDs: descriptors swapped, and files in place of pipes") {
  test::TemporaryDirectory directory;
  const std::string one = directory.write("one", "first\n"), two = directory.write("two", "second\n");
  const int a = ::open(one.c_str(), O_RDONLY | O_CLOEXEC), b = ::open(two.c_str(), O_RDONLY | O_CLOEXEC);
  const int out = ::open((directory.path() + "/out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const std::string fdA = std::to_string(a), fdB = std::to_string(b);
  SUBCASE("swapped") {
    sh("cat /proc/self/fd/" + fdA + " /proc/self/fd/" + fdB,
       {.env = std::nullopt, .childFDs = {{0, 'w'}, {1, 'r'}, {2, 'r'}, {a, b}, {b, a}}});
    end();
    CHECK(protocol->data_[1] == "second\nfirst\n");
  }
  SUBCASE("files are read from and written to; only what has a pipe is told to be lost") {
    sh("cat; echo end", {.env = std::nullopt, .childFDs = {{0, a}, {1, out}, {2, 'r'}}});
    CHECK_NOTHROW(protocol->transport().write("there is no pipe for it"));
    CHECK_THROWS_AS(protocol->transport().closeStdin(), std::out_of_range);
    end();
    std::ifstream written(directory.path() + "/out");
    CHECK(std::string(std::istreambuf_iterator<char>(written), {}) == "first\nend\n");
    CHECK(protocol->data_.empty());
    CHECK(std::count(protocol->log.begin(), protocol->log.end(), "err lost") == 1);
    CHECK(protocol->log.size() == 4);
  }
  for (const int fd : {a, b, out}) ::close(fd);
}

TEST_CASE_FIXTURE(Fixture, "uid and gid: the child is somebody else, in that one's groups; only root may ask for it") {
  ProcessOptions options{.env = std::nullopt, .uid = 65534, .gid = 65534};
  if (::getuid() != 0) {
    MESSAGE("not root: only the refusal is tested");
    CHECK_THROWS_AS(sh("true", options), std::system_error);
    return;
  }
  SUBCASE("both") {
    sh("id -u; id -g; id -G", options);
    end();
    CHECK(protocol->data_[1] == "65534\n65534\n65534\n");
  }
  SUBCASE("the group alone") {
    options.uid.reset();
    sh("id -u; id -g; id -G", options);
    end();
    CHECK(protocol->data_[1] == "0\n65534\n65534\n");
  }
}

TEST_CASE_FIXTURE(Fixture, "pauseProducing: what the child writes waits until resumeProducing") {
  protocol->received = [&](int) { protocol->transport().pauseProducing(); };
  sh("echo one; read go; echo two; read go", {.env = std::nullopt});
  runUntil(reactor, [&] { return protocol->data_[1] == "one\n"; });
  protocol->transport().write("\n");
  test::spin(reactor);
  CHECK(protocol->data_[1] == "one\n");
  protocol->transport().resumeProducing();
  runUntil(reactor, [&] { return protocol->data_[1] == "one\ntwo\n"; });
  protocol->transport().resumeProducing();
  protocol->transport().write("\n");
  end();
}

TEST_CASE_FIXTURE(Fixture, "a pull producer is asked for more when what it gave is written, until it unregisters") {
  struct Source final : Producer {
    explicit Source(ProcessTransport& child) : child(child) {}
    void pauseProducing() override {}
    void resumeProducing() override {
      if (left-- > 0) return child.write("line\n");
      child.unregisterProducer();
      child.closeStdin();
    }
    void stopProducing() override { stopped = true; }
    ProcessTransport& child;
    int left = 3;
    bool stopped = false;
  };
  std::optional<Source> source;
  protocol->made = [&](ProcessTransport& child) { child.registerProducer(source.emplace(child), false); };
  SUBCASE("to the end") {
    sh("cat", {.env = std::nullopt});
    end();
    CHECK(protocol->data_[1] == "line\nline\nline\n");
    CHECK_FALSE(source->stopped);
  }
  SUBCASE("stopped when nobody reads any more") {
    sh("read x; exec <&-; exec sleep 100", {.env = std::nullopt});
    source->left = 1 << 30;
    runUntil(reactor, [&] { return source->stopped; });
    protocol->transport().signalProcess("KILL");
    end();
  }
}

// ---- the same programs run by Twisted

constexpr const char* kTwisted = R"(
import os
from twisted.internet import error, protocol, reactor

class Recorder(protocol.ProcessProtocol):
    def __init__(self, action):
        self.action, self.data, self.log = action, {}, []
    def connectionMade(self):
        self.log.append("made")
        self.act("made")
    def act(self, what):
        if self.action == what + " close stdin":
            self.transport.write(b"text")
            self.transport.closeStdin()
        if self.action == what + " close 5":
            self.transport.writeToChild(5, b"text")
            self.transport.closeChildFD(5)
        if self.action == what + " lose":
            self.transport.loseConnection()
    def childDataReceived(self, fd, data):
        self.data[fd] = self.data.get(fd, b"") + data
        self.act("data")
    def childConnectionLost(self, fd):
        self.log.append("lost %d" % fd)
        self.act("lost %d" % fd)
    def why(self, reason):
        if reason.check(error.ProcessDone):
            return "done"
        return "exit %d" % reason.value.exitCode if reason.value.signal is None else "signal %d" % reason.value.signal
    def processExited(self, reason):
        self.log.append("exited " + self.why(reason))
    def processEnded(self, reason):
        self.log.append("ended " + self.why(reason))
        log = self.log
        # The order in between is that of the events in the child.
        assert log[0] == "made" and log[-1].startswith("ended")
        print(", ".join(log[:1] + sorted(log[1:-1]) + log[-1:] +
                        ["%d: %r" % (fd, data.decode()) for fd, data in sorted(self.data.items())]))
        run()

scenarios = [line.split("|") for line in os.environ["SCENARIOS"].splitlines()]
def run():
    if not scenarios:
        return reactor.stop()
    script, action, how = scenarios.pop(0)
    options = {}
    if how == "pty":
        options["usePTY"] = True
    if how == "extra":
        options["childFDs"] = {0: "w", 1: "r", 2: "r", 4: "r", 5: "w"}
    reactor.spawnProcess(Recorder(action), "/bin/sh", ["sh", "-c", script], os.environ, **options)
reactor.callWhenRunning(run)
reactor.run()
)";

struct Scenario {
  const char *script, *action, *how;
};
constexpr Scenario kScenarios[] = {
    {"exit 0", "", ""},
    {"exit 3", "", ""},
    {"echo out; echo err >&2; exit 3", "", ""},
    {"kill -TERM $$", "", ""},
    {"cat; exit 1", "made close stdin", ""},
    {"exec >&-; read x; echo unseen 2>&-; exit 4", "lost 1 close stdin", ""},
    {"exec <&-; exit 5", "", ""},
    {"read x; exit 6", "made lose", ""},
    {"test -t 0 && test -t 1 && test -t 2 && echo terminal", "", "pty"},
    {"echo x; exit 7", "", "pty"},
    {"echo x; read x; exit 8", "data lose", "pty"},
    {"echo x; read x; exit 9", "data lose", ""},
    {"cat <&5 >&4; exit 10", "made close 5", "extra"},
};

std::string repr(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\n' ? "\\n" : c == '\r' ? "\\r" : std::string(1, c);
  return quoted + "'";
}

TEST_CASE("the same programs make the same calls as with Twisted") {
  std::string scenarios;
  for (const Scenario& s : kScenarios) {
    scenarios += std::string(s.script) + '|' + s.action + '|' + s.how + '\n';
  }
  test::TemporaryDirectory directory;
  ::setenv("SCENARIOS", scenarios.c_str(), 1);
  test::Process twisted({"/usr/bin/python3", directory.write("run.py", kTwisted)});
  ::unsetenv("SCENARIOS");

  struct Actor : ProcessProtocol {
    void connectionMade() override {
      log.push_back("made");
      act("made");
    }
    void act(const std::string& what) {
      if (action == what + " close stdin") {
        transport().write("text");
        transport().closeStdin();
      }
      if (action == what + " close 5") {
        transport().writeToChild(5, "text");
        transport().closeChildFD(5);
      }
      if (action == what + " lose") transport().loseConnection();
    }
    void childDataReceived(int fd, std::string_view data) override {
      received[fd] += data;
      act("data");
    }
    void childConnectionLost(int fd) override {
      log.push_back("lost " + std::to_string(fd));
      act(log.back());
    }
    void processExited(const Failure& reason) override { log.push_back("exited " + nameOf(reason)); }
    void processEnded(const Failure& reason) override {
      log.push_back("ended " + nameOf(reason));
      over = true;
    }
    std::string action;
    std::map<int, std::string> received;
    Log log;
    bool over = false;
  };
  Reactor reactor;
  std::string ours;
  for (const Scenario& s : kScenarios) {
    const auto protocol = std::make_shared<Actor>();
    protocol->action = s.action;
    ProcessOptions options{.env = std::nullopt};
    options.usePTY = s.how == std::string("pty");
    if (s.how == std::string("extra")) options.childFDs = {{0, 'w'}, {1, 'r'}, {2, 'r'}, {4, 'r'}, {5, 'w'}};
    reactor.spawnProcess(protocol, "/bin/sh", {"sh", "-c", s.script}, options);
    runUntil(reactor, [&] { return protocol->over; });
    Log& log = protocol->log;
    CHECK(log.front() == "made");
    CHECK(log.back().starts_with("ended"));
    std::sort(log.begin() + 1, log.end() - 1);
    for (const auto& [fd, data] : protocol->received) log.push_back(std::to_string(fd) + ": " + repr(data));
    for (const std::string& entry : log) ours += (&entry == &log.front() ? "" : ", ") + entry;
    ours += '\n';
  }
  REQUIRE_MESSAGE(twisted.wait() == 0, twisted.output());
  CHECK(ours == twisted.output());
}

TEST_CASE("the reactor stops: pipes close, the child goes on, and is reaped when the reactor runs again") {
  Fixture f;
  f.sh("read x; exit 7");
  f.reactor.callWhenRunning([&] { f.reactor.stop(); });
  f.reactor.run(false);
  CHECK(f.protocol->log == Log{"made", "in lost", "out lost", "err lost"});
  f.end();
  CHECK(f.protocol->log.back() == "ended exit 7");
  CHECK(f.noChildren());
}

TEST_CASE("a transport that outlives its reactor is inert") {
  auto protocol = std::make_shared<Recorder>();
  int pid = 0;
  {
    Reactor reactor;
    reactor.spawnProcess(protocol, "/bin/sh", {"sh", "-c", "read x"});
    pid = protocol->transport().pid();
  }
  protocol->transport().write("x");
  protocol->transport().loseConnection();
  CHECK_THROWS_AS(protocol->transport().signalProcess("TERM"), ProcessExitedAlready);
  ::waitpid(pid, nullptr, 0);
}

TEST_CASE("getProcessOutput, getProcessValue, getProcessOutputAndValue") {
  ReactorFixture f;
  const std::string sh = "/bin/sh";
  CHECK(f.wait(getProcessOutput(f.reactor, sh, {"-c", "echo out; exit 5"})) == "out\n");
  CHECK(f.wait(getProcessOutput(f.reactor, sh, {"-c", "echo err >&2"}, {}, true)) == "err\n");
  CHECK_THROWS_AS(f.wait(getProcessOutput(f.reactor, sh, {"-c", "echo err >&2"})), UnexpectedErrorOutput);
  CHECK_THROWS_AS(f.wait(getProcessOutput(f.reactor, "/no/such")), std::system_error);
  CHECK(f.wait(getProcessValue(f.reactor, "true")) == 0);
  CHECK(f.wait(getProcessValue(f.reactor, sh, {"-c", "exit 5"})) == 5);
  CHECK_THROWS_AS(f.wait(getProcessValue(f.reactor, sh, {"-c", "kill -9 $$"})), ProcessTerminated);
  const ProcessOutput all = f.wait(getProcessOutputAndValue(f.reactor, sh, {"-c", "echo o; echo e >&2; exit 4"}));
  CHECK(all.out == "o\n");
  CHECK(all.err == "e\n");
  CHECK(all.code == 4);
  CHECK_THROWS_AS(f.wait(getProcessOutputAndValue(f.reactor, sh, {"-c", "kill -9 $$"})), ProcessSignalled);
  auto cancelled = getProcessValue(f.reactor, sh, {"-c", "read x"});
  cancelled.cancel();
  CHECK_THROWS(f.wait(std::move(cancelled)));
}

TEST_CASE("getProcessOutput and its kin kill what writes more than maxOutput") {
  ReactorFixture f;
  const std::vector<std::string> endless = {"-c", "while echo 0123456789; do :; done"};
  const ProcessOptions options{.maxOutput = 1000};
  CHECK_THROWS_AS(f.wait(getProcessOutput(f.reactor, "/bin/sh", endless, options)), ProcessOutputTooLong);
  CHECK_THROWS_AS(f.wait(getProcessOutputAndValue(f.reactor, "/bin/sh", endless, options)), ProcessOutputTooLong);
  runUntil(f.reactor, [] { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; });
}

}  // namespace

TEST_CASE("getProcessOutput and its kin give a program nothing to read") {
  Reactor reactor;
  std::optional<std::string> out;
  getProcessOutput(reactor, "/bin/cat").addCallback([&](std::string text) { out = std::move(text); });
  std::optional<int> code;
  getProcessValue(reactor, "/bin/sh", {"-c", "read line; exit 3"}).addCallback([&](int value) { code = value; });
  std::optional<ProcessOutput> all;
  getProcessOutputAndValue(reactor, "/bin/sh", {"-c", "cat; echo ended"}).addCallback([&](ProcessOutput output) {
    all = std::move(output);
  });
  runUntil(reactor, [&] { return out && code && all; });
  CHECK(out == "");
  CHECK(code == 3);
  CHECK(all->out == "ended\n");
}

TEST_CASE("getProcessOutput that gives up lets go of pipes that others write to") {
  Reactor reactor;
  std::optional<Failure> failure;
  // The shell's child ends by SIGPIPE, once nobody reads any more; else it would go on for a minute.
  const std::vector<std::string> writesOn = {"-c", "timeout 60 yes; true"};
  ProcessOptions options;
  SUBCASE("as it is too long") {
    options.maxOutput = 1000;
    getProcessOutput(reactor, "/bin/sh", writesOn, options).addErrback([&](const Failure& f) {
      failure = f;
      return std::string();
    });
    runUntil(reactor, [&] { return failure.has_value(); });
    CHECK(failure->check<ProcessOutputTooLong>());
  }
  SUBCASE("as it is cancelled") {
    auto d = getProcessOutput(reactor, "/bin/sh", writesOn, options);
    test::spin(reactor);
    d.cancel();
    d.addErrback([&](const Failure& f) {
      failure = f;
      return std::string();
    });
    CHECK(failure->check<CancelledError>());
  }
  // Nothing is left open, so that the fixture of a test that waits for that ends.
  runUntil(reactor, [&] { return detail::implOf(reactor).disconnectables().empty(); });
}

TEST_CASE("a program that cannot be run: the error says what failed") {
  Reactor reactor;
  const auto errorOf = [&](const std::string& executable, const ProcessOptions& options) -> std::string {
    try {
      reactor.spawnProcess(std::make_shared<ProcessProtocol>(), executable, {}, options);
    } catch (const std::exception& e) {
      return e.what();
    }
    return "none";
  };
  CHECK(errorOf("/no/such", {}) == "spawnProcess: cannot run /no/such: No such file or directory");
  CHECK(errorOf("/bin/true", {.path = "/no/such"}) ==
        "spawnProcess: cannot run /bin/true in the directory /no/such: No such file or directory");
  CHECK(errorOf("/bin/true", {.childFDs = {{0, 12345}}}) ==
        "spawnProcess: cannot run /bin/true: its descriptors or its terminal: Bad file descriptor");
  CHECK(errorOf("/bin/true", {.childFDs = {{std::numeric_limits<int>::max(), 'r'}}}).find("not 2147483647") !=
        std::string::npos);
  CHECK(errorOf("/bin/true", {.childFDs = {{-1, 'r'}}}).find("not -1") != std::string::npos);
  using namespace std::string_literals;
  CHECK(errorOf("/bin/true\0x"s, {}).find("NUL") != std::string::npos);
  CHECK(errorOf("/bin/true", {.path = "/\0x"s}).find("NUL") != std::string::npos);
  CHECK(errorOf("/bin/true", {.env = {{{"A", "\0"s}}}}).find("NUL") != std::string::npos);
  CHECK_THROWS_AS(reactor.spawnProcess(std::make_shared<ProcessProtocol>(), "/bin/true", {"a", "b\0c"s}),
                  std::invalid_argument);
}

TEST_CASE("getProcess...: reports name the user's line") {
  Reactor reactor;
  static unsigned line = 0;
  const auto before = setUnhandledFailureHandler(
      [](std::string_view, const Failure&, const std::source_location& made) { line = made.line(); });
  getProcessOutput(reactor, "/no/such");
  CHECK(line == __LINE__ - 1);
  getProcessValue(reactor, "/no/such");
  CHECK(line == __LINE__ - 1);
  getProcessOutputAndValue(reactor, "/no/such");
  CHECK(line == __LINE__ - 1);
  setUnhandledFailureHandler(before);
}
