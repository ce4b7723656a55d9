// Many Deferreds as one: DeferredList, gatherResults, race.
#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/detail/join.hpp>

namespace torsion {

/// What gatherResults, and a DeferredList with fireOnOneErrback, fail with: the first failure, and whose it is.
struct FirstError : std::runtime_error {
  FirstError(Failure subFailure, std::size_t index);
  FirstError(const FirstError&) = default;
  FirstError& operator=(const FirstError&) = default;
  ~FirstError() override;
  Failure subFailure;
  std::size_t index;
};

/// What race fails with when all its inputs failed.
struct FailureGroup : std::runtime_error {
  explicit FailureGroup(std::vector<Failure> failures);
  FailureGroup(const FailureGroup&) = default;
  FailureGroup& operator=(const FailureGroup&) = default;
  ~FailureGroup() override;
  std::vector<Failure> failures;
};

struct DeferredListOptions {
  bool fireOnOneErrback = false;  ///< fail with FirstError as soon as one fails
  bool consumeErrors = false;     ///< count the inputs' failures as handled
};
/// The same, for a list that fires with the first value.
struct FireOnOneCallback {
  bool fireOnOneErrback = false;
  bool consumeErrors = false;
};

namespace detail {

template <class T>
std::vector<Owner> owners(std::vector<Deferred<T>>&& deferreds, const std::source_location& where) {
  std::vector<Owner> inputs;
  inputs.reserve(deferreds.size());
  for (auto& deferred : deferreds) inputs.push_back(std::move(deferred).releaseOwner(where));
  return inputs;
}

// Of what is written in braces.
template <class T, std::size_t N>
std::vector<Deferred<T>> toVector(Deferred<T> (&&deferreds)[N]) {
  return std::vector<Deferred<T>>(std::make_move_iterator(deferreds), std::make_move_iterator(deferreds + N));
}
template <class T, class... More>
std::vector<Deferred<T>> toVector(Deferred<T> first, More... more) {
  Deferred<T> all[] = {std::move(first), std::move(more)...};
  return toVector(std::move(all));
}

template <class T>
Result<T> resultOf(Chain& input) {
  if (input.failed()) return input.failure();
  if constexpr (std::is_void_v<T>) {
    return {};
  } else if (input.state() == State::value) {
    // Only the list will look at it, so it need not be copied.
    return std::move(input.template value<T>());
  } else {
    return input.template takeValue<T>();
  }
}

template <class T, class Out, bool kFireOnOneCallback>
class ListJoin final : public Join {
 public:
  ListJoin(Chain& out, std::size_t size, bool fireOnOneErrback, bool consumeErrors)
      : Join(out, Kind::list, consumeErrors), results_(size), fireOnOneErrback_(fireOnOneErrback) {}

 private:
  bool decides(Chain& input) const noexcept override { return input.failed() ? fireOnOneErrback_ : kFireOnOneCallback; }
  void decide(std::size_t index, Chain& input) override {
    if (input.failed()) {
      out().putFailure(FirstError(input.failure(), index));
      return;
    }
    if constexpr (kFireOnOneCallback) {
      if constexpr (std::is_void_v<T>) {
        out().template putValue<Out>(std::in_place_index<0>, index);
      } else {
        out().template putValue<Out>(std::in_place_index<0>, resultOf<T>(input).value(), index);
      }
    }
  }
  void record(std::size_t index, Chain& input) override { results_[index].emplace(resultOf<T>(input)); }
  void complete() override {
    std::vector<Result<T>> all;
    all.reserve(results_.size());
    for (auto& one : results_) all.push_back(std::move(*one));
    if constexpr (kFireOnOneCallback) {
      out().template putValue<Out>(std::in_place_index<1>, std::move(all));
    } else {
      out().template putValue<Out>(std::move(all));
    }
  }
  std::vector<std::optional<Result<T>>> results_;
  bool fireOnOneErrback_;
};

template <class T>
class RaceJoin final : public Join {
 public:
  explicit RaceJoin(Chain& out, std::size_t size) : Join(out, Kind::race, true), failures_(size) {}

 private:
  bool decides(Chain& input) const noexcept override { return !input.failed(); }
  void decide(std::size_t index, Chain& input) override {
    if constexpr (std::is_void_v<T>) {
      out().template putValue<std::size_t>(index);
    } else {
      out().template putValue<std::pair<std::size_t, T>>(index, resultOf<T>(input).value());
    }
  }
  void record(std::size_t index, Chain& input) override { failures_[index].emplace(input.failure()); }
  void complete() override {
    std::vector<Failure> all;
    for (auto& one : failures_) all.push_back(std::move(*one));
    out().putFailure(FailureGroup(std::move(all)));
  }
  std::vector<std::optional<Failure>> failures_;
};

// Of Deferreds of several types. kResults: a Result of each, which never fails; else the values, or FirstError.
template <bool kResults, class... T>
class TupleJoin final : public Join {
 public:
  using Out = std::tuple<std::conditional_t<kResults, Result<T>, Stored<T>>...>;
  TupleJoin(Chain& out, bool fireOnOneErrback, bool consumeErrors)
      : Join(out, Kind::list, consumeErrors), fireOnOneErrback_(fireOnOneErrback) {}

 private:
  bool decides(Chain& input) const noexcept override { return input.failed() && fireOnOneErrback_; }
  void decide(std::size_t index, Chain& input) override { out().putFailure(FirstError(input.failure(), index)); }
  void record(std::size_t index, Chain& input) override { put(index, input, std::index_sequence_for<T...>()); }
  void complete() override {
    std::apply([this](auto&... one) { out().template putValue<Out>(std::move(*one)...); }, values_);
  }
  template <std::size_t... I>
  void put(std::size_t index, Chain& input, std::index_sequence<I...>) {
    (..., (I == index ? putOne<T>(std::get<I>(values_), input) : void()));
  }
  template <class U, class V>
  static void putOne(std::optional<V>& to, Chain& input) {
    if constexpr (kResults) {
      to.emplace(resultOf<U>(input));
    } else {
      to.emplace(input.template takeValue<Stored<U>>());
    }
  }
  std::tuple<std::optional<std::conditional_t<kResults, Result<T>, Stored<T>>>...> values_;
  bool fireOnOneErrback_;
};

template <bool kResults, class... T>
auto makeTuple(const std::source_location& where, DeferredListOptions options, Deferred<T>... deferreds) {
  using Join = TupleJoin<kResults, T...>;
  std::vector<Owner> inputs;
  inputs.reserve(sizeof...(T));
  (..., inputs.push_back(std::move(deferreds).releaseOwner(where)));
  Owner out(*new Chain(typeid(typename Join::Out), where));
  (new Join(*out, options.fireOnOneErrback, options.consumeErrors))->watch(std::move(inputs), where);
  return Deferred<typename Join::Out>(std::move(out));
}

template <class Out, bool kFireOnOneCallback, class T>
Deferred<Out> makeList(std::vector<Deferred<T>>&& deferreds, bool fireOnOneErrback, bool consumeErrors,
                       const std::source_location& where) {
  std::vector<Owner> inputs = owners(std::move(deferreds), where);
  Owner out(*new Chain(typeid(Out), where));
  auto* join = new ListJoin<T, Out, kFireOnOneCallback>(*out, inputs.size(), fireOnOneErrback, consumeErrors);
  if (inputs.empty() && !kFireOnOneCallback) {
    out->putValue<Out>();
    out->markFired();
  }
  join->watch(std::move(inputs), where);
  return Deferred<Out>(std::move(out));
}

}  // namespace detail

/// Fires when all of `deferreds` have, with a Result for each in their order; never fails, but with fireOnOneErrback.
/// It takes its inputs and keeps them until it goes: add what an input needs before, `std::move(d)` leaves nothing to
/// add to. Mind: without consumeErrors a failure that no errback of the input's own has handled by then is reported as
/// unhandled when the list goes, though it is among the Results (as in Twisted).
/// cancel() cancels every input, if it has not fired. An empty list fires at once.
template <class T>
Deferred<std::vector<Result<T>>> DeferredList(std::vector<Deferred<T>> deferreds, DeferredListOptions options = {},
                                              std::source_location where = std::source_location::current()) {
  return detail::makeList<std::vector<Result<T>>, false>(std::move(deferreds), options.fireOnOneErrback,
                                                         options.consumeErrors, where);
}
/// Fires with the first value and its index (the index alone of Deferred<void>), or with all the Results if all failed.
/// An empty list never fires on its own; as nobody could fire it, it fails with BrokenDeferred.
template <class T, std::same_as<FireOnOneCallback> Options>
auto DeferredList(std::vector<Deferred<T>> deferreds, Options options,
                  std::source_location where = std::source_location::current()) {
  using First = typename std::conditional_t<std::is_void_v<T>, std::type_identity<std::size_t>,
                                            std::type_identity<std::pair<detail::Stored<T>, std::size_t>>>::type;
  using Out = std::variant<First, std::vector<Result<T>>>;
  return detail::makeList<Out, true>(std::move(deferreds), options.fireOnOneErrback, options.consumeErrors, where);
}
/// DeferredList({std::move(a), std::move(b)}).
template <class T, std::size_t N>
auto DeferredList(Deferred<T> (&&deferreds)[N], DeferredListOptions options = {},
                  std::source_location where = std::source_location::current()) {
  return DeferredList(detail::toVector(std::move(deferreds)), options, where);
}
/// The same of Deferreds of any types, as a tuple of Results.
template <class A, class B>
auto DeferredList(Deferred<A> a, Deferred<B> b, DeferredListOptions options = {},
                  std::source_location where = std::source_location::current()) {
  return detail::makeTuple<true>(where, options, std::move(a), std::move(b));
}
template <class A, class B, class C>
auto DeferredList(Deferred<A> a, Deferred<B> b, Deferred<C> c, DeferredListOptions options = {},
                  std::source_location where = std::source_location::current()) {
  return detail::makeTuple<true>(where, options, std::move(a), std::move(b), std::move(c));
}

/// Fires with the values in order, or fails with FirstError at the first failure; the others go on all the same.
/// cancel() cancels them all. Of Deferred<void>: fires with nothing.
template <class T>
auto gatherResults(std::vector<Deferred<T>> deferreds, bool consumeErrors = false,
                   std::source_location where = std::source_location::current()) {
  auto list = DeferredList(std::move(deferreds),
                           DeferredListOptions{.fireOnOneErrback = true, .consumeErrors = consumeErrors}, where);
  if constexpr (std::is_void_v<T>) {
    return std::move(list).addCallback([](std::vector<Result<T>>) {}, where);
  } else {
    return std::move(list).addCallback(
        [](std::vector<Result<T>> results) {
          std::vector<T> values;
          values.reserve(results.size());
          for (auto& result : results) values.push_back(std::move(result).value());
          return values;
        },
        where);
  }
}
/// gatherResults({std::move(a), std::move(b)}).
template <class T, std::size_t N>
auto gatherResults(Deferred<T> (&&deferreds)[N], bool consumeErrors = false,
                   std::source_location where = std::source_location::current()) {
  return gatherResults(detail::toVector(std::move(deferreds)), consumeErrors, where);
}
/// The same of Deferreds of any types, as a tuple (Unit for void). One by one, since `where` cannot follow a pack; of
/// more than four, reports name the place where the first was made.
template <class A, class B>
auto gatherResults(Deferred<A> a, Deferred<B> b, std::source_location where = std::source_location::current()) {
  return detail::makeTuple<false>(where, {.fireOnOneErrback = true}, std::move(a), std::move(b));
}
template <class A, class B, class C>
auto gatherResults(Deferred<A> a, Deferred<B> b, Deferred<C> c,
                   std::source_location where = std::source_location::current()) {
  return detail::makeTuple<false>(where, {.fireOnOneErrback = true}, std::move(a), std::move(b), std::move(c));
}
template <class A, class B, class C, class D>
auto gatherResults(Deferred<A> a, Deferred<B> b, Deferred<C> c, Deferred<D> d,
                   std::source_location where = std::source_location::current()) {
  return detail::makeTuple<false>(where, {.fireOnOneErrback = true}, std::move(a), std::move(b), std::move(c),
                                  std::move(d));
}
template <class First, class... T>
  requires(sizeof...(T) == 0 || sizeof...(T) > 3)
auto gatherResults(Deferred<First> first, Deferred<T>... others) {
  const std::source_location where = first.chain().made();
  return detail::makeTuple<false>(where, {.fireOnOneErrback = true}, std::move(first), std::move(others)...);
}

/// Fires with the index and value of the first to succeed (the index alone of Deferred<void>), and cancels the others,
/// whose failures count as handled. Fails with FailureGroup if all fail, and at once if there are none. cancel()
/// cancels them all.
template <class T>
auto race(std::vector<Deferred<T>> deferreds, std::source_location where = std::source_location::current()) {
  using Out = typename std::conditional_t<std::is_void_v<T>, std::type_identity<std::size_t>,
                                          std::type_identity<std::pair<std::size_t, detail::Stored<T>>>>::type;
  detail::Owner out(*new detail::Chain(typeid(Out), where));
  if (deferreds.empty()) {
    out->putFailure(FailureGroup({}));
    out->markFired();
  } else {
    std::vector<detail::Owner> inputs = detail::owners(std::move(deferreds), where);
    auto* join = new detail::RaceJoin<T>(*out, inputs.size());
    join->watch(std::move(inputs), where);
  }
  return Deferred<Out>(std::move(out));
}

/// race({std::move(a), std::move(b)}), and race(std::move(a), std::move(b)).
template <class T, std::size_t N>
auto race(Deferred<T> (&&deferreds)[N], std::source_location where = std::source_location::current()) {
  return race(detail::toVector(std::move(deferreds)), where);
}
template <class T>
auto race(Deferred<T> a, Deferred<T> b, std::source_location where = std::source_location::current()) {
  return race(detail::toVector(std::move(a), std::move(b)), where);
}
template <class T>
auto race(Deferred<T> a, Deferred<T> b, Deferred<T> c, std::source_location where = std::source_location::current()) {
  return race(detail::toVector(std::move(a), std::move(b), std::move(c)), where);
}

}  // namespace torsion
