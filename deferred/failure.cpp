#include <deferred/failure.hpp>

#include <cxxabi.h>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <stdexcept>

namespace torsion {

// Copies of a Failure may go to other threads, and each adds to a trail of its own: the block is copied on write.
struct Failure::Trail {
  std::atomic<unsigned> refs{1};
  std::size_t count = 0;
  std::source_location at[kTrailLimit];
};

namespace {

std::string typeName(const std::type_info& type) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                   &std::free);
  return status == 0 ? name.get() : type.name();
}

std::string messageOf(const std::exception& exception) {
  const char* text = exception.what();
  return text ? text : "";
}

std::string typeAndMessage(const Failure& failure) {
  std::string text = typeName(failure.type());
  if (auto* exception = failure.get<std::exception>()) text += ": " + messageOf(*exception);
  return text;
}

std::string at(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

void printUnhandled(std::string_view what, const Failure& failure, const std::source_location& made) {
  std::fprintf(stderr, "%.*s made at %s:\n%s\n", static_cast<int>(what.size()), what.data(), at(made).c_str(),
               failure.getTraceback().c_str());
}

std::atomic<UnhandledFailureHandler> unhandledHandler{&printUnhandled};

}  // namespace

Failure Failure::current() {
  std::exception_ptr exception = std::current_exception();
  if (!exception) throw std::logic_error("Failure::current: no exception is being handled");
  return Failure(std::move(exception));
}

std::exception_ptr Failure::notNull(std::exception_ptr exception) {
  if (!exception) throw std::invalid_argument("Failure: the exception is null");
  return exception;
}

void Failure::throwEmpty() const {
  throw std::logic_error("this Failure was moved from");
}

void Failure::raise() const {
  requireException();
  std::rethrow_exception(exception_);
}

const std::type_info& Failure::type() const {
  requireException();
  return *exception_.__cxa_exception_type();
}

const void* Failure::find(const std::type_info& wanted) const noexcept {
  // What `catch` would do, without the 800 ns that throwing costs. An exception_ptr is one pointer, to the exception.
  static_assert(sizeof(std::exception_ptr) == sizeof(void*));
  void* object = *reinterpret_cast<void* const*>(&exception_);
  if (!object) return nullptr;
  // Where there is one base class, as in nearly all exceptions, it begins where the exception does. Types are the same
  // if their names are, since each library may have a type_info of its own; most differ in the first letter.
  const char first = *wanted.name();
  for (const std::type_info* is = &type();;) {
    if (is == &wanted || (*is->name() == first && *is == wanted)) return object;
    const std::type_info& kind = typeid(*is);
    if (&kind == &typeid(abi::__si_class_type_info)) {
      is = static_cast<const abi::__si_class_type_info*>(is)->__base_type;
    } else if (&kind == &typeid(abi::__class_type_info)) {
      return nullptr;
    } else {
      // Several bases, or no class: the way libstdc++'s `catch` itself looks.
      return wanted.__do_catch(is, &object, 1) ? object : nullptr;
    }
  }
}

std::string Failure::getErrorMessage() const {
  if (auto* exception = get<std::exception>()) return messageOf(*exception);
  return typeName(type());
}

std::string Failure::getTraceback() const {
  std::string text = typeAndMessage(*this);
  for (const auto& where : trail()) text += "\n  via " + at(where);
  if (trail_ && trail_->count > kTrailLimit) {
    text += "\n  and " + std::to_string(trail_->count - kTrailLimit) + " more";
  }
  return text;
}

std::span<const std::source_location> Failure::trail() const noexcept {
  if (!trail_) return {};
  return {trail_->at, std::min(trail_->count, kTrailLimit)};
}

void Failure::addToTrail(const std::source_location& where) {
  if (!trail_ || trail_->refs.load(std::memory_order_acquire) > 1) [[unlikely]] {
    addToOwnTrail(where);
    return;
  }
  if (trail_->count < kTrailLimit) trail_->at[trail_->count] = where;
  ++trail_->count;
}

void Failure::addToOwnTrail(const std::source_location& where) {
  auto* own = new Trail;
  if (trail_) {
    own->count = trail_->count;
    std::copy(std::begin(trail_->at), std::end(trail_->at), own->at);
    unrefTrail();
  }
  trail_ = own;
  addToTrail(where);
}

void Failure::refTrail() const noexcept {
  if (trail_) trail_->refs.fetch_add(1, std::memory_order_relaxed);
}

void Failure::unrefTrail() noexcept {
  if (trail_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete trail_;
  trail_ = nullptr;
}

std::ostream& operator<<(std::ostream& out, const Failure& failure) {
  return out << typeAndMessage(failure);
}

UnhandledFailureHandler setUnhandledFailureHandler(UnhandledFailureHandler handler) noexcept {
  return unhandledHandler.exchange(handler ? handler : &printUnhandled);
}

void detail::reportUnhandled(std::string_view what, const Failure& failure, const std::source_location& made) noexcept {
  try {
    unhandledHandler.load()(what, failure, made);
  } catch (...) {
    printUnhandled(what, failure, made);
  }
}

}  // namespace torsion
