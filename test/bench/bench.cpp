#include <dlfcn.h>
#include <unwind.h>

#include <cstdlib>
#include <new>

#include "bench.hpp"

std::size_t bench::allocations = 0;
std::size_t bench::thrown = 0;

void* operator new(std::size_t size) {
  ++bench::allocations;
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  std::free(block);
}
void operator delete[](void* block) noexcept {
  std::free(block);
}
void operator delete[](void* block, std::size_t) noexcept {
  std::free(block);
}

// Taken in place of the unwinder's own, which do the work: every throw and every exception thrown again passes here.
extern "C" _Unwind_Reason_Code _Unwind_RaiseException(_Unwind_Exception* exception) {
  static const auto next =
      reinterpret_cast<decltype(&_Unwind_RaiseException)>(dlsym(RTLD_NEXT, "_Unwind_RaiseException"));
  ++bench::thrown;
  return next(exception);
}
extern "C" _Unwind_Reason_Code _Unwind_Resume_or_Rethrow(_Unwind_Exception* exception) {
  static const auto next =
      reinterpret_cast<decltype(&_Unwind_Resume_or_Rethrow)>(dlsym(RTLD_NEXT, "_Unwind_Resume_or_Rethrow"));
  ++bench::thrown;
  return next(exception);
}
