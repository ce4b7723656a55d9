// Failure: an exception as a value, with the trail of steps that it passed (twisted.python.failure).
#pragma once

#include <concepts>
#include <cstddef>
#include <exception>
#include <iosfwd>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace torsion {

/// An exception in flight through a chain of callbacks. Copies share the exception. Making one does not throw, and
/// neither does looking at what it holds.
///
///   d.addErrback([](const Failure& f) { std::cerr << f.getErrorMessage() << '\n'; return std::string(); });
class Failure {
 public:
  /// At most this many locations are kept; traceback() says how many more there were.
  static constexpr std::size_t kTrailLimit = 16;

  /// Holds `exception`. Not explicit, so that a callback that returns a Failure can `return ConnectError("...")`.
  template <class E>
    requires std::derived_from<std::remove_cvref_t<E>, std::exception>
  Failure(E&& exception) : exception_(std::make_exception_ptr(std::forward<E>(exception))) {}
  /// Holds any exception. Throws std::invalid_argument if `exception` is null.
  explicit Failure(std::exception_ptr exception) : exception_(notNull(std::move(exception))) {}
  /// The exception being handled. Throws std::logic_error where there is none, that is, outside a catch block.
  static Failure current();

  Failure(const Failure& other) noexcept : exception_(other.exception_), trail_(other.trail_) { refTrail(); }
  Failure(Failure&& other) noexcept
      : exception_(std::move(other.exception_)), trail_(std::exchange(other.trail_, nullptr)) {}
  Failure& operator=(Failure other) noexcept {
    std::swap(exception_, other.exception_);
    std::swap(trail_, other.trail_);
    return *this;
  }
  ~Failure() {
    if (trail_) unrefTrail();
  }

  /// The exception if `catch (const E&)` would catch it, else null. Lives as long as this Failure or a copy.
  template <class E>
  const E* get() const noexcept {
    static_assert(std::is_class_v<E> && !std::is_const_v<E>, "Failure::get<E>: E is a class, without const or &");
    return static_cast<const E*>(find(typeid(E)));
  }
  /// True if `catch (const E&)` would catch it, for one E at least.
  template <class... E>
  bool check() const noexcept {
    return (... || (get<E>() != nullptr));
  }
  /// Returns if check<E...>(), else throws what it holds: for the first line of an errback.
  template <class... E>
  void trap() const {
    if (!check<E...>()) raise();
  }
  /// Throws what it holds.
  [[noreturn]] void raise() const;

  /// what() of a std::exception (empty if that is null); for anything else, the name of its type. This and what follows
  /// throw std::logic_error if it was moved from.
  std::string getErrorMessage() const;
  /// "torsion::ConnectError: no route to host", and a line for each place of the trail.
  std::string getTraceback() const;
  const std::exception_ptr& value() const noexcept { return exception_; }
  const std::type_info& type() const;

  /// Where the callbacks were added that the failure came from or passed by, oldest first. Allocated on failure only.
  std::span<const std::source_location> trail() const noexcept;
  /// Adds a place to the trail of this Failure alone.
  void addToTrail(const std::source_location& where);

 private:
  struct Trail;
  static std::exception_ptr notNull(std::exception_ptr exception);
  const void* find(const std::type_info& wanted) const noexcept;
  void addToOwnTrail(const std::source_location& where);
  void requireException() const {
    if (!exception_) throwEmpty();
  }
  [[noreturn]] void throwEmpty() const;
  void refTrail() const noexcept;
  void unrefTrail() noexcept;

  std::exception_ptr exception_;
  Trail* trail_ = nullptr;
};

/// Writes its type and message: "torsion::ConnectError: no route to host". The trail is in getTraceback().
std::ostream& operator<<(std::ostream& out, const Failure& failure);

/// Gets each Failure that nobody handled, at once, in the thread of its Deferred. `what` is "Unhandled error in
/// Deferred", or says what else went wrong where nobody could be told; `made` is where that Deferred was made. What
/// it throws goes nowhere, but the Failure is then written to standard error, as it is until a handler is set.
using UnhandledFailureHandler = void (*)(std::string_view what, const Failure& failure,
                                         const std::source_location& made);

/// Sets the program's handler (null: back to standard error) and returns the one before.
UnhandledFailureHandler setUnhandledFailureHandler(UnhandledFailureHandler handler) noexcept;

namespace detail {
void reportUnhandled(std::string_view what, const Failure& failure, const std::source_location& made) noexcept;
}

}  // namespace torsion
