// Runs a function on a stack of 512 KB, so that what must not recurse is seen not to.
#pragma once

#include <exception>
#include <functional>
#include <stdexcept>

#include <pthread.h>

inline void onSmallStack(std::function<void()> f) {
  struct Call {
    std::function<void()> f;
    std::exception_ptr thrown;
  } call{std::move(f), nullptr};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 512 * 1024);
  pthread_t thread;
  int error = pthread_create(
      &thread, &attributes,
      [](void* argument) -> void* {
        auto& call = *static_cast<Call*>(argument);
        try {
          call.f();
        } catch (...) {
          call.thrown = std::current_exception();
        }
        return nullptr;
      },
      &call);
  pthread_attr_destroy(&attributes);
  if (error) throw std::runtime_error("no thread with a small stack");
  pthread_join(thread, nullptr);
  if (call.thrown) std::rethrow_exception(call.thrown);
}
