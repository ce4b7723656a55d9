// Asio's steady_timer, one a timer, in an array made beforehand. Postponing and cancelling include the turn of the loop
// that delivers operation_aborted and destroys the callables.
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "timers.hpp"

namespace asio = boost::asio;

namespace {

struct Side {
  long& calls;
  asio::io_context context{1};
  std::vector<asio::steady_timer> timers;

  explicit Side(long& counter) : calls(counter) {
    timers.reserve(bench::kTimers);
    for (std::size_t i = 0; i < bench::kTimers; ++i) timers.emplace_back(context);
  }
  void schedule(std::size_t i, bench::milliseconds in) {
    timers[i].expires_after(in);
    timers[i].async_wait([this, step = 1L](const boost::system::error_code& error) {
      if (!error) calls += step;
    });
  }
  void postpone(std::size_t i, bench::milliseconds in) { schedule(i, in); }
  void cancel(std::size_t i) { timers[i].cancel(); }
  void settle() {
    context.restart();
    context.poll();
  }
  void run(auto f, auto g) {
    f();
    g();
    context.restart();
    context.run();
  }
};

}  // namespace

int main() {
  long calls = 0;
  Side side(calls);
  bench::timeTimers(side, calls);
}
