// What a test asks of a Deferred that should, or should not, have a result by now (trial's successResultOf and so on).
// They work in any test framework: what does not hold throws TestFailure, whose text says what was found instead.
#pragma once

#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <deferred/deferred.hpp>
#include <deferred/failure.hpp>
#include <deferred/result.hpp>

namespace torsion {

/// A check of this file did not hold. Not made to be caught.
struct TestFailure : std::logic_error {
  using logic_error::logic_error;
};

namespace detail {
[[noreturn]] void testFailed(const std::string& what, const std::source_location& where);
std::string typeName(const std::type_info& type);

template <class T>
std::string describeValue(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_arithmetic_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_convertible_v<const T&, std::string>) {
    return "\"" + std::string(value) + "\"";
  } else if constexpr (std::is_same_v<T, Unit>) {
    return "void";
  } else {
    return "a " + typeName(typeid(T));
  }
}

template <class T>
std::string describeResult(const Result<T>& result) {
  if (!result.ok()) return "the failure\n" + result.failure().getTraceback();
  if constexpr (std::is_void_v<T>) {
    return "success";
  } else {
    return "the value " + describeValue(result.value());
  }
}

template <class T>
std::optional<Result<T>> takeResult(Deferred<T>&& d, const std::source_location& where) {
  auto taken = std::make_shared<std::optional<Result<T>>>();
  std::move(d).addBoth([taken](Result<T> result) { taken->emplace(std::move(result)); }, where);
  return std::move(*taken);
}
}  // namespace detail

/// The value of a Deferred that has one; the Deferred is used up. Fails the test if there is no result yet, or a
/// Failure, whose trail the text shows.
template <class T>
T successResultOf(Deferred<T>&& d, std::source_location where = std::source_location::current()) {
  auto result = detail::takeResult(std::move(d), where);
  if (!result) detail::testFailed("successResultOf: there is no result yet", where);
  if (!result->ok()) {
    detail::testFailed("successResultOf: there is no value, but " + detail::describeResult(*result), where);
  }
  return std::move(*result).value();
}
template <class T>
T successResultOf(Deferred<T>& d, std::source_location where = std::source_location::current()) {
  return successResultOf(std::move(d), where);
}

/// The Failure of a Deferred that has one, of one of the types E if any are given; the Deferred is used up, and the
/// Failure counts as handled.
template <class... E, class T>
Failure failureResultOf(Deferred<T>&& d, std::source_location where = std::source_location::current()) {
  auto result = detail::takeResult(std::move(d), where);
  if (!result) detail::testFailed("failureResultOf: there is no result yet", where);
  if (result->ok()) {
    detail::testFailed("failureResultOf: there is no failure, but " + detail::describeResult(*result), where);
  }
  if (sizeof...(E) != 0 && !result->failure().template check<E...>()) {
    std::string wanted;
    ((wanted += (wanted.empty() ? " " : " or ") + detail::typeName(typeid(E))), ...);
    detail::testFailed("failureResultOf: expected" + wanted + ", but found " + detail::describeResult(*result), where);
  }
  return std::move(*result).failure();
}
template <class... E, class T>
Failure failureResultOf(Deferred<T>& d, std::source_location where = std::source_location::current()) {
  return failureResultOf<E...>(std::move(d), where);
}

/// For a test that waits: fires with the exception if the Deferred fails with an E, and fails with TestFailure for
/// whatever else it has.
///
///   wait(assertFailure<ConnectionRefusedError>(connectProtocol(endpoint, client)));
template <class E, class T>
Deferred<E> assertFailure(Deferred<T>&& d, std::source_location where = std::source_location::current()) {
  return std::move(d).addBoth(
      [where](Result<T> result) -> E {
        if (!result.ok()) {
          if (const E* error = result.failure().template get<E>()) return *error;
        }
        detail::testFailed(
            "assertFailure: expected " + detail::typeName(typeid(E)) + ", but found " + detail::describeResult(result),
            where);
      },
      where);
}
template <class E, class T>
Deferred<E> assertFailure(Deferred<T>& d, std::source_location where = std::source_location::current()) {
  return assertFailure<E>(std::move(d), where);
}

/// Passes if the Deferred has no result yet. It may be used on; a result that it has is left in it.
template <class T>
void assertNoResult(Deferred<T>& d, std::source_location where = std::source_location::current()) {
  struct Seen {
    bool looking = true;
    std::string result;
  };
  auto seen = std::make_shared<Seen>();
  d.addBoth(
      [seen](Result<T> result) {
        if (seen->looking) seen->result = detail::describeResult(result);
        return result;
      },
      where);
  seen->looking = false;
  if (!seen->result.empty()) detail::testFailed("assertNoResult: there is one, " + seen->result, where);
}

}  // namespace torsion
