// Coroutines that return a Deferred: their promise, and what co_await of a Deferred does.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include <deferred/detail/step.hpp>

namespace torsion::detail {

// The link through which a coroutine waits for a chain. It lives in the awaiter, that is, in the coroutine's frame.
class AwaitNode : public Node {
 public:
  AwaitNode(Coroutine& coroutine, const std::source_location& where) noexcept : Node(where), coroutine_(coroutine) {}

  // Waits for `awaited`, which it takes. False if the result is here already, as when only links were in the way.
  bool suspend(std::coroutine_handle<> handle, Owner& awaited);
  Jump step(Chain& awaited) noexcept final;
  void drop(Chain& awaited) noexcept final;

 protected:
  ~AwaitNode() = default;
  virtual void takeResult(Chain& awaited) noexcept = 0;
  Coroutine& coroutine_;

 private:
  std::coroutine_handle<> handle_;
  bool suspending_ = false;
  bool stepped_ = false;
};

// kTakes: `co_await std::move(d)`, or of a temporary. Otherwise `co_await d`, which leaves the result of a Deferred
// that has one where it is (and waits for any other as the former does).
template <class T, bool kTakes>
class Awaiter final : public AwaitNode {
 public:
  Awaiter(Coroutine& coroutine, Owner awaited, const std::source_location& where) noexcept
      : AwaitNode(coroutine, where), awaited_(std::move(awaited)) {}

  bool await_ready() {
    awaited_->checkThread();
    awaited_->breakIfHopeless();
    if constexpr (kTakes) {
      if (!awaited_->idle()) return false;
      takeResult(*awaited_);
    } else {
      if (!awaited_->idle()) return false;
      if (awaited_->failed()) {
        awaited_->markHandled();
        result_.emplace(awaited_->failure());
      } else if constexpr (std::is_void_v<T>) {
        result_.emplace();
      } else if (awaited_->state() == State::value) {
        static_assert(std::is_copy_constructible_v<T>,
                      "co_await d copies the result of d; T cannot be copied, so write co_await std::move(d)");
        if constexpr (std::is_copy_constructible_v<T>) {
          const Busy busy(*awaited_);
          result_.emplace(std::as_const(awaited_->template value<T>()));
        }
      } else {
        result_.emplace(awaited_->template takeValue<T>());
      }
    }
    return true;
  }
  bool await_suspend(std::coroutine_handle<> handle) { return suspend(handle, awaited_); }
  T await_resume() {
    if (!result_->ok()) {
      const Failure& failure = result_->failure();
      coroutine_.caught(failure, where);
      failure.raise();
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result_).value();
  }

 private:
  void takeResult(Chain& awaited) noexcept override {
    if (awaited.failed()) {
      result_.emplace(awaited.takeFailure());
      return;
    }
    try {
      if constexpr (std::is_void_v<T>) {
        awaited.markTaken();
        result_.emplace();
      } else {
        result_.emplace(awaited.takeValue<T>());
      }
    } catch (...) {
      result_.emplace(Failure::current());
    }
  }

  Owner awaited_;
  std::optional<Result<T>> result_;
};

// What co_await of anything else gives after its static_assert: anything goes with it.
struct WrongAwait : std::suspend_never {
  struct Anything {
    template <class T>
    operator T() const;
  };
  Anything await_resume() const noexcept { return {}; }
};

// The promise of a coroutine that returns Deferred<T>. It starts at once, in its caller, and its chain fires when it
// has ended and its frame is gone.
class PromiseBase : public Coroutine {
 public:
  std::suspend_never initial_suspend() noexcept { return {}; }

  struct FinalSuspend {
    bool stays;
    bool await_ready() const noexcept { return !stays; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept {}
  };

  template <class U>
  auto await_transform(Deferred<U>&& deferred, std::source_location where = std::source_location::current()) {
    return Awaiter<U, true>(*this, std::move(deferred).releaseOwner(where), where);
  }
  template <class U>
  auto await_transform(Deferred<U>& deferred, std::source_location where = std::source_location::current()) {
    return Awaiter<U, false>(*this, Owner(deferred.chain(where)), where);
  }
  template <class A>
    requires(!isDeferred<std::remove_cvref_t<A>>)
  WrongAwait await_transform(A&&) {
    static_assert(isDeferred<A>, "co_await: only a Deferred can be awaited in a function that returns one");
    return {};
  }

 protected:
  ~PromiseBase() {
    if (Chain* chain = std::exchange(out, nullptr)) {
      chain->setCoroutine(nullptr);
      chain->dropFirer();
    }
  }
  Chain& makeChain(const std::type_info& type, const std::source_location& where) {
    out = new Chain(type, where);
    out->addFirer();
    out->setCoroutine(this);
    return *out;
  }
};

template <class T>
class Promise;

// What return_value() and return_void() differ in; a class must have one alone.
template <class T, class P>
struct PromiseReturn {
  template <class U>
  void return_value(U&& value) {
    static_assert(std::is_constructible_v<Result<T>, U&&>, "co_return: give a T, a Result<T> or a Failure");
    if constexpr (std::is_constructible_v<Result<T>, U&&>)
      static_cast<P*>(this)->result_.emplace(std::forward<U>(value));
  }
};
template <class P>
struct PromiseReturn<void, P> {
  void return_void() { static_cast<P*>(this)->result_.emplace(); }
};

template <class T>
class Promise final : public PromiseBase, public PromiseReturn<T, Promise<T>> {
 public:
  explicit Promise(std::source_location where = std::source_location::current()) noexcept : where_(where) {}

  Deferred<T> get_return_object() { return Deferred<T>(Owner(makeChain(typeid(Stored<T>), where_))); }
  void unhandled_exception() noexcept { result_.emplace(endFailure(where_)); }

  FinalSuspend final_suspend() noexcept {
    if (phase != Phase::first) {
      phase = Phase::done;
      return {true};
    }
    // Never suspended: nobody has the Deferred yet, so there is nothing to run, and the frame goes by itself.
    put(*out, *result_);
    out->markFired();
    return {false};
  }
  void finish(Chain& chain) noexcept override {
    chain.beginFiring();
    put(chain, *result_);
    destroy();
    chain.endFiring();
  }
  void destroy() noexcept override { std::coroutine_handle<Promise>::from_promise(*this).destroy(); }

 private:
  friend PromiseReturn<T, Promise<T>>;

  static void put(Chain& chain, Result<T>& result) noexcept {
    if (!result.ok()) {
      chain.putFailure(std::move(result).failure());
      return;
    }
    try {
      if constexpr (std::is_void_v<T>) {
        chain.markTaken();
      } else {
        chain.putValue<T>(std::move(result).value());
      }
    } catch (...) {
      chain.putFailure(Failure::current());
    }
  }

  std::source_location where_;
  std::optional<Result<T>> result_;
};

}  // namespace torsion::detail
