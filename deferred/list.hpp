// Many Deferreds as one: DeferredList, gatherResults, race.
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/detail/join.hpp>

namespace torsion {

/// What gatherResults, and a DeferredList with fireOnOneErrback, fail with: the first failure, and whose it is.
struct FirstError : std::runtime_error {
  FirstError(Failure subFailure, std::size_t index)
      : runtime_error("input " + std::to_string(index) + " failed: " + subFailure.getErrorMessage()),
        subFailure(std::move(subFailure)),
        index(index) {}
  Failure subFailure;
  std::size_t index;
};

/// What race fails with when all its inputs failed.
struct FailureGroup : std::runtime_error {
  explicit FailureGroup(std::vector<Failure> failures)
      : runtime_error(std::to_string(failures.size()) + " Deferreds failed"), failures(std::move(failures)) {}
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
std::vector<Owner> owners(std::vector<Deferred<T>>&& deferreds) {
  std::vector<Owner> inputs;
  inputs.reserve(deferreds.size());
  for (auto& deferred : deferreds) inputs.push_back(std::move(deferred).releaseOwner());
  deferreds.clear();
  return inputs;
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
  bool record(std::size_t index, Chain& input) override {
    Result<T> result = resultOf<T>(input);
    if constexpr (kFireOnOneCallback) {
      if (result.ok()) {
        if constexpr (std::is_void_v<T>) {
          out().template putValue<Out>(std::in_place_index<0>, index);
        } else {
          out().template putValue<Out>(std::in_place_index<0>, std::move(result).value(), index);
        }
        return true;
      }
    }
    if (fireOnOneErrback_ && !result.ok()) {
      out().putFailure(FirstError(std::move(result).failure(), index));
      return true;
    }
    results_[index].emplace(std::move(result));
    if (!allRecorded()) return false;
    std::vector<Result<T>> all;
    all.reserve(results_.size());
    for (auto& one : results_) all.push_back(std::move(*one));
    if constexpr (kFireOnOneCallback) {
      out().template putValue<Out>(std::in_place_index<1>, std::move(all));
    } else {
      out().template putValue<Out>(std::move(all));
    }
    return true;
  }
  std::vector<std::optional<Result<T>>> results_;
  bool fireOnOneErrback_;
};

template <class T>
class RaceJoin final : public Join {
 public:
  explicit RaceJoin(Chain& out, std::size_t size) : Join(out, Kind::race, true), failures_(size) {}

 private:
  bool record(std::size_t index, Chain& input) override {
    if (won_) return false;
    Result<T> result = resultOf<T>(input);
    if (result.ok()) {
      // What losing inputs fire while they are cancelled changes nothing any more.
      won_ = true;
      if constexpr (std::is_void_v<T>) {
        out().template putValue<std::size_t>(index);
      } else {
        out().template putValue<std::pair<std::size_t, T>>(index, std::move(result).value());
      }
      cancelOthers(index);
      return true;
    }
    failures_[index].emplace(std::move(result).failure());
    if (!allRecorded()) return false;
    std::vector<Failure> all;
    for (auto& one : failures_) all.push_back(std::move(*one));
    out().putFailure(FailureGroup(std::move(all)));
    return true;
  }
  std::vector<std::optional<Failure>> failures_;
  bool won_ = false;
};

template <class... T>
class TupleJoin final : public Join {
 public:
  explicit TupleJoin(Chain& out) : Join(out, Kind::list, false) {}

 private:
  bool record(std::size_t index, Chain& input) override {
    if (input.failed()) {
      out().putFailure(FirstError(input.failure(), index));
      return true;
    }
    take(index, input, std::index_sequence_for<T...>());
    if (!allRecorded()) return false;
    std::apply([this](auto&... one) { out().template putValue<std::tuple<Stored<T>...>>(std::move(*one)...); },
               values_);
    return true;
  }
  template <std::size_t... I>
  void take(std::size_t index, Chain& input, std::index_sequence<I...>) {
    (..., (I == index ? void(std::get<I>(values_).emplace(input.takeValue<Stored<T>>())) : void()));
  }
  std::tuple<std::optional<Stored<T>>...> values_;
};

template <class Out, bool kFireOnOneCallback, class T>
Deferred<Out> makeList(std::vector<Deferred<T>>&& deferreds, bool fireOnOneErrback, bool consumeErrors,
                       const std::source_location& where) {
  Owner out(*new Chain(typeid(Out), where));
  auto* join = new ListJoin<T, Out, kFireOnOneCallback>(*out, deferreds.size(), fireOnOneErrback, consumeErrors);
  if (deferreds.empty() && !kFireOnOneCallback) {
    out->putValue<Out>();
    out->markFired();
  }
  join->watch(owners(std::move(deferreds)), where);
  return Deferred<Out>(std::move(out));
}

}  // namespace detail

/// Fires when all of `deferreds` have, with a Result for each in their order; never fails, but with fireOnOneErrback.
/// It takes its inputs and keeps them until it goes. Mind: without consumeErrors each input that failed is still
/// reported as unhandled then, unless an errback of its own handled it (as in Twisted).
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
/// The same of Deferreds of any types, as a tuple (Unit for void).
template <class... T>
  requires(sizeof...(T) > 0)
Deferred<std::tuple<detail::Stored<T>...>> gatherResults(Deferred<T>... deferreds) {
  using Out = std::tuple<detail::Stored<T>...>;
  detail::Owner out(*new detail::Chain(typeid(Out), std::source_location::current()));
  auto* join = new detail::TupleJoin<T...>(*out);
  std::vector<detail::Owner> inputs;
  (..., inputs.push_back(std::move(deferreds).releaseOwner()));
  join->watch(std::move(inputs), std::source_location::current());
  return Deferred<Out>(std::move(out));
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
    auto* join = new detail::RaceJoin<T>(*out, deferreds.size());
    join->watch(detail::owners(std::move(deferreds)), where);
  }
  return Deferred<Out>(std::move(out));
}

}  // namespace torsion
