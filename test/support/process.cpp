#include <test/support/process.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace torsion::test {

Process::Process(const std::vector<std::string>& arguments, std::string_view input, const std::string& directory) {
  std::string in = directory_.write("input", input);
  std::string out = directory_.path() + "/output";
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  if (!directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  int error = posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot run " + arguments[0] + ": " + std::strerror(error));
}

Process::~Process() {
  if (!running()) return;
  kill(pid_, SIGKILL);
  wait();
}

std::string Process::output() const {
  std::ifstream file(directory_.path() + "/output", std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string Process::waitFor(std::string_view text) {
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (;;) {
    bool alive = running();
    std::string got = output();
    if (got.find(text) != std::string::npos) return got;
    if (!alive || std::chrono::steady_clock::now() > limit) {
      throw std::runtime_error("waited in vain for \"" + std::string(text) + "\" in the output of a program: " + got);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

int Process::wait() {
  if (pid_ > 0) {
    while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
}

bool Process::running() {
  if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

namespace {
std::vector<std::string> serverArguments(const TemporaryDirectory& directory, const Issued& certificate,
                                         const std::vector<std::string>& more) {
  std::vector<std::string> all{"openssl", "s_server", "-accept", "127.0.0.1:0"};
  all.insert(all.end(), {"-cert", directory.write("cert.pem", certificate.certificate)});
  all.insert(all.end(), {"-key", directory.write("key.pem", certificate.privateKey)});
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
}  // namespace

OpenSSLServer::OpenSSLServer(const Issued& certificate, const std::vector<std::string>& arguments,
                             const std::vector<std::pair<std::string, std::string>>& files)
    : process_(serverArguments(directory_, certificate, arguments), {}, directory_.path()) {
  for (auto& [name, content] : files) directory_.write(name, content);
  std::string_view before = "ACCEPT 127.0.0.1:";
  for (;;) {
    std::string output = process_.waitFor(before);
    std::size_t at = output.find(before) + before.size();
    std::size_t end = output.find('\n', at);
    if (end == std::string::npos) continue;
    port_ = static_cast<std::uint16_t>(std::stoi(output.substr(at, end - at)));
    return;
  }
}

}  // namespace torsion::test
