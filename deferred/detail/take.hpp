// Taking out what users gave us, before it is called or destroyed. A callback, protocol, observer or capture may, in
// its call and in its destructor, come back to the object that holds it: that one must be whole by then
// (docs/architecture.md).
#pragma once

#include <utility>

namespace torsion::detail {

// Moves the content of a container, optional, pointer or function out, and leaves that empty.
template <class T>
[[nodiscard]] T take(T& from) {
  T taken{};
  using std::swap;
  swap(taken, from);
  return taken;
}

// Takes the element at `at` out: of a map or set its node, else the value.
template <class C, class Iterator>
[[nodiscard]] auto takeAt(C& from, Iterator at) {
  if constexpr (requires { from.extract(at); }) {
    return from.extract(at);
  } else {
    auto taken = std::move(*at);
    from.erase(at);
    return taken;
  }
}

template <class C>
[[nodiscard]] auto takeFront(C& from) {
  return takeAt(from, from.begin());
}

// Destroys the content, once `from` is empty.
template <class T>
void drop(T& from) {
  static_cast<void>(take(from));
}

}  // namespace torsion::detail
