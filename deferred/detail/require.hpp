// What a user must give: a null pointer or an empty function is refused where it is given, not when it is called.
#pragma once

#include <cstddef>
#include <type_traits>

namespace torsion::detail {

// Throws std::invalid_argument(message).
[[noreturn]] void throwInvalidArgument(const char* message);

template <class T>
void require(const T& given, const char* message) {
  if (!given) [[unlikely]]
    throwInvalidArgument(message);
}

// The same of any callable: a null function pointer, or an empty std::function.
template <class F>
void requireCallable(const F& f, const char* message) {
  if constexpr (std::is_constructible_v<F, std::nullptr_t> && std::is_constructible_v<bool, const F&>) {
    require(f, message);
  }
}

// The same for a constructor: gives what was given.
template <class T>
T required(T given, const char* message) {
  require(given, message);
  return given;
}

}  // namespace torsion::detail
