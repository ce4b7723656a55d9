#include <reactor/process.hpp>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/pipe.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

extern char** environ;

namespace torsion {
namespace detail {
namespace {

// waitid's idtype for a pidfd; glibc has it from 2.36 on.
constexpr idtype_t kPidfd = static_cast<idtype_t>(3);
constexpr unsigned kCloseRangeCloexec = 1U << 2;

[[noreturn]] void throwErrno(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), "spawnProcess: " + what);
}

std::vector<char*> pointersTo(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

// All that the child does between fork and exec, made before: in the child only async-signal-safe calls are made.
struct Launch {
  std::vector<std::string> candidates;
  std::vector<std::string> arguments, environment;
  std::vector<char*> argv, envp;
  std::string directory;
  std::vector<gid_t> groups;
  std::optional<unsigned> uid, gid;
  bool terminal = false;
  std::vector<std::pair<int, int>> descriptors;  // the child's number, and ours
  std::vector<int> moved;
  int firstFree = 3;  // above all of the child's
  rlim_t descriptorLimit = 1024;

  // What the child tells of, if it does not get to run the program.
  enum class Step : int { setUp, user, directory, program };
  struct Report {
    int error = 0;
    Step step = Step::setUp;
  };

  std::string because(Step step) const {
    switch (step) {
      case Step::setUp:
        return ": its descriptors or its terminal";
      case Step::user:
        return " as user " + std::to_string(uid.value_or(::geteuid())) + ", group " +
               std::to_string(gid.value_or(::getegid()));
      case Step::directory:
        return " in the directory " + directory;
      case Step::program:
        break;
    }
    return "";
  }

  [[noreturn]] void run(int report) noexcept {
    Report failed;
    failed.error = attempt(report, failed.step);
    [[maybe_unused]] const ssize_t n = ::write(report, &failed, sizeof failed);
    ::_exit(127);
  }

 private:
  // Gives errno; `report` may have another number then.
  int attempt(int& report, Step& step) noexcept {
    for (int s = 1; s < NSIG; ++s) ::signal(s, SIG_DFL);
    if (terminal && ::setsid() < 0) return errno;
    // Out of the way of the child's numbers first, so that any permutation works; dup2 clears CLOEXEC.
    const int movedReport = ::fcntl(report, F_DUPFD_CLOEXEC, firstFree);
    if (movedReport < 0) return errno;
    report = movedReport;
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      moved[i] = ::fcntl(descriptors[i].second, F_DUPFD_CLOEXEC, firstFree);
      if (moved[i] < 0) return errno;
    }
    if (::syscall(SYS_close_range, 0U, ~0U, kCloseRangeCloexec) < 0) {
      for (int fd = 0; static_cast<rlim_t>(fd) < descriptorLimit; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      if (::dup2(moved[i], descriptors[i].first) < 0) return errno;
    }
    if (terminal && ::ioctl(0, TIOCSCTTY, 0) < 0) return errno;
    // By system call: the C library's would look for other threads.
    step = Step::user;
    if ((uid || gid) && ::syscall(SYS_setgroups, groups.size(), groups.data()) < 0) return errno;
    if (gid && ::syscall(SYS_setgid, *gid) < 0) return errno;
    if (uid && ::syscall(SYS_setuid, *uid) < 0) return errno;
    step = Step::directory;
    if (!directory.empty() && ::chdir(directory.c_str()) < 0) return errno;
    step = Step::program;
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    int error = ENOENT;
    for (const std::string& candidate : candidates) {
      ::execve(candidate.c_str(), argv.data(), envp.data());
      if (errno != ENOENT && errno != ENOTDIR) error = errno;
      if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) break;
    }
    return error;
  }
};

void refuseNUL(const std::string& text, const char* what) {
  if (text.find('\0') == std::string::npos) return;
  throw std::invalid_argument("spawnProcess: " + std::string(what) + " contains a NUL byte: " + text.c_str() +
                              "\\0...");
}

Launch launchFor(const std::string& executable, const std::vector<std::string>& args, const ProcessOptions& options) {
  refuseNUL(executable, "the executable's name");
  refuseNUL(options.path, "the directory's name");
  for (const std::string& argument : args) refuseNUL(argument, "an argument");
  if (options.env) {
    for (const auto& [name, value] : *options.env) refuseNUL(name + '=' + value, "the environment");
  }
  Launch launch;
  launch.arguments = args.empty() ? std::vector<std::string>{executable} : args;
  if (options.env) {
    for (const auto& [name, value] : *options.env) launch.environment.push_back(name + '=' + value);
  } else {
    for (char** entry = environ; *entry; ++entry) launch.environment.emplace_back(*entry);
  }
  if (executable.find('/') != std::string::npos) {
    launch.candidates.push_back(executable);
  } else {
    std::string path = "/usr/local/bin:/usr/bin:/bin";
    for (const std::string& entry : launch.environment) {
      if (entry.starts_with("PATH=")) path = entry.substr(5);
    }
    for (std::size_t at = 0; at <= path.size();) {
      const std::size_t end = std::min(path.find(':', at), path.size());
      const std::string directory = path.substr(at, end - at);
      launch.candidates.push_back((directory.empty() ? "." : directory) + '/' + executable);
      at = end + 1;
    }
  }
  launch.argv = pointersTo(launch.arguments);
  launch.envp = pointersTo(launch.environment);
  launch.directory = options.path;
  launch.uid = options.uid;
  launch.gid = options.gid;
  if (options.uid) {
    const passwd* user = ::getpwuid(*options.uid);
    const gid_t group = options.gid.value_or(user ? user->pw_gid : ::getgid());
    launch.groups = {group};
    if (user) {
      int count = 256;
      launch.groups.resize(256);
      ::getgrouplist(user->pw_name, group, launch.groups.data(), &count);
      launch.groups.resize(static_cast<std::size_t>(std::clamp(count, 0, 256)));
    }
  } else if (options.gid) {
    launch.groups = {*options.gid};
  }
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) launch.descriptorLimit = std::min<rlim_t>(limit.rlim_cur, 1 << 20);
  for (const auto& [childFD, what] : options.childFDs) {
    if (childFD >= 0 && static_cast<rlim_t>(childFD) < launch.descriptorLimit) continue;
    throw std::invalid_argument("spawnProcess: a child's descriptor is between 0 and " +
                                std::to_string(launch.descriptorLimit - 1) + ", not " + std::to_string(childFD));
  }
  return launch;
}

std::pair<UniqueFd, UniqueFd> makePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) throwErrno(errno, "cannot make a pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void setNonBlocking(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

class Process final : public ProcessTransport,
                      public Disconnectable,
                      public Watcher,
                      public PipeUser,
                      public std::enable_shared_from_this<Process> {
 public:
  Process(ReactorImpl& reactor, std::shared_ptr<ProcessProtocol> protocol, std::string name,
          const std::source_location& where)
      : Disconnectable(reactor, where), reactor_(reactor), protocol_(std::move(protocol)), name_(std::move(name)) {}
  ~Process() override { closePipes(); }

  void spawn(const std::vector<std::string>& args, const ProcessOptions& options) {
    Launch launch = launchFor(name_, args, options);
    std::vector<UniqueFd> childEnds;
    terminal_ = options.usePTY;
    if (terminal_) {
      childEnds.push_back(openTerminal());
      for (int fd = 0; fd < 3; ++fd) launch.descriptors.emplace_back(fd, childEnds.back().get());
    } else {
      for (const auto& [childFD, what] : options.childFDs) {
        if (const int* fd = std::get_if<int>(&what)) {
          launch.descriptors.emplace_back(childFD, *fd);
          continue;
        }
        const char direction = std::get<char>(what);
        if (direction != 'r' && direction != 'w') {
          throw std::invalid_argument("spawnProcess: a child's descriptor is a number, 'r' or 'w'");
        }
        auto [readEnd, writeEnd] = makePipe();
        const bool reads = direction == 'r';
        addPipe(childFD, reads, std::move(reads ? readEnd : writeEnd));
        childEnds.push_back(std::move(reads ? writeEnd : readEnd));
        launch.descriptors.emplace_back(childFD, childEnds.back().get());
      }
    }
    for (const auto& [childFD, fd] : launch.descriptors) launch.firstFree = std::max(launch.firstFree, childFD + 1);
    launch.moved.resize(launch.descriptors.size());
    launch.terminal = terminal_;
    forkAndExec(launch);
    self_ = shared_from_this();
    for (auto& [fd, reader] : readers_) reader->start();
    for (auto& [fd, writer] : writers_) writer->start();
    guarded([&] { protocol_->makeConnection(self_); });
  }

  int pid() const noexcept override { return pid_; }
  std::string describe() const override { return "process " + std::to_string(pid_) + " (" + name_ + ")"; }

  void write(std::string_view data) override {
    if (const auto writer = writers_.find(0); writer != writers_.end()) writer->second->write(data);
  }
  void writeToChild(int childFD, std::string_view data) override {
    if (const auto writer = writers_.find(childFD); writer != writers_.end()) return writer->second->write(data);
    checkKnown(childFD, true);
  }
  void closeChildFD(int childFD) override {
    if (terminal_ && childFD <= 2) return;
    if (const auto writer = writers_.find(childFD); writer != writers_.end()) return writer->second->closeWhenEmpty();
    if (const auto reader = readers_.find(childFD); reader != readers_.end()) return reader->second->lose();
    checkKnown(childFD, false);
  }
  void loseConnection() override {
    for (int fd = 0; fd < 3; ++fd) {
      if (const auto writer = writers_.find(fd); writer != writers_.end()) writer->second->closeWhenEmpty();
      if (const auto reader = readers_.find(fd); reader != readers_.end()) reader->second->lose();
    }
  }

  // By the pidfd, so that it never reaches another process that has the number by now.
  void signalProcess(int signal) override {
    if (!pidfd_ || ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) < 0) {
      if (pidfd_ && errno != ESRCH) throw std::system_error(errno, std::generic_category(), "signalProcess: " + name_);
      throw ProcessExitedAlready("signalProcess: " + name_ + " has ended already");
    }
  }
  void signalProcess(std::string_view name) override {
    if (name.starts_with("SIG")) name.remove_prefix(3);
    for (int signal = 1; signal < NSIG; ++signal) {
      const char* known = ::sigabbrev_np(signal);
      if (known && name == known) return signalProcess(signal);
    }
    throw std::invalid_argument("signalProcess: there is no signal " + std::string(name));
  }

  void registerProducer(Producer& producer, bool streaming) override {
    const auto writer = writers_.find(0);
    if (writer == writers_.end()) return producer.stopProducing();
    writer->second->registerProducer(producer, streaming);
  }
  void unregisterProducer() override {
    if (const auto writer = writers_.find(0); writer != writers_.end()) writer->second->unregisterProducer();
  }
  void pauseProducing() override {
    for (auto& [fd, reader] : readers_) reader->pause();
  }
  void resumeProducing() override {
    for (auto& [fd, reader] : readers_) reader->resume();
  }

  // ---- from the pipes and the poller

  void pipeData(int id, std::string_view data) override {
    guarded([&] { protocol_->childDataReceived(id, data); });
  }
  void pipeDrained(int) override {}
  void pipeClosed(int id, const Failure&) override {
    const auto self = shared_from_this();
    forget(id);
    if (!terminal_) {
      guarded([&] { protocol_->childConnectionLost(id); });
    } else if (id == 1) {
      loseConnection();
    }
    endIfOver();
  }

  void ready(std::uint32_t) override {
    const auto self = shared_from_this();
    if (!reap()) return;
    guarded([&] { protocol_->processExited(*reason_); });
    endIfOver();
  }

  // Its pipes close, and the process goes on; as long as the reactor lives it is still reaped.
  void shutdown() override {
    const auto self = shared_from_this();
    if (reactor_.closing) {
      reap();
      if (pidfd_) {
        reactor_.poller.remove(pidfd_.get(), *this);
        pidfd_.reset();
        pid_ = 0;
      }
      dropProducers();
      closePipes();
      protocol_.reset();
      self_.reset();
      return;
    }
    enter(reactor_);
    std::vector<int> open;
    for (auto& [fd, reader] : readers_) open.push_back(fd);
    for (auto& [fd, writer] : writers_) open.push_back(fd);
    std::sort(open.begin(), open.end());
    dropProducers();
    closePipes();
    for (const int fd : open) {
      if (!terminal_) guarded([&] { protocol_->childConnectionLost(fd); });
    }
    endIfOver();
  }

 private:
  template <class F>
  void guarded(F&& f) {
    if (!protocol_) return;
    const auto protocol = protocol_;
    try {
      f();
    } catch (...) {
      reactor_.logCurrentException("a process protocol threw; its pipes close");
      for (auto& [fd, reader] : readers_) reader->lose();
      for (auto& [fd, writer] : writers_) writer->lose(ConnectionLost());
    }
  }

  void addPipe(int childFD, bool reads, UniqueFd fd) {
    known_[childFD] = !reads;
    setNonBlocking(fd.get());
    if (reads) {
      readers_[childFD] = std::make_shared<PipeReader>(reactor_, *this, childFD, std::move(fd));
    } else {
      writers_[childFD] = std::make_shared<PipeWriter>(reactor_, *this, childFD, std::move(fd));
    }
  }
  UniqueFd openTerminal() {
    UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    char name[128];
    if (!master || ::grantpt(master.get()) < 0 || ::unlockpt(master.get()) < 0 ||
        ::ptsname_r(master.get(), name, sizeof name) != 0) {
      throwErrno(errno, "cannot make a pseudo-terminal");
    }
    UniqueFd slave(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    UniqueFd second(::fcntl(master.get(), F_DUPFD_CLOEXEC, 0));
    if (!slave || !second) throwErrno(errno, "cannot open a pseudo-terminal");
    addPipe(1, true, std::move(master));
    addPipe(0, false, std::move(second));
    return slave;
  }

  void forkAndExec(Launch& launch) {
    auto [reportRead, reportWrite] = makePipe();
    // No handler of ours may run in the child.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const pid_t pid = ::fork();
    if (pid == 0) launch.run(reportWrite.get());
    const int forkError = errno;
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    if (pid < 0) throwErrno(forkError, "cannot fork to run " + name_);
    reportWrite.reset();
    Launch::Report failure;
    ssize_t n;
    do {
      n = ::read(reportRead.get(), &failure, sizeof failure);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
      while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      }
      throwErrno(failure.error, "cannot run " + name_ + launch.because(failure.step));
    }
    pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    int failed = pidfd_ ? 0 : errno;
    if (!failed) failed = reactor_.poller.add(pidfd_.get(), EPOLLIN, *this);
    if (failed) {
      ::kill(pid, SIGKILL);
      while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      }
      pidfd_.reset();
      throwErrno(failed, "cannot watch the process that runs " + name_ + " (Linux 5.4 or newer is needed)");
    }
    pid_ = pid;
  }

  // True if it has ended.
  bool reap() {
    if (!pidfd_) return false;
    siginfo_t info{};
    if (::waitid(kPidfd, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) == 0) {
      if (info.si_pid == 0) return false;
      if (info.si_code != CLD_EXITED) {
        reason_ = ProcessTerminated(std::nullopt, info.si_status);
      } else if (info.si_status != 0) {
        reason_ = ProcessTerminated(info.si_status, std::nullopt);
      } else {
        reason_ = ProcessDone();
      }
    } else if (errno == ECHILD) {  // SIGCHLD is ignored, or somebody else has waited for it: its status is lost
      reason_ = ProcessTerminated(std::nullopt, std::nullopt);
    } else {
      return false;
    }
    reactor_.poller.remove(pidfd_.get(), *this);
    pidfd_.reset();
    pid_ = 0;
    return true;
  }

  void forget(int id) {
    if (const auto reader = readers_.find(id); reader != readers_.end()) readers_.erase(reader);
    if (const auto found = writers_.find(id); found != writers_.end()) {
      const auto writer = found->second;
      writers_.erase(found);
      writer->stopProducer();
    }
  }
  void dropProducers() {
    for (auto& [fd, writer] : std::map(writers_)) writer->stopProducer();
  }
  void closePipes() {
    for (auto& [fd, reader] : std::exchange(readers_, {})) reader->close();
    for (auto& [fd, writer] : std::exchange(writers_, {})) writer->close();
  }
  void endIfOver() {
    if (!reason_ || !readers_.empty() || !writers_.empty() || !protocol_) return;
    leave();
    guarded([&] { protocol_->processEnded(*reason_); });
    protocol_.reset();
    self_.reset();
  }
  void checkKnown(int childFD, bool written) const {
    const auto found = known_.find(childFD);
    if (found != known_.end() && (found->second || !written)) return;  // closed by now
    throw std::out_of_range("the process " + name_ + " has no pipe " + std::to_string(childFD) +
                            (written ? " to write to" : "") + "; see childFDs of spawnProcess");
  }

  ReactorImpl& reactor_;
  std::shared_ptr<ProcessProtocol> protocol_;  // until processEnded
  std::shared_ptr<Process> self_;              // likewise
  const std::string name_;
  std::map<int, bool> known_;  // all that there were; true: written to
  std::map<int, std::shared_ptr<PipeReader>> readers_;
  std::map<int, std::shared_ptr<PipeWriter>> writers_;
  UniqueFd pidfd_;
  int pid_ = 0;
  bool terminal_ = false;
  std::optional<Failure> reason_;
};

std::string terminatedText(std::optional<int> exitCode, std::optional<int> signal) {
  std::string text = "A process has ended with a probable error condition: process ended";
  if (exitCode) text += " with exit code " + std::to_string(*exitCode);
  if (signal) text += " by signal " + std::to_string(*signal);
  return text + '.';
}

// What the getProcess... functions listen with.
template <class T>
class Getter : public ProcessProtocol {
 public:
  Deferred<T> run(Reactor& reactor, std::shared_ptr<Getter> self, const std::string& executable,
                  std::vector<std::string> args, const ProcessOptions& options, const std::source_location& where) {
    args.insert(args.begin(), executable);
    room_ = options.maxOutput;
    try {
      const auto process = reactor.spawnProcess(self, executable, args, options, where);
      // There is nothing for it to read, and nobody else who could say so.
      const auto input = options.childFDs.find(0);
      if (!options.usePTY && input != options.childFDs.end() && input->second == ProcessOptions::ChildFD('w')) {
        process->closeStdin();
      }
      resolver_.emplace(where);
      resolver_->onCancel([getter = std::weak_ptr<Getter>(self)](const Resolver<T>&) {
        if (const auto running = getter.lock()) running->giveUp();
      });
      return resolver_->deferred();
    } catch (...) {
      return fail<T>(Failure::current(), where);
    }
  }

 protected:
  void collect(std::string& to, std::string_view data) {
    if (!resolver_) return;
    if (data.size() > room_) {
      return giveUp().errback(ProcessOutputTooLong(
          "the process wrote more than ProcessOptions::maxOutput allows, and was killed; spawnProcess has no limit"));
    }
    room_ -= data.size();
    to += data;
  }
  Resolver<T> giveUp() {
    Resolver<T> resolver = std::move(*resolver_);
    resolver_.reset();
    if (transport().pid() != 0) transport().signalProcess(SIGKILL);
    transport().loseConnection();  // a child of its own may have the pipes, too, and write on
    return resolver;
  }
  std::optional<Resolver<T>> resolver_;

 private:
  std::size_t room_ = 0;
};

}  // namespace
}  // namespace detail

ProcessTerminated::ProcessTerminated(std::optional<int> exitCode_, std::optional<int> signal_)
    : runtime_error(detail::terminatedText(exitCode_, signal_)), exitCode(exitCode_), signal(signal_) {}
ProcessSignalled::ProcessSignalled(std::string out_, std::string err_, int signal_)
    : runtime_error("the process was ended by signal " + std::to_string(signal_)),
      out(std::move(out_)),
      err(std::move(err_)),
      signal(signal_) {}
UnexpectedErrorOutput::UnexpectedErrorOutput(std::string text_)
    : runtime_error("got stderr: " + text_), text(std::move(text_)) {}

void ProcessProtocol::childDataReceived(int childFD, std::string_view data) {
  if (childFD == 1) outReceived(data);
  if (childFD == 2) errReceived(data);
}
void ProcessProtocol::childConnectionLost(int childFD) {
  if (childFD == 0) inConnectionLost();
  if (childFD == 1) outConnectionLost();
  if (childFD == 2) errConnectionLost();
}
ProcessTransport& ProcessProtocol::transport() const {
  if (!transport_) throw std::logic_error("transport(): the process was not spawned yet; see connectionMade");
  return *transport_;
}
void ProcessProtocol::makeConnection(std::shared_ptr<ProcessTransport> transport) {
  transport_ = std::move(transport);
  connectionMade();
}

std::shared_ptr<ProcessTransport> Reactor::spawnProcess(std::shared_ptr<ProcessProtocol> protocol,
                                                        const std::string& executable,
                                                        const std::vector<std::string>& args,
                                                        const ProcessOptions& options, std::source_location where) {
  impl_->checkUsable();
  detail::require(protocol, "spawnProcess: there is no protocol");
  const auto process = std::make_shared<detail::Process>(*impl_, std::move(protocol), executable, where);
  process->spawn(args, options);
  return process;
}
std::shared_ptr<ProcessTransport> Reactor::spawnProcess(std::shared_ptr<ProcessProtocol> protocol,
                                                        const std::string& executable,
                                                        const std::vector<std::string>& args,
                                                        std::source_location where) {
  return spawnProcess(std::move(protocol), executable, args, ProcessOptions(), where);
}

Deferred<std::string> getProcessOutput(Reactor& reactor, const std::string& executable,
                                       const std::vector<std::string>& args, ProcessOptions options, bool errortoo,
                                       std::source_location where) {
  struct Output final : detail::Getter<std::string> {
    explicit Output(bool errortoo) : errortoo(errortoo) {}
    void outReceived(std::string_view data) override { collect(out, data); }
    void errReceived(std::string_view data) override {
      if (errortoo) {
        collect(out, data);
      } else if (auto resolver = std::exchange(resolver_, std::nullopt)) {
        transport().loseConnection();
        resolver->errback(UnexpectedErrorOutput(std::string(data)));
      }
    }
    void processEnded(const Failure&) override {
      if (resolver_) resolver_->callback(std::move(out));
    }
    bool errortoo;
    std::string out;
  };
  const auto protocol = std::make_shared<Output>(errortoo);
  return protocol->run(reactor, protocol, executable, args, options, where);
}

Deferred<int> getProcessValue(Reactor& reactor, const std::string& executable, const std::vector<std::string>& args,
                              ProcessOptions options, std::source_location where) {
  struct Value final : detail::Getter<int> {
    void processEnded(const Failure& reason) override {
      if (!resolver_) return;
      const auto* error = reason.get<ProcessTerminated>();
      if (error && !error->exitCode) return resolver_->errback(reason);
      resolver_->callback(error ? *error->exitCode : 0);
    }
  };
  const auto protocol = std::make_shared<Value>();
  return protocol->run(reactor, protocol, executable, args, options, where);
}

Deferred<ProcessOutput> getProcessOutputAndValue(Reactor& reactor, const std::string& executable,
                                                 const std::vector<std::string>& args, ProcessOptions options,
                                                 std::source_location where) {
  struct All final : detail::Getter<ProcessOutput> {
    void outReceived(std::string_view data) override { collect(out, data); }
    void errReceived(std::string_view data) override { collect(err, data); }
    void processEnded(const Failure& reason) override {
      if (!resolver_) return;
      const auto* error = reason.get<ProcessTerminated>();
      if (error && !error->exitCode) {
        return resolver_->errback(ProcessSignalled(std::move(out), std::move(err), error->signal.value_or(0)));
      }
      resolver_->callback(ProcessOutput{std::move(out), std::move(err), error ? *error->exitCode : 0});
    }
    std::string out, err;
  };
  const auto protocol = std::make_shared<All>();
  return protocol->run(reactor, protocol, executable, args, options, where);
}

}  // namespace torsion
