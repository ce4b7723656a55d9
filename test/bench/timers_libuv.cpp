// Timers of libuv. Each timer lives in an array made beforehand, with a std::function for its callable, which a cancel
// destroys at once.
#include <uv.h>

#include <functional>
#include <utility>
#include <vector>

#include "timers.hpp"

namespace {

struct Timer {
  uv_timer_t handle;
  std::function<void()> callable;
};

struct Side {
  long& calls;
  uv_loop_t* loop = uv_default_loop();
  std::vector<Timer> timers = std::vector<Timer>(bench::kTimers);

  explicit Side(long& counter) : calls(counter) {
    for (Timer& timer : timers) {
      uv_timer_init(loop, &timer.handle);
      timer.handle.data = &timer;
    }
  }
  static void expired(uv_timer_t* handle) {
    const auto callable = std::exchange(static_cast<Timer*>(handle->data)->callable, nullptr);
    callable();
  }
  void schedule(std::size_t i, bench::milliseconds in) {
    timers[i].callable = [this, step = 1L] { calls += step; };
    uv_timer_start(&timers[i].handle, expired, in.count(), 0);
  }
  void postpone(std::size_t i, bench::milliseconds in) { uv_timer_start(&timers[i].handle, expired, in.count(), 0); }
  void cancel(std::size_t i) {
    uv_timer_stop(&timers[i].handle);
    timers[i].callable = nullptr;
  }
  void settle() { uv_update_time(loop); }
  void run(auto f, auto g) {
    f();
    g();
    uv_run(loop, UV_RUN_DEFAULT);
  }
};

}  // namespace

int main() {
  long calls = 0;
  Side side(calls);
  bench::timeTimers(side, calls);
}
