// AMP, both ends of Torsion's: `amp_torsion` prints its port and answers; `amp_torsion PORT PID` calls the server
// there, process PID, 50 calls under way on one connection, and reports
//   rate    calls a second
//   server  us of CPU time a call, of the server
//   client  the same of the client
#include <ctime>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <variant>

#include <protocols/amp.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/reactor.hpp>
#include <test/support/amp_commands.hpp>

#include "bench.hpp"
#include "echo.hpp"

using namespace torsion;
using namespace std::chrono_literals;

namespace {

constexpr int kUnderWay = 50;

using test::Sum;

struct Math : amp::AMP {
  Math() {
    respond<Sum>([](Sum::Arguments a) { return Sum::Response{a.a + a.b}; });
  }
};

class Caller {
 public:
  Caller(std::shared_ptr<amp::AMP> amp, pid_t server) : amp_(std::move(amp)) {
    clock_getcpuclockid(server, &server_);
    for (int i = 0; i < kUnderWay; ++i) call();
    reactor().callLater(300ms, [this] {
      calls_ = 0;
      wall_ = bench::wallTime();
      own_ = bench::cpuTime();
      servers_ = serversCPU();
    });
    reactor().callLater(1500ms, [this] { report(); });
  }

 private:
  void call() {
    amp_->callRemote<Sum>({calls_, 81}).addCallback([this](Sum::Response response) {
      if (response.total < 81) std::abort();
      ++calls_;
      call();
    });
  }
  void report() {
    const auto calls = double(calls_);
    bench::report("rate", calls / (bench::wallTime() - wall_) * 1e9);
    bench::report("server", (serversCPU() - servers_) / 1e3 / calls);
    bench::report("client", (bench::cpuTime() - own_) / 1e3 / calls);
    std::fflush(stdout);
    std::_Exit(0);
  }
  double serversCPU() const {
    timespec now;
    clock_gettime(server_, &now);
    return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
  }

  std::shared_ptr<amp::AMP> amp_;
  clockid_t server_{};
  std::int64_t calls_ = 0;
  double wall_ = 0, own_ = 0, servers_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    const auto port = reactor().listenTCP(0, forProtocol<Math>(), bench::kBacklog, "127.0.0.1");
    bench::serving(std::get<IPv4Address>(port->getHost()).port);
    reactor().run();
    return 0;
  }
  TCP4ClientEndpoint endpoint("127.0.0.1", static_cast<std::uint16_t>(std::atoi(argv[1])));
  std::unique_ptr<Caller> caller;
  reactor().callWhenRunning([&] {
    connectProtocol(endpoint, std::make_shared<amp::AMP>()).addCallback([&](std::shared_ptr<amp::AMP> amp) {
      caller = std::make_unique<Caller>(std::move(amp), std::atoi(argv[2]));
    });
  });
  reactor().run();
}
