#include <deferred/failure.hpp>

#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>

#include <doctest/doctest.h>

#include <deferred/deferred.hpp>
#include <deferred/errors.hpp>

using namespace torsion;

TEST_CASE("check and get match as catch does") {
  Failure f{std::out_of_range("o")};
  CHECK(f.check<std::out_of_range>());
  CHECK(f.check<std::logic_error>());
  CHECK(f.check<std::exception>());
  CHECK_FALSE(f.check<std::runtime_error>());
  CHECK(f.check<std::runtime_error, std::logic_error>());
  REQUIRE(f.get<std::logic_error>());
  CHECK(f.get<std::logic_error>()->what() == std::string("o"));
  CHECK(f.get<std::bad_alloc>() == nullptr);
}

namespace {

struct A {
  virtual ~A() = default;
  int a = 1;
};
struct B {
  virtual ~B() = default;
  int b = 2;
};
struct Plain {
  int plain = 3;
};
struct Single : A {};
struct SingleOfSingle final : Single {};
struct Hidden : private A {};
struct OfHidden : Hidden {};
struct Both : A, B {};
struct OfBoth : Both {};
struct Shared : virtual A {};
struct OfShared : Shared {};
struct LaterBase : Plain {  // its pointer to virtual functions comes before Plain
  virtual ~LaterBase() = default;
};
struct OfLaterBase : LaterBase {};
struct OtherSingle : A {};
struct Ambiguous : Single, OtherSingle {};
struct OfAmbiguous : Ambiguous {};

// What catch finds, or null.
template <class E>
const E* caught(const Failure& failure) {
  try {
    failure.raise();
  } catch (const E& e) {
    return &e;
  } catch (...) {
  }
  return nullptr;
}

template <class Thrown, class... Wanted>
void checkAsCatch(Thrown thrown) {
  const Failure failure{std::make_exception_ptr(thrown)};
  INFO("thrown: " << typeid(Thrown).name());
  auto check = [&]<class E>(std::type_identity<E>) {
    INFO("wanted: " << typeid(E).name());
    CHECK(failure.get<E>() == caught<E>(failure));
    CHECK(failure.check<E>() == (caught<E>(failure) != nullptr));
  };
  (check(std::type_identity<Wanted>()), ...);
}

}  // namespace

TEST_CASE("get finds what catch finds, in every kind of class hierarchy") {
  auto check = [](auto... thrown) {
    (checkAsCatch<decltype(thrown), A, B, Plain, Single, SingleOfSingle, Hidden, OfHidden, Both, OfBoth, Shared,
                  OfShared, LaterBase, OfLaterBase, Ambiguous, OfAmbiguous, std::exception>(thrown),
     ...);
  };
  check(A(), Plain(), Single(), SingleOfSingle(), Hidden(), OfHidden(), Both(), OfBoth(), Shared(), OfShared(),
        LaterBase(), OfLaterBase(), Ambiguous(), OfAmbiguous());
  A a;
  check(7, &a, nullptr, std::string("text"), std::runtime_error("r"));
  // Not in vain: of these, catch finds some and not others.
  CHECK(Failure(std::make_exception_ptr(OfBoth())).get<B>()->b == 2);
  CHECK(Failure(std::make_exception_ptr(OfShared())).get<A>()->a == 1);
  CHECK(Failure(std::make_exception_ptr(OfLaterBase())).get<Plain>()->plain == 3);
  CHECK_FALSE(Failure(std::make_exception_ptr(OfHidden())).check<A>());
  CHECK_FALSE(Failure(std::make_exception_ptr(OfAmbiguous())).check<A>());
}

TEST_CASE("trap returns for what it names and throws the rest") {
  Failure f{std::out_of_range("o")};
  CHECK_NOTHROW(f.trap<std::logic_error>());
  CHECK_NOTHROW((f.trap<std::runtime_error, std::out_of_range>()));
  CHECK_THROWS_AS(f.trap<std::runtime_error>(), std::out_of_range);
  CHECK_THROWS_AS(f.raise(), std::out_of_range);
}

TEST_CASE("what trap and raise throw is the exception itself, and a Failure made of it holds the same") {
  Failure f{std::out_of_range("o")};
  try {
    f.trap<std::runtime_error>();
    FAIL("trap returned");
  } catch (const std::out_of_range& e) {
    CHECK(&e == f.get<std::out_of_range>());
    CHECK(Failure::current().value() == f.value());
  }
  CHECK(Failure(f).value() == f.value());
}

TEST_CASE("an exception thrown while another is handled is the one that counts") {
  try {
    try {
      Failure(std::out_of_range("first")).raise();
    } catch (const std::out_of_range&) {
      throw std::runtime_error("second");
    }
  } catch (...) {
    CHECK(Failure::current().getErrorMessage() == "second");
  }
}

TEST_CASE("a Failure holds what is no std::exception") {
  Failure f{std::make_exception_ptr(std::string("text"))};
  CHECK(f.check<std::string>());
  CHECK_FALSE(f.check<std::exception>());
  CHECK(f.getErrorMessage().find("string") != std::string::npos);
  CHECK(f.type() == typeid(std::string));
  Failure number{std::make_exception_ptr(5)};
  CHECK(number.getErrorMessage() == "int");
}

TEST_CASE("current holds the exception being handled") {
  try {
    throw std::runtime_error("now");
  } catch (...) {
    CHECK(Failure::current().getErrorMessage() == "now");
  }
}

TEST_CASE("current throws where no exception is being handled") {
  CHECK_THROWS_AS(Failure::current(), std::logic_error);
}

TEST_CASE("an exception without a text does no harm") {
  struct Mute : std::exception {
    const char* what() const noexcept override { return nullptr; }
  };
  Failure f{Mute()};
  CHECK(f.getErrorMessage().empty());
  CHECK(f.getTraceback().find("Mute") != std::string::npos);
}

TEST_CASE("getTraceback gives type, message and trail") {
  Failure f{TimeoutError("too slow")};
  CHECK(f.getTraceback() == "torsion::TimeoutError: too slow");
  f.addToTrail(std::source_location::current());
  CHECK(f.getTraceback().find("failure_test.cpp:") != std::string::npos);
}

TEST_CASE("copies share the exception but not the trail") {
  Failure f{TimeoutError()};
  f.addToTrail(std::source_location::current());
  Failure g = f;
  g.addToTrail(std::source_location::current());
  CHECK(f.value() == g.value());
  CHECK(f.trail().size() == 1);
  CHECK(g.trail().size() == 2);
  f = g;
  CHECK(f.trail().size() == 2);
}

TEST_CASE("a trail is bounded and says what it left out") {
  Failure f{TimeoutError()};
  for (int i = 0; i < 20; ++i) f.addToTrail(std::source_location::current());
  CHECK(f.trail().size() == Failure::kTrailLimit);
  CHECK(f.getTraceback().find("and 4 more") != std::string::npos);
}

TEST_CASE("a Failure is written with its type and message") {
  std::ostringstream out;
  out << Failure(TimeoutError("too late")) << "; ";
  try {
    throw 5;
  } catch (...) {
    out << Failure::current();
  }
  CHECK(out.str() == "torsion::TimeoutError: too late; int");
}

TEST_CASE("a Failure of nothing is refused; one that was moved from says so") {
  CHECK_THROWS_AS(Failure{std::exception_ptr()}, std::invalid_argument);
  Failure f = std::runtime_error("x");
  const Failure g = std::move(f);
  CHECK_FALSE(f.check<std::exception>());
  CHECK_THROWS_AS(static_cast<void>(f.getErrorMessage()), std::logic_error);
  CHECK_THROWS_AS(static_cast<void>(f.getTraceback()), std::logic_error);
  CHECK_THROWS_AS(static_cast<void>(f.type()), std::logic_error);
  CHECK_THROWS_AS(f.raise(), std::logic_error);
  CHECK(g.getErrorMessage() == "x");
}

TEST_CASE("what a handler of unhandled failures throws goes nowhere") {
  auto before = setUnhandledFailureHandler(
      [](std::string_view, const Failure&, const std::source_location&) { throw std::runtime_error("handler"); });
  CHECK_NOTHROW(Deferred<int>().errback(std::runtime_error("to standard error")));
  setUnhandledFailureHandler(before);
}
