// Real children: /bin/sh and the like.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/process.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/log_capture.hpp>
#include <reactor/testing/reactor_fixture.hpp>
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
