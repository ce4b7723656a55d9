// Result: a value or a Failure. What addBoth gets, and what a DeferredList gives for each of its inputs.
#pragma once

#include <concepts>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include <deferred/failure.hpp>

namespace torsion {

/// Stands for the value of a Deferred<void>.
struct Unit {
  bool operator==(const Unit&) const = default;
};

/// How a Deferred<T> turned out. Returned from a callback it becomes the chain's result, value or Failure.
template <class T>
class Result {
 public:
  using value_type = T;
  using Stored = std::conditional_t<std::is_void_v<T>, Unit, T>;

  Result()
    requires std::is_void_v<T>
      : state_(std::in_place_index<0>) {}
  template <class U = Stored>
  // In this order: whether a std::any can be made of a Result asks whether that can be copied, and so this again.
    requires(!std::is_void_v<T> && !std::same_as<std::remove_cvref_t<U>, Result> &&
             !std::same_as<std::remove_cvref_t<U>, Failure> && std::constructible_from<Stored, U &&>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  Result(Failure failure) noexcept : state_(std::in_place_index<1>, std::move(failure)) {}
  template <class E>
    requires(std::derived_from<std::remove_cvref_t<E>, std::exception> && !std::constructible_from<Stored, E &&>)
  Result(E&& exception) : state_(std::in_place_index<1>, std::forward<E>(exception)) {}

  /// True if it is a value.
  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  /// The value; throws what the Failure holds if there is none.
  std::add_lvalue_reference_t<T> value() & {
    requireValue();
    if constexpr (!std::is_void_v<T>) return *std::get_if<0>(&state_);
  }
  std::add_lvalue_reference_t<std::add_const_t<T>> value() const& {
    requireValue();
    if constexpr (!std::is_void_v<T>) return *std::get_if<0>(&state_);
  }
  T value() && {
    requireValue();
    if constexpr (!std::is_void_v<T>) return std::move(*std::get_if<0>(&state_));
  }
  /// The failure. Throws std::logic_error if it is a value.
  const Failure& failure() const& {
    requireFailure();
    return *std::get_if<1>(&state_);
  }
  Failure&& failure() && {
    requireFailure();
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  void requireFailure() const {
    if (ok()) throw std::logic_error("failure() of a Result that is a value");
  }
  void requireValue() const {
    if (!ok()) failure().raise();
  }
  std::variant<Stored, Failure> state_;
};

}  // namespace torsion
