// Resolver: the producer's side of a Deferred.
#pragma once

#include <concepts>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <deferred/detail/step.hpp>

namespace torsion {

/// Returned by a canceller that has only asked for the end: the Deferred then stays pending until its producer fires
/// it.
struct CancelPending {};

/// Fires a Deferred<T>, once. Copies are equal; keep one wherever the result may come from:
///
///   Resolver<int> answer;
///   reactor().callLater(1s, [answer] { answer.callback(42); });
///   return answer.deferred();
///
/// When the last copy goes and nobody has fired it, the Deferred fails with BrokenDeferred. Callbacks run before
/// callback() or errback() returns. A Resolver and its Deferred stay in one thread.
template <class T>
class Resolver {
 public:
  using Stored = detail::Stored<T>;

  explicit Resolver(std::source_location where = std::source_location::current())
      : chain_(new detail::Chain(typeid(Stored), where)) {
    chain_->addFirer();
    chain_->setUnclaimed();
  }
  Resolver(const Resolver& other) noexcept : chain_(other.chain_) {
    if (chain_) {
      chain_->checkThread();
      chain_->addFirer();
    }
  }
  Resolver(Resolver&& other) noexcept : chain_(std::exchange(other.chain_, nullptr)) {}
  Resolver& operator=(Resolver other) noexcept {
    std::swap(chain_, other.chain_);
    return *this;
  }
  ~Resolver() {
    if (chain_) {
      chain_->checkThread();
      chain_->dropFirer();
    }
  }

  /// The Deferred. Throws std::logic_error the second time: there is one, which share() can multiply.
  Deferred<T> deferred() const;

  /// Fires with a value, made from `args` (none where T is void). Throws AlreadyCalledError if it has been fired; does
  /// nothing, once, if it has been cancelled and has no canceller.
  template <class... A>
  void callback(A&&... args) const {
    static_assert(std::is_constructible_v<Stored, A&&...>, "Resolver::callback: T cannot be made from these arguments");
    if constexpr (std::is_constructible_v<Stored, A&&...>) {
      detail::Chain& chain = this->chain();
      if (!chain.mayFire()) return;
      chain.template putValue<Stored>(std::forward<A>(args)...);
      chain.fire();
    }
  }
  /// Fires with a failure: a Failure, or an exception. Otherwise as callback().
  void errback(Failure failure) const {
    detail::Chain& chain = this->chain();
    if (!chain.mayFire()) return;
    chain.putFailure(std::move(failure));
    chain.fire();
  }
  /// Fires with either.
  void resolve(Result<T> result) const {
    if (!result.ok()) {
      errback(std::move(result).failure());
    } else if constexpr (std::is_void_v<T>) {
      callback();
    } else {
      callback(std::move(result).value());
    }
  }

  /// Sets what cancel() of the unfired Deferred does (Twisted's canceller), in place of an earlier one. It gets this
  /// Resolver and need not capture one. If it fires nothing, the Deferred fails with CancelledError, unless it returns
  /// CancelPending. What it throws comes out of cancel(). Dropped when the Deferred fires. Throws std::invalid_argument
  /// if it is null.
  template <class F>
  void onCancel(F canceller) const {
    static_assert(std::is_invocable_v<F&, const Resolver&>, "onCancel: a canceller takes a const Resolver<T>&");
    if constexpr (std::is_invocable_v<F&, const Resolver&>) {
      detail::requireCallable(canceller, "onCancel: the canceller is null");
      chain().setCanceller([canceller = std::move(canceller)](detail::Chain& chain) mutable -> bool {
        chain.addFirer();
        const Resolver self(chain);
        if constexpr (detail::mayBeCoroutine<F, const Resolver&>()) {
          // With the Resolver that it refers to.
          struct Kept {
            F canceller;
            Resolver self;
          };
          auto kept = std::make_shared<Kept>(Kept{std::move(canceller), self});
          detail::keepUntilFired(kept->canceller(std::as_const(kept->self)), kept);
        } else {
          canceller(self);
        }
        return std::is_same_v<std::invoke_result_t<F&, const Resolver&>, CancelPending> && !chain.called();
      });
    }
  }

  /// Internal: gives this Resolver's share of the chain away.
  detail::Chain& release() && {
    detail::Chain& released = chain();
    chain_ = nullptr;
    return released;
  }
  /// Internal: see Hold.
  detail::Hold hold() const { return detail::Hold(chain()); }
  /// Internal.
  detail::Chain& chain() const {
    if (!chain_) throw std::logic_error("this Resolver was moved from");
    return *chain_;
  }

  /// True once it has been fired or cancelled.
  bool called() const noexcept { return chain_ && chain_->called(); }

 private:
  explicit Resolver(detail::Chain& chain) noexcept : chain_(&chain) {}
  detail::Chain* chain_;
};

}  // namespace torsion
