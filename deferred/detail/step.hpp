// The links of a chain that run users' callbacks, and the compile-time checks of these.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include <deferred/detail/chain.hpp>
#include <deferred/detail/require.hpp>

namespace torsion {

template <class T>
class Resolver;

namespace detail {

template <class T>
using Stored = std::conditional_t<std::is_void_v<T>, Unit, T>;

struct NoCallback {};

// What a wrong use gives after its static_assert: anything goes with it, so that there is no second error.
struct WrongUse {
  WrongUse addCallback(auto&&...) const { return {}; }
  WrongUse addErrback(auto&&...) const { return {}; }
  WrongUse addCallbacks(auto&&...) const { return {}; }
  WrongUse addBoth(auto&&...) const { return {}; }
  WrongUse addTimeout(auto&&...) const { return {}; }
  Deferred<void> chainDeferred(auto&&...) const;
  template <class T>
  operator Deferred<T>() const;
};

// True of what one might take for Twisted's Deferred(canceller).
template <class T, class F>
constexpr bool looksLikeCanceller() {
  if constexpr (std::is_class_v<F> || std::is_function_v<std::remove_pointer_t<F>>) {
    return std::is_invocable_v<F&, const Resolver<T>&> || std::is_invocable_v<F&, Deferred<T>&> ||
           std::is_invocable_v<F&>;
  } else {
    return false;
  }
}

[[noreturn]] void throwMovedFrom(const std::source_location& where);
[[noreturn]] void throwNotItself(Chain& chain);

// ---- what a callback returns, and the type of the chain after it
template <class R>
struct Returned {
  using Type = R;
  static constexpr bool isDeferred = false, isFailure = false;
};
template <class T>
struct Returned<Deferred<T>> {
  using Type = T;
  static constexpr bool isDeferred = true, isFailure = false;
};
template <class T>
struct Returned<Result<T>> {
  using Type = T;
  static constexpr bool isDeferred = false, isFailure = false;
};
template <>
struct Returned<Failure> {
  using Type = void;
  static constexpr bool isDeferred = false, isFailure = true;
};

template <class T, class F>
constexpr bool takesValue() {
  if constexpr (std::is_void_v<T>) {
    return std::is_invocable_v<F&>;
  } else {
    return std::is_invocable_v<F&, T>;
  }
}
template <class T, class F>
auto callbackReturn() {
  if constexpr (std::is_void_v<T>) {
    return std::type_identity<std::invoke_result_t<F&>>();
  } else {
    return std::type_identity<std::invoke_result_t<F&, T>>();
  }
}
template <class T, class F>
auto bothReturn() {
  if constexpr (std::is_invocable_v<F&, Result<T>>) {
    return std::type_identity<std::invoke_result_t<F&, Result<T>>>();
  } else {
    return std::type_identity<std::invoke_result_t<F&>>();
  }
}
// The chain's type after a callable that returned R, called on a chain of type T.
template <class T, class R>
using After =
    std::conditional_t<Returned<std::remove_cvref_t<R>>::isFailure, T, typename Returned<std::remove_cvref_t<R>>::Type>;

// ---- what an errback catches: Failure for all, else the type of its one parameter; NoCallback if that cannot be told
template <class F>
struct OneParameter {
  using Type = NoCallback;
};
template <class R, class A>
struct OneParameter<R (*)(A)> {
  using Type = std::remove_cvref_t<A>;
};
template <class R, class A>
struct OneParameter<R (*)(A) noexcept> : OneParameter<R (*)(A)> {};
template <class C, class R, class A>
struct OneParameter<R (C::*)(A)> : OneParameter<R (*)(A)> {};
template <class C, class R, class A>
struct OneParameter<R (C::*)(A) const> : OneParameter<R (*)(A)> {};
template <class C, class R, class A>
struct OneParameter<R (C::*)(A) noexcept> : OneParameter<R (*)(A)> {};
template <class C, class R, class A>
struct OneParameter<R (C::*)(A) const noexcept> : OneParameter<R (*)(A)> {};

template <class F>
auto caughtBy() {
  if constexpr (std::is_invocable_v<F&, Failure>) {
    return std::type_identity<Failure>();
  } else if constexpr (requires { &F::operator(); }) {
    return std::type_identity<typename OneParameter<decltype(&F::operator())>::Type>();
  } else {
    return std::type_identity<typename OneParameter<F>::Type>();
  }
}
template <class F>
using Caught = typename decltype(caughtBy<F>())::type;

template <class F>
constexpr bool isErrback = [] {
  using E = Caught<F>;
  if constexpr (std::is_same_v<E, NoCallback>) {
    return false;
  } else if constexpr (std::is_same_v<E, Failure>) {
    return true;
  } else {
    return std::is_class_v<E> && (std::is_invocable_v<F&, const E&> || std::is_invocable_v<F&, E&>);
  }
}();
template <class F>
auto errbackReturn() {
  using E = Caught<F>;
  if constexpr (std::is_same_v<E, Failure>) {
    return std::type_identity<std::invoke_result_t<F&, Failure>>();
  } else if constexpr (std::is_invocable_v<F&, const E&>) {
    return std::type_identity<std::invoke_result_t<F&, const E&>>();
  } else {
    return std::type_identity<std::invoke_result_t<F&, E&>>();
  }
}
// True if a callable that returned R can be the end of a step after which the chain has type T.
template <class T, class R>
constexpr bool fits() {
  using B = std::remove_cvref_t<R>;
  if constexpr (Returned<B>::isFailure) {
    return true;
  } else if constexpr (!std::is_same_v<typename Returned<B>::Type, B>) {
    return std::is_same_v<typename Returned<B>::Type, T>;
  } else if constexpr (std::is_void_v<T> || std::is_void_v<B>) {
    return std::is_void_v<T> && std::is_void_v<B>;
  } else {
    return std::is_convertible_v<R, T>;
  }
}

// ---- running a callable, with its outcome as the chain's result, of type T
template <class T, class F, class... A>
void runInto(Chain& chain, F& f, A&&... args) {
  using R = std::invoke_result_t<F&, A...>;
  using B = std::remove_cvref_t<R>;
  if constexpr (std::is_void_v<R>) {
    std::invoke(f, std::forward<A>(args)...);
    chain.markTaken();
  } else if constexpr (Returned<B>::isFailure) {
    chain.putFailure(std::invoke(f, std::forward<A>(args)...));
  } else if constexpr (Returned<B>::isDeferred) {
    chain.takeResultOf(std::invoke(f, std::forward<A>(args)...).releaseOwner());
  } else if constexpr (!std::is_same_v<typename Returned<B>::Type, B>) {
    B result = std::invoke(f, std::forward<A>(args)...);
    if (!result.ok()) {
      chain.putFailure(std::move(result).failure());
    } else if constexpr (std::is_void_v<T>) {
      chain.markTaken();
    } else {
      chain.template putValue<T>(std::move(result).value());
    }
  } else {
    chain.template putValue<T>(std::invoke(f, std::forward<A>(args)...));
  }
}

// The exception being handled. One that an errback threw again keeps its trail.
inline Failure currentFailure(const Failure* passed = nullptr) noexcept {
  std::exception_ptr exception = std::current_exception();
  if (passed && passed->value() == exception) return *passed;
  return Failure(std::move(exception));
}

// True if a callable that returns R gives the value itself.
template <class R>
constexpr bool isValue = !std::is_void_v<R> && !Returned<std::remove_cvref_t<R>>::isFailure &&
                         std::is_same_v<typename Returned<std::remove_cvref_t<R>>::Type, std::remove_cvref_t<R>>;
template <class R>
constexpr bool returnsDeferred = Returned<std::remove_cvref_t<R>>::isDeferred;

// Where the argument of a callable lives while that runs: in the step if it returns a Deferred, since a lambda
// coroutine may refer to it until it ends.
template <class V, bool kKept>
struct Argument {
  std::optional<V> value;
  template <class U>
  V& put(U&& from) {
    return value.emplace(std::forward<U>(from));
  }
};
template <class V>
struct Argument<V, false> {};

// One link: a callback, an errback, or a pair. T is the chain's type before it and U after.
template <class T, class U, class Callback, class Errback>
class Step final : public Node {
 public:
  Step(Callback callback, Errback errback, const std::source_location& where)
      : Node(where), callback_(std::move(callback)), errback_(std::move(errback)) {}

  Jump step(Chain& chain) noexcept override {
    // Asked first for what the callback's path asks anyway, so that a value costs one comparison.
    if (chain.state() != State::value && chain.failed()) [[unlikely]] {
      return stepFailed(chain);
    }
    if constexpr (kHasCallback) runCallback(chain);
    return leave(chain);
  }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

  // Runs the link on a chain that is idle. Gives no Jump: what it starts runs by itself.
  void execute(Chain& chain) noexcept {
    if (chain.failed()) {
      passFailure(chain);
    } else if constexpr (kHasCallback) {
      runCallback(chain);
    }
  }

  static constexpr bool kHasCallback = !std::is_same_v<Callback, NoCallback>;
  static constexpr bool kHasErrback = !std::is_same_v<Errback, NoCallback>;

 private:
  friend Chain;
  ~Step() = default;

  static constexpr bool callbackWaits() {
    if constexpr (kHasCallback) {
      return returnsDeferred<typename decltype(callbackReturn<T, Callback>())::type>;
    } else {
      return false;
    }
  }
  static constexpr bool errbackWaits() {
    if constexpr (kHasErrback) {
      return returnsDeferred<typename decltype(errbackReturn<Errback>())::type>;
    } else {
      return false;
    }
  }

 public:
  static constexpr bool kMayWait = callbackWaits() || errbackWaits();

 private:
  Jump leave(Chain& chain) noexcept {
    if (kMayWait && chain.waitsFor()) {
      chain.park(*this);
      return {};
    }
    return chain.dispose(this);
  }
  // Apart, so that step() needs no stack frame where the callback needs none.
  [[gnu::noinline]] Jump stepFailed(Chain& chain) noexcept {
    passFailure(chain);
    return leave(chain);
  }
  void passFailure(Chain& chain) noexcept {
    if constexpr (kHasErrback) runErrback(chain);
    if (chain.failed()) chain.failure().addToTrail(where);
  }
  void runCallback(Chain& chain) noexcept {
    using R = typename decltype(callbackReturn<T, Callback>())::type;
    try {
      if constexpr (std::is_void_v<T>) {
        chain.markTaken();
        runInto<U>(chain, callback_);
      } else if constexpr (callbackWaits()) {
        runInto<U>(chain, callback_, std::move(argument_.put(chain.takeValue<T>())));
      } else {
        T& argument = chain.argument<T>();
        if constexpr (isValue<R>) {
          chain.replaceValue<T, U>([&]() -> R { return std::invoke(callback_, std::move(argument)); });
        } else {
          runInto<U>(chain, callback_, std::move(argument));
        }
      }
      // A failure that was returned, not thrown.
      if constexpr (!isValue<R> && !std::is_void_v<R>) {
        if (chain.failed()) chain.failure().addToTrail(where);
      }
    } catch (...) {
      chain.catchFailure(where);
    }
  }
  void runErrback(Chain& chain) noexcept {
    using E = Caught<Errback>;
    if constexpr (!std::is_same_v<E, Failure>) {
      if (!chain.failure().template check<E>()) return;
    }
    const Failure failure = chain.takeFailure();
    try {
      if constexpr (errbackWaits()) {
        runInto<U>(chain, errback_, caught<E>(failure_.put(failure)));
      } else if constexpr (!std::is_same_v<E, Failure> || std::is_invocable_v<Errback&, const Failure&>) {
        runInto<U>(chain, errback_, caught<E>(failure));
      } else {
        runInto<U>(chain, errback_, Failure(failure));
      }
    } catch (...) {
      chain.putFailure(currentFailure(&failure));
    }
  }
  // What the errback gets of a failure.
  template <class E, class F>
  static decltype(auto) caught(F& failure) {
    if constexpr (std::is_same_v<E, Failure>) {
      return std::move(failure);
    } else if constexpr (std::is_invocable_v<Errback&, const E&>) {
      return *failure.template get<E>();
    } else {
      return const_cast<E&>(*failure.template get<E>());
    }
  }

  [[no_unique_address]] Callback callback_;
  [[no_unique_address]] Errback errback_;
  [[no_unique_address]] Argument<Stored<T>, callbackWaits()> argument_;
  [[no_unique_address]] Argument<Failure, errbackWaits()> failure_;
};

// addBoth: a callable that gets the Result, or nothing.
template <class T, class U, class F>
class BothStep final : public Node {
 public:
  BothStep(F f, const std::source_location& where) : Node(where), f_(std::move(f)) {}

  Jump step(Chain& chain) noexcept override {
    execute(chain);
    if (kMayWait && chain.waitsFor()) {
      chain.park(*this);
    } else {
      chain.dispose(this);
    }
    return {};
  }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

  void execute(Chain& chain) noexcept {
    std::optional<Failure> passed;
    if (chain.failed()) passed.emplace(chain.failure());
    try {
      if constexpr (std::is_invocable_v<F&, Result<T>>) {
        if constexpr (kMayWait) {
          runInto<U>(chain, f_, std::move(argument_.put(takeResult(chain))));
        } else {
          runInto<U>(chain, f_, takeResult(chain));
        }
      } else {
        chain.markTaken();
        runInto<U>(chain, f_);
      }
    } catch (...) {
      chain.putFailure(currentFailure(passed ? &*passed : nullptr));
    }
    if (chain.failed()) chain.failure().addToTrail(where);
  }

  static constexpr bool kMayWait = returnsDeferred<typename decltype(bothReturn<T, F>())::type>;

 private:
  friend Chain;
  ~BothStep() = default;

  static Result<T> takeResult(Chain& chain) {
    if (chain.failed()) return chain.takeFailure();
    if constexpr (std::is_void_v<T>) {
      chain.markTaken();
      return {};
    } else {
      return chain.takeValue<T>();
    }
  }

  [[no_unique_address]] F f_;
  [[no_unique_address]] Argument<Result<T>, kMayWait> argument_;
};

// Keeps something until the chain has got so far.
class KeepNode final : public Node {
 public:
  KeepNode(std::shared_ptr<void> kept, const std::source_location& where) noexcept
      : Node(where), kept_(std::move(kept)) {}
  Jump step(Chain& chain) noexcept override { return chain.dispose(this); }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

 private:
  friend Chain;
  ~KeepNode() = default;
  std::shared_ptr<void> kept_;
};

// Adds a link, or runs it here and now where nothing can tell the difference.
template <class N, class... A>
void addStep(Chain& chain, A&&... args) {
  if constexpr (!N::kMayWait) {
    if (chain.idle()) {
      chain.checkThread();
      alignas(N) std::byte store[sizeof(N)];
      N* node = ::new (static_cast<void*>(store)) N(std::forward<A>(args)...);
      // What the callable adds, or its destructor, runs after it is gone.
      const Busy busy(chain);
      node->execute(chain);
      Chain::destroy(*node);
      return;
    }
  }
  chain.append(*chain.make<N>(std::forward<A>(args)...));
  chain.run();
}

}  // namespace detail
}  // namespace torsion
