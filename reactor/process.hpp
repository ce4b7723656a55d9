// Child processes (twisted.internet.protocol.ProcessProtocol, reactor.spawnProcess, twisted.internet.utils).
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <reactor/reactor.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// The reason of processEnded for a process that exited with status 0.
struct ProcessDone : std::runtime_error {
  ProcessDone() : runtime_error("A process has ended without apparent errors: process finished with exit code 0.") {}
};
/// The same for one that exited with another status, or that a signal ended.
struct ProcessTerminated : std::runtime_error {
  ProcessTerminated(std::optional<int> exitCode, std::optional<int> signal);
  std::optional<int> exitCode;
  std::optional<int> signal;
};

/// A running child process as its ProcessProtocol sees it (Twisted's IProcessTransport). As a Producer it is what the
/// child writes. It closes nothing by itself; a child that is not told to end goes on.
class ProcessTransport : public Producer {
 public:
  virtual ~ProcessTransport() = default;

  /// Its process id; 0 once it has ended.
  virtual int pid() const noexcept = 0;

  /// Queues `data` for the child's standard input. Ignored when that is closed.
  virtual void write(std::string_view data) = 0;
  /// The same for another descriptor of the child. Throws std::out_of_range if it is not one that this side writes.
  virtual void writeToChild(int childFD, std::string_view data) = 0;
  /// Closes this side's end of a pipe: at once if it is read from, after what is queued if it is written to. Its
  /// ...ConnectionLost follows. Throws std::out_of_range for a descriptor that spawnProcess made no pipe for.
  virtual void closeChildFD(int childFD) = 0;
  void closeStdin() { closeChildFD(0); }
  void closeStdout() { closeChildFD(1); }
  void closeStderr() { closeChildFD(2); }
  /// Closes standard input, output and error. The child is not otherwise told to end.
  virtual void loseConnection() = 0;

  /// Sends a signal: a number, or "HUP", "INT", "KILL", "STOP", "TERM" (more: see signal(7)) with or without "SIG".
  /// Throws ProcessExitedAlready, or std::invalid_argument for an unknown name.
  virtual void signalProcess(int signal) = 0;
  virtual void signalProcess(std::string_view name) = 0;

  /// What fills the child's standard input; see Transport::registerProducer.
  virtual void registerProducer(Producer& producer, bool streaming) = 0;
  virtual void unregisterProducer() = 0;

  void stopProducing() override { loseConnection(); }
};

/// What happens with a child process (Twisted's ProcessProtocol). Derive from it and override what you need; the
/// reactor keeps it until processEnded has returned. What it throws is logged, and closes the pipes.
///
///   struct WordCount : ProcessProtocol {
///     void connectionMade() override { transport().write("one two"); transport().closeStdin(); }
///     void outReceived(std::string_view data) override { std::cout << data; }
///   };
///   reactor().spawnProcess(std::make_shared<WordCount>(), "wc", {"wc", "-w"}, {.env = std::nullopt});
class ProcessProtocol {
 public:
  virtual ~ProcessProtocol() = default;

  /// The process runs. Called by spawnProcess before it returns.
  virtual void connectionMade() {}
  virtual void outReceived(std::string_view data) { (void)data; }
  virtual void errReceived(std::string_view data) { (void)data; }
  /// What came from any descriptor; by default outReceived for 1 and errReceived for 2.
  virtual void childDataReceived(int childFD, std::string_view data);
  virtual void inConnectionLost() {}
  virtual void outConnectionLost() {}
  virtual void errConnectionLost() {}
  /// A pipe is closed; by default calls one of the above.
  virtual void childConnectionLost(int childFD);
  /// It has exited; what it wrote may still arrive. `reason` is ProcessDone or ProcessTerminated.
  virtual void processExited(const Failure& reason) { (void)reason; }
  /// It has exited and all pipes are closed: the last call.
  virtual void processEnded(const Failure& reason) { (void)reason; }

  /// Throws std::logic_error before connectionMade.
  ProcessTransport& transport() const;
  /// Called by spawnProcess: attaches `transport` and calls connectionMade().
  void makeConnection(std::shared_ptr<ProcessTransport> transport);

 private:
  std::shared_ptr<ProcessTransport> transport_;
};

/// How spawnProcess runs a program.
struct ProcessOptions {
  /// What a descriptor of the child is: a descriptor of this process, or a pipe from which this side 'r'eads or to
  /// which it 'w'rites.
  using ChildFD = std::variant<int, char>;

  /// Its environment (PATH in it is where the program is sought): empty as in Twisted; nullopt for this process's own.
  std::optional<std::map<std::string, std::string>> env = std::map<std::string, std::string>();
  /// Its directory; empty for this process's own.
  std::string path = {};
  /// Who it runs as; only root may ask for it.
  std::optional<unsigned> uid = {};
  std::optional<unsigned> gid = {};
  /// Descriptors 0 to 2 are a new terminal: what the child prints comes as outReceived, write() types. childFDs is not
  /// looked at, close...() of those does nothing and no ...ConnectionLost comes.
  bool usePTY = false;
  /// All its descriptors: it gets no others.
  std::map<int, ChildFD> childFDs = {{0, 'w'}, {1, 'r'}, {2, 'r'}};
  /// Bytes of output and errors together that getProcessOutput and its kin take in before they kill it.
  std::size_t maxOutput = 64 << 20;
};

/// What getProcessOutputAndValue gives.
struct ProcessOutput {
  std::string out;
  std::string err;
  int code;
};
/// getProcessOutputAndValue: a signal ended it.
struct ProcessSignalled : std::runtime_error {
  ProcessSignalled(std::string out, std::string err, int signal);
  std::string out;
  std::string err;
  int signal;
};
/// getProcessOutput: it wrote to standard error.
struct UnexpectedErrorOutput : std::runtime_error {
  explicit UnexpectedErrorOutput(std::string text);
  std::string text;
};
/// getProcessOutput and its kin: it wrote more than ProcessOptions::maxOutput, and was killed.
struct ProcessOutputTooLong : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Runs `executable` with `args` (without argv[0]) and fires with what it printed when it has ended, however it did.
/// Fails with UnexpectedErrorOutput as soon as it writes to standard error, or `errortoo`, takes that in as well.
/// Fails with std::system_error if it cannot be run, ProcessOutputTooLong above options.maxOutput. cancel() kills it.
/// Its standard input is at its end from the start.
Deferred<std::string> getProcessOutput(Reactor& reactor, const std::string& executable,
                                       const std::vector<std::string>& args = {}, ProcessOptions options = {},
                                       bool errortoo = false,
                                       std::source_location where = std::source_location::current());
/// The same, for its exit code; what it prints is dropped. Fails with ProcessTerminated if a signal ended it.
Deferred<int> getProcessValue(Reactor& reactor, const std::string& executable,
                              const std::vector<std::string>& args = {}, ProcessOptions options = {},
                              std::source_location where = std::source_location::current());
/// The same, for all three. Fails with ProcessSignalled if a signal ended it.
Deferred<ProcessOutput> getProcessOutputAndValue(Reactor& reactor, const std::string& executable,
                                                 const std::vector<std::string>& args = {}, ProcessOptions options = {},
                                                 std::source_location where = std::source_location::current());

}  // namespace torsion
