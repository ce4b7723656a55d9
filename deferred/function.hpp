// UniqueFunction: a move-only std::function, for callables that are called from one place and own what they capture.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace torsion {

template <class T>
class Deferred;
template <class Signature>
class UniqueFunction;

namespace detail {

template <class T>
inline constexpr bool isDeferred = false;
template <class T>
inline constexpr bool isDeferred<Deferred<T>> = true;

// Gives `deferred`, which keeps `kept` until it has fired. In deferred.hpp.
template <class T>
Deferred<T> keepUntilFired(Deferred<T> deferred, std::shared_ptr<void> kept);

// True of a callable that may be a lambda coroutine with captures: they live in the callable, which must therefore stay
// until the Deferred that it returned has fired.
template <class F, class... A>
constexpr bool mayBeCoroutine() {
  return isDeferred<std::invoke_result_t<F&, A...>> && std::is_class_v<F> && !std::is_empty_v<F>;
}

// Such a callable, kept for as long as that takes, also when this is gone by then.
template <class F>
class KeptCallable {
 public:
  template <class G>
  explicit KeptCallable(G&& f) : f_(std::make_shared<F>(std::forward<G>(f))) {}
  template <class... A>
  auto operator()(A&&... args) {
    const std::shared_ptr<F> f = f_;
    return keepUntilFired((*f)(std::forward<A>(args)...), f);
  }

 private:
  std::shared_ptr<F> f_;
};

}  // namespace detail

/// Holds any callable R(Args...), also a move-only one. A callable of up to 40 bytes that moves without throwing is
/// kept inside, a larger one on the heap. Empty without one, and of a null pointer or an empty std::function; calling
/// an empty one is undefined; test it with `if (f)`. It may be assigned to and reset while what it held is destroyed. A
/// callable that returns a Deferred stays until that has fired: it may be a lambda coroutine, whose captures it holds.
template <class R, class... Args>
class UniqueFunction<R(Args...)> {
 public:
  static constexpr std::size_t kInlineSize = 40;

  UniqueFunction() noexcept = default;
  UniqueFunction(std::nullptr_t) noexcept {}

  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
  UniqueFunction(F&& f) {
    using Callable = std::decay_t<F>;
    using Kept =
        std::conditional_t<detail::mayBeCoroutine<Callable, Args...>(), detail::KeptCallable<Callable>, Callable>;
    if constexpr (std::is_constructible_v<Callable, std::nullptr_t> && std::is_constructible_v<bool, Callable&>) {
      Callable callable(std::forward<F>(f));
      if (static_cast<bool>(callable)) put<Kept>(std::move(callable));
    } else {
      put<Kept>(std::forward<F>(f));
    }
  }

  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    if (this != &other) {
      UniqueFunction old(std::move(*this));
      take(other);
    }
    return *this;
  }
  ~UniqueFunction() {
    const Ops* ops = std::exchange(ops_, nullptr);
    if (ops && ops->destroy) ops->destroy(store_);
  }

  /// Destroys the callable.
  void reset() noexcept {
    if (ops_ && ops_->destroy) {
      const UniqueFunction old(std::move(*this));
    } else {
      ops_ = nullptr;
    }
  }

  R operator()(Args... args) { return ops_->call(store_, std::forward<Args>(args)...); }
  explicit operator bool() const noexcept { return ops_ != nullptr; }

 private:
  struct Ops {
    R (*call)(void*, Args&&...);
    void (*relocate)(void* from, void* to) noexcept;  // null: copying the bytes does it
    void (*destroy)(void*) noexcept;                  // null: there is nothing to do
  };

  template <class Callable, class F>
  void put(F&& f) {
    if constexpr (fitsInline<Callable>()) {
      ::new (static_cast<void*>(store_)) Callable(std::forward<F>(f));
    } else {
      ::new (static_cast<void*>(store_)) Callable*(new Callable(std::forward<F>(f)));
    }
    ops_ = &kOps<Callable>;
  }
  void take(UniqueFunction& other) noexcept {
    ops_ = std::exchange(other.ops_, nullptr);
    if (!ops_) return;
    if (ops_->relocate) {
      ops_->relocate(other.store_, store_);
    } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"  // Clang knows no -Wmaybe-uninitialized
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wuninitialized"  // a callable may fill less of it, or nothing
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
      std::memcpy(store_, other.store_, kInlineSize);
#pragma GCC diagnostic pop
    }
  }

  template <class F>
  static constexpr bool fitsInline() {
    return sizeof(F) <= kInlineSize && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;
  }
  template <class F>
  static F& target(void* store) noexcept {
    if constexpr (fitsInline<F>()) {
      return *std::launder(static_cast<F*>(store));
    } else {
      return **std::launder(static_cast<F**>(store));
    }
  }
  template <class F>
  static R invoke(void* store, Args&&... args) {
    if constexpr (std::is_void_v<R>) {
      target<F>(store)(std::forward<Args>(args)...);
    } else {
      return target<F>(store)(std::forward<Args>(args)...);
    }
  }
  template <class F>
  static void relocate(void* from, void* to) noexcept {
    F& old = target<F>(from);
    ::new (to) F(std::move(old));
    old.~F();
  }
  template <class F>
  static void destroy(void* store) noexcept {
    if constexpr (fitsInline<F>()) {
      target<F>(store).~F();
    } else {
      delete &target<F>(store);
    }
  }
  template <class F>
  static constexpr Ops makeOps() {
    Ops ops{&invoke<F>, nullptr, nullptr};
    if constexpr (fitsInline<F>() && !std::is_trivially_copyable_v<F>) ops.relocate = &relocate<F>;
    if constexpr (!fitsInline<F>() || !std::is_trivially_destructible_v<F>) ops.destroy = &destroy<F>;
    return ops;
  }
  template <class F>
  static constexpr Ops kOps = makeOps<F>();

  const Ops* ops_ = nullptr;
  alignas(void*) std::byte store_[kInlineSize];
};

}  // namespace torsion
