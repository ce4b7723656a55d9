// Runs programs in the format of FORMAT.md, one JSON object a line on standard input, and prints their traces.
//
// Everything is done by the library's public classes. Twisted's Deferred is an object that many may hold, ours a
// handle that one owns: detail::secondHandle makes further handles to the same chain, and with BrokenDeferred turned
// off a Resolver may go unfired, as in Twisted.
#include <algorithm>
#include <boost/json.hpp>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/detail/second_handle.hpp>
#include <deferred/errors.hpp>
#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <deferred/sync.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/clock.hpp>

namespace {

using namespace torsion;
namespace json = boost::json;

// ------------------------------------------------------------------------------------------------ values and errors

bool noneAsZero = false;

/// An integer or nothing (Python's None). Nothing is what remains when another Deferred took the value.
class Value {
 public:
  Value() = default;
  Value(long number) : number_(number) {}

  long number() const { return number_.value_or(0); }
  std::string text() const { return number_ || noneAsZero ? std::to_string(number()) : "None"; }

 private:
  std::optional<long> number_;
};

struct TestError : std::exception {
  explicit TestError(long n) : number(n) {}
  long number;
};
struct ErrA : TestError {
  using TestError::TestError;
};
struct ErrB : TestError {
  using TestError::TestError;
};
struct ErrC : ErrA {
  using ErrA::ErrA;
};

std::string text(const Failure& f) {
  auto numbered = [](const char* name, const TestError& e) {
    return "!" + std::string(name) + "(" + std::to_string(e.number) + ")";
  };
  if (auto* e = f.get<ErrC>()) return numbered("ErrC", *e);
  if (auto* e = f.get<ErrA>()) return numbered("ErrA", *e);
  if (auto* e = f.get<ErrB>()) return numbered("ErrB", *e);
  if (auto* e = f.get<FirstError>()) {
    return "!FirstError(#" + std::to_string(e->index) + " " + text(e->subFailure) + ")";
  }
  if (f.check<CancelledError>()) return "!CancelledError";
  if (f.check<TimeoutError>()) return "!TimeoutError";
  if (f.check<AlreadyCalledError>()) return "!AlreadyCalledError";
  if (f.check<AlreadyCalled>()) return "!AlreadyCalled";
  if (f.check<AlreadyCancelled>()) return "!AlreadyCancelled";
  if (f.check<QueueOverflow>()) return "!QueueOverflow";
  if (f.check<QueueUnderflow>()) return "!QueueUnderflow";
  return "!" + f.getErrorMessage();
}

std::string text(const Result<Value>& x) {
  return x.ok() ? x.value().text() : text(x.failure());
}

bool isOf(const Failure& f, const json::array& classes) {
  return std::any_of(classes.begin(), classes.end(), [&](const json::value& c) {
    std::string_view name = c.as_string();
    if (name == "ErrA") return f.check<ErrA>();
    if (name == "ErrB") return f.check<ErrB>();
    if (name == "ErrC") return f.check<ErrC>();
    if (name == "CancelledError") return f.check<CancelledError>();
    if (name == "TimeoutError") return f.check<TimeoutError>();
    if (name == "AlreadyCalledError") return f.check<AlreadyCalledError>();
    if (name == "FirstError") return f.check<FirstError>();
    return name == "Exception";
  });
}

long integer(const json::object& o, const char* key) {
  return o.at(key).to_number<long>();
}
bool flag(const json::object& o, const char* key) {
  return o.at(key).as_bool();
}
Duration seconds(long n) {
  return std::chrono::seconds(n);
}
std::string text(Duration t) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(t).count());
}

/// The error ["ErrA", 5].
Failure error(const json::object& o) {
  const json::array& e = o.at("e").as_array();
  std::string_view name = e.at(0).as_string();
  long number = e.size() > 1 ? e.at(1).to_number<long>() : 0;
  if (name == "ErrA") return ErrA(number);
  if (name == "ErrB") return ErrB(number);
  if (name == "ErrC") return ErrC(number);
  if (name == "CancelledError") return CancelledError();
  if (name == "TimeoutError") return TimeoutError();
  throw std::runtime_error("no such class: " + std::string(name));
}

// ------------------------------------------------------------------------------------------------------ the machine

std::vector<std::string> unhandled;
void noteUnhandled(std::string_view what, const Failure& failure, const std::source_location&) {
  if (what == "Unhandled error in Deferred") {
    unhandled.push_back(text(failure));
  } else {
    std::cout << "logged " << text(failure) << '\n';
  }
}

/// A Deferred by its number.
struct Named {
  Deferred<Value> handle;
  std::optional<Resolver<Value>> resolver;  // of those that steps fire; others are fired through the handle
  // By chainDeferred two Deferreds refer to each other in Twisted: the target until it runs next.
  std::optional<Deferred<Value>> source, target;
};

/// What an action came to.
using Outcome = std::variant<Result<Value>, Deferred<Value>>;

/// The type that a callback with this action is given, so that each kind of return value is used.
enum class Returns { kValue, kResult, kDeferred };

class Machine {
 public:
  void run(const json::object& program) {
    long n = 0;
    for (const json::value& s : program.at("steps").as_array()) {
      emit("> " + std::to_string(n++));
      step(s.as_object());
    }
    emit("> end");
    for (DelayedCall& call : clock_.getDelayedCalls()) call.cancel();
    deferreds_.clear();
    // Those that wait for each other: Python would see that nobody can fire any of them.
    for (const auto& target : targets_) {
      if (auto kept = target.lock()) const Deferred<Value> dropped = std::move(*kept);
    }
    calls_.clear();
    loops_.clear();
    locks_.clear();
    semaphores_.clear();
    queues_.clear();
    collect();
    emit("end");
  }

 private:
  using Handler = void (Machine::*)(const json::object&);

  static void emit(const std::string& line) { std::cout << line << '\n'; }

  static void collect() {
    std::sort(unhandled.begin(), unhandled.end());
    for (const std::string& line : unhandled) emit("unhandled " + line);
    unhandled.clear();
  }

  Named* find(long d) {
    auto it = deferreds_.find(d);
    return it == deferreds_.end() ? nullptr : &it->second;
  }
  Named* find(const json::object& s) { return find(integer(s, "d")); }
  void set(const json::object& s, Deferred<Value> d, std::optional<Resolver<Value>> r = std::nullopt) {
    deferreds_.insert_or_assign(integer(s, "d"), Named{std::move(d), std::move(r), std::nullopt, std::nullopt});
  }
  /// A handle that stays valid while what follows drops the name.
  Deferred<Value> second(Named& named) {
    if (named.handle.called()) {
      named.source.reset();
      named.target.reset();
    }
    return detail::secondHandle(named.handle);
  }

  // -- functions given to the library
  Outcome act(const json::object& a, Result<Value> x) {
    std::string_view k = a.at("k").as_string();
    if (k == "ret") return Result<Value>(Value(integer(a, "v")));
    if (k == "add") return Result<Value>(Value((x.ok() ? x.value().number() : 0) + integer(a, "v")));
    if (k == "same") return x;
    if (k == "none") return Result<Value>(Value());
    if (k == "raise") error(a).raise();
    if (k == "fail") return Result<Value>(error(a));
    if (k == "trap") {
      if (x.ok()) return x;
      if (!isOf(x.failure(), a.at("e").as_array())) x.failure().raise();
      return Result<Value>(Value(integer(a, "v")));
    }
    if (k == "defer") {
      Named* named = find(a);
      if (!named) return x;
      return second(*named);
    }
    if (k == "do") {
      steps(a.at("steps").as_array());
      return act(a.at("then").as_object(), std::move(x));
    }
    throw std::runtime_error("no such action: " + std::string(k));
  }

  static Returns returns(const json::object& a, bool errback) {
    std::string_view k = a.at("k").as_string();
    if (k == "do") return returns(a.at("then").as_object(), errback);
    if (k == "defer") return Returns::kDeferred;
    if (k == "fail" || (errback && k == "same")) return Returns::kResult;
    return Returns::kValue;
  }

  /// Does `a` with x and gives what it came to as the R that the chain is to see.
  template <class R>
  R actAs(const json::object& a, Result<Value> x) {
    Outcome out = act(a, std::move(x));
    if constexpr (std::is_same_v<R, Deferred<Value>>) {
      if (auto* d = std::get_if<Deferred<Value>>(&out)) return std::move(*d);
      Result<Value> result = std::get<Result<Value>>(std::move(out));
      if (result.ok()) return succeed(std::move(result).value());
      return fail<Value>(std::move(result).failure());
    } else if constexpr (std::is_same_v<R, Value>) {
      return std::get<Result<Value>>(std::move(out)).value();
    } else {
      return std::get<Result<Value>>(std::move(out));
    }
  }

  /// The function (f, a) of an argument.
  template <class R, class X>
  auto function(const json::object& s) {
    return [this, f = integer(s, "f"), a = &s.at("a").as_object()](X x) -> R {
      Result<Value> result(std::move(x));
      emit("cb " + std::to_string(f) + " " + text(result));
      return actAs<R>(*a, std::move(result));
    };
  }
  /// The function (f, a) of no argument.
  template <class R>
  auto starter(const json::object& s) {
    return [this, f = integer(s, "f"), a = &s.at("a").as_object()]() -> R {
      emit("cb " + std::to_string(f) + " -");
      return actAs<R>(*a, Value(0));
    };
  }

  /// Calls use(type) with the type, as a null pointer, that a function with the action of s returns.
  template <class Use>
  static void withReturnType(const json::object& s, bool errback, Use use) {
    switch (returns(s.at("a").as_object(), errback)) {
      case Returns::kValue:
        return use(static_cast<Value*>(nullptr));
      case Returns::kResult:
        return use(static_cast<Result<Value>*>(nullptr));
      case Returns::kDeferred:
        return use(static_cast<Deferred<Value>*>(nullptr));
    }
  }

  // -- steps
  void steps(const json::array& all) {
    for (const json::value& s : all) step(s.as_object());
  }

  void step(const json::object& s) {
    static const std::map<std::string_view, Handler> handlers = {
        {"make", &Machine::make},
        {"succeed", &Machine::succeedStep},
        {"fail", &Machine::failStep},
        {"maybe", &Machine::maybe},
        {"addCallback", &Machine::addCallback},
        {"addErrback", &Machine::addErrback},
        {"addBoth", &Machine::addBoth},
        {"addCallbacks", &Machine::addCallbacks},
        {"callback", &Machine::callback},
        {"errback", &Machine::errback},
        {"cancel", &Machine::cancel},
        {"pause", &Machine::pause},
        {"unpause", &Machine::unpause},
        {"chain", &Machine::chain},
        {"list", &Machine::list},
        {"gather", &Machine::gather},
        {"drop", &Machine::drop},
        {"advance", &Machine::advance},
        {"later", &Machine::later},
        {"dcCancel", &Machine::dcCancel},
        {"dcReset", &Machine::dcReset},
        {"dcDelay", &Machine::dcDelay},
        {"dcActive", &Machine::dcActive},
        {"pending", &Machine::pending},
        {"timeout", &Machine::timeout},
        {"deferLater", &Machine::deferLaterStep},
        {"loop", &Machine::loop},
        {"loopStop", &Machine::loopStop},
        {"loopReset", &Machine::loopReset},
        {"inline", &Machine::inlineStep},
        {"async", &Machine::asyncStep},
        {"lock", &Machine::lock},
        {"sem", &Machine::sem},
        {"queue", &Machine::queue},
        {"acquire", &Machine::acquire},
        {"release", &Machine::release},
        {"runLocked", &Machine::runLocked},
        {"put", &Machine::put},
        {"get", &Machine::get},
    };
    try {
      (this->*handlers.at(s.at("op").as_string()))(s);
    } catch (...) {
      emit("raised " + text(Failure::current()));
    }
  }

  void make(const json::object& s) {
    Resolver<Value> r;
    if (const json::value* c = s.if_contains("canceller"); c && !c->is_null()) {
      r.onCancel([d = integer(s, "d"), c = &c->as_object()](const Resolver<Value>& r) {
        emit("canceller " + std::to_string(d));
        std::string_view k = c->at("k").as_string();
        if (k == "callback") r.callback(integer(*c, "v"));
        if (k == "errback") r.errback(error(*c));
        if (k == "raise") error(*c).raise();
      });
    }
    Deferred<Value> d = r.deferred();
    set(s, std::move(d), std::move(r));
  }
  void succeedStep(const json::object& s) { set(s, succeed(Value(integer(s, "v")))); }
  void failStep(const json::object& s) { set(s, fail<Value>(error(s))); }
  void maybe(const json::object& s) {
    withReturnType(s, false, [&](auto* r) { set(s, maybeDeferred(starter<std::remove_pointer_t<decltype(r)>>(s))); });
  }

  void addCallback(const json::object& s) {
    if (Named* d = find(s)) {
      withReturnType(s, false,
                     [&](auto* r) { second(*d).addCallback(function<std::remove_pointer_t<decltype(r)>, Value>(s)); });
    }
  }
  void addErrback(const json::object& s) {
    if (Named* d = find(s)) {
      withReturnType(s, true,
                     [&](auto* r) { second(*d).addErrback(function<std::remove_pointer_t<decltype(r)>, Failure>(s)); });
    }
  }
  void addBoth(const json::object& s) {
    if (Named* d = find(s)) {
      withReturnType(s, true, [&](auto* r) {
        second(*d).addBoth(function<std::remove_pointer_t<decltype(r)>, Result<Value>>(s));
      });
    }
  }
  void addCallbacks(const json::object& s) {
    Named* d = find(s);
    if (!d) return;
    const json::object &cb = s.at("cb").as_object(), &eb = s.at("eb").as_object();
    withReturnType(cb, false, [&](auto* c) {
      withReturnType(eb, true, [&](auto* e) {
        second(*d).addCallbacks(function<std::remove_pointer_t<decltype(c)>, Value>(cb),
                                function<std::remove_pointer_t<decltype(e)>, Failure>(eb));
      });
    });
  }

  void callback(const json::object& s) {
    Named* d = find(s);
    if (!d) return;
    if (d->resolver) {
      Resolver<Value> r = *d->resolver;
      r.callback(integer(s, "v"));
    } else {
      detail::secondHandle(d->handle).callback(integer(s, "v"));
    }
  }
  void errback(const json::object& s) {
    Named* d = find(s);
    if (!d) return;
    if (d->resolver) {
      Resolver<Value> r = *d->resolver;
      r.errback(error(s));
    } else {
      detail::secondHandle(d->handle).errback(error(s));
    }
  }
  void cancel(const json::object& s) {
    if (Named* d = find(s)) second(*d).cancel();
  }
  void pause(const json::object& s) {
    if (Named* d = find(s)) {
      ++pauses_[integer(s, "d")];
      second(*d).pause();
    }
  }
  void unpause(const json::object& s) {
    Named* d = find(s);
    if (d && pauses_[integer(s, "d")] > 0) {
      --pauses_[integer(s, "d")];
      second(*d).unpause();
    }
  }

  void chain(const json::object& s) {
    Named *a = find(integer(s, "a")), *b = find(integer(s, "b"));
    if (!a || !b) return;
    Deferred<Value> source = second(*a);
    b->source = detail::secondHandle(a->handle);
    if (!source.called()) a->target = detail::secondHandle(b->handle);
    if (b->resolver) {
      std::move(source).chainDeferred(*b->resolver);
      return;
    }
    auto target = std::make_shared<Deferred<Value>>(detail::secondHandle(b->handle));
    targets_.push_back(target);
    source.addCallbacks([target](Value x) { return target->callback(x), Value(); },
                        [target](const Failure& f) { return target->errback(f), Value(); });
  }

  std::vector<Deferred<Value>> inputs(const json::object& s) {
    std::vector<Deferred<Value>> all;
    for (const json::value& i : s.at("of").as_array()) {
      if (Named* named = find(i.to_number<long>())) all.push_back(second(*named));
    }
    return all;
  }
  static Value gotList(long d, const std::vector<Result<Value>>& results) {
    std::string line = "list " + std::to_string(d) + " [";
    long succeeded = 0;
    for (const Result<Value>& x : results) {
      if (line.back() != '[') line += ' ';
      line += (x.ok() ? "(T " : "(F ") + text(x) + ")";
      succeeded += x.ok();
    }
    emit(line + "]");
    return succeeded;
  }
  void list(const json::object& s) {
    long d = integer(s, "d");
    bool fireOnOneErrback = flag(s, "fireOnOneErrback"), consumeErrors = flag(s, "consumeErrors");
    if (flag(s, "fireOnOneCallback")) {
      using One = std::pair<Value, std::size_t>;
      set(s,
          DeferredList(inputs(s), FireOnOneCallback{fireOnOneErrback, consumeErrors})
              .addCallback([d](std::variant<One, std::vector<Result<Value>>> got) -> Value {
                auto* one = std::get_if<One>(&got);
                if (!one) return gotList(d, std::get<1>(got));
                emit("list " + std::to_string(d) + " (" + one->first.text() + " " + std::to_string(one->second) + ")");
                return static_cast<long>(one->second);
              }));
    } else {
      set(s, DeferredList(inputs(s), DeferredListOptions{fireOnOneErrback, consumeErrors})
                 .addCallback([d](std::vector<Result<Value>> got) { return gotList(d, got); }));
    }
  }
  void gather(const json::object& s) {
    set(s, gatherResults(inputs(s), flag(s, "consumeErrors"))
               .addCallback([d = integer(s, "d")](std::vector<Value> got) -> Value {
                 std::string line = "gather " + std::to_string(d) + " [";
                 long sum = 0;
                 for (const Value& x : got) {
                   if (line.back() != '[') line += ' ';
                   line += x.text();
                   sum += x.number();
                 }
                 emit(line + "]");
                 return sum;
               }));
  }

  void drop(const json::object& s) {
    deferreds_.erase(integer(s, "d"));
    collect();
  }

  // -- time
  void advance(const json::object& s) { clock_.advance(seconds(integer(s, "t"))); }

  DelayedCall* call(const json::object& s) {
    auto it = calls_.find(integer(s, "c"));
    return it == calls_.end() ? nullptr : &it->second;
  }
  void later(const json::object& s) {
    long c = integer(s, "c");
    calls_[c] = clock_.callLater(seconds(integer(s, "t")), [this, c, then = &s.at("steps").as_array()] {
      emit("dc " + std::to_string(c) + " @" + text(clock_.seconds()));
      steps(*then);
    });
  }
  void dcCancel(const json::object& s) {
    if (DelayedCall* c = call(s)) c->cancel();
  }
  void dcReset(const json::object& s) {
    if (DelayedCall* c = call(s)) c->reset(seconds(integer(s, "t")));
  }
  void dcDelay(const json::object& s) {
    if (DelayedCall* c = call(s)) c->delay(seconds(integer(s, "t")));
  }
  void dcActive(const json::object& s) {
    if (DelayedCall* c = call(s)) {
      emit("active " + std::to_string(integer(s, "c")) + (c->active() ? " 1" : " 0"));
    }
  }
  void pending(const json::object&) { emit("pending " + std::to_string(clock_.getDelayedCalls().size())); }

  void timeout(const json::object& s) {
    Named* d = find(s);
    if (!d) return;
    Duration limit = seconds(integer(s, "t"));
    const json::value* given = s.if_contains("on");
    if (!given || given->is_null()) {
      second(*d).addTimeout(limit, clock_);
      return;
    }
    const json::object& on = given->as_object();
    withReturnType(on, true, [&](auto* r) {
      using R = std::remove_pointer_t<decltype(r)>;
      second(*d).addTimeout(limit, clock_,
                            [this, f = integer(on, "f"), a = &on.at("a").as_object()](Result<Value> x, Duration t) {
                              emit("ontimeout " + std::to_string(f) + " " + text(x) + " " + text(t));
                              return actAs<R>(*a, std::move(x));
                            });
    });
  }
  void deferLaterStep(const json::object& s) {
    withReturnType(s, false, [&](auto* r) {
      set(s, deferLater(clock_, seconds(integer(s, "t")), starter<std::remove_pointer_t<decltype(r)>>(s)));
    });
  }

  // -- LoopingCall
  struct Loop {
    std::unique_ptr<LoopingCall> call;
    std::size_t calls = 0;
  };
  /// The body's next call. A LoopingCall waits for a Deferred that its function returns.
  Deferred<Value> loopBody(long l, const json::array& script, long count) {
    Loop& loop = loops_.at(l);
    emit("loop " + std::to_string(l) + " #" + std::to_string(++loop.calls) +
         (count ? " x" + std::to_string(count) : "") + " @" + text(clock_.seconds()));
    if (loop.calls <= script.size()) {
      return actAs<Deferred<Value>>(script[loop.calls - 1].as_object(), Value(0));
    }
    if (loop.call->running()) loop.call->stop();
    return succeed(Value(0));
  }
  void loop(const json::object& s) {
    long l = integer(s, "l");
    const json::array* script = &s.at("script").as_array();
    Loop& loop = loops_[l];
    if (flag(s, "count")) {
      loop.call = std::make_unique<LoopingCall>(
          LoopingCall::withCount([=, this](long count) { return loopBody(l, *script, count); }, clock_));
    } else {
      loop.call = std::make_unique<LoopingCall>([=, this] { return loopBody(l, *script, 0); }, clock_);
    }
    set(s, loop.call->start(seconds(integer(s, "t")), flag(s, "now")).addCallback([l](auto&&...) -> Value {
      emit("loopdone " + std::to_string(l));
      return 0;
    }));
  }
  LoopingCall* runningLoop(const json::object& s) {
    auto it = loops_.find(integer(s, "l"));
    if (it == loops_.end()) return nullptr;
    if (it->second.call->running()) return it->second.call.get();
    emit("idle " + std::to_string(it->first));
    return nullptr;
  }
  void loopStop(const json::object& s) {
    if (LoopingCall* call = runningLoop(s)) call->stop();
  }
  void loopReset(const json::object& s) {
    if (LoopingCall* call = runningLoop(s)) call->reset();
  }

  // -- coroutines
  Deferred<Value> coroutine(long d, const json::array& script, bool takes) {
    Value x(0);
    for (std::size_t pc = 0; pc < script.size(); ++pc) {
      const json::object& ins = script[pc].as_object();
      std::string_view k = ins.at("k").as_string();
      if (k == "do") {
        steps(ins.at("steps").as_array());
      } else if (k == "ret") {
        co_return Value(integer(ins, "v"));
      } else if (k == "retadd") {
        co_return Value(x.number() + integer(ins, "v"));
      } else if (k == "raise") {
        error(ins).raise();
      } else if (Named* named = find(ins)) {
        Result<Value> got = Value();
        try {
          // Twisted's coroutines keep no handle that a collection would not see through, so none lives in this frame.
          if (takes) {
            got = co_await second(*named);
          } else {
            got = co_await named->handle;
          }
        } catch (...) {
          got = Failure::current();
        }
        emit("co " + std::to_string(d) + " " + std::to_string(pc) + " " + text(got));
        if (got.ok()) {
          x = std::move(got).value();
        } else {
          const json::value* c = ins.if_contains("catch");
          if (!c || c->is_null() || !isOf(got.failure(), c->at("e").as_array())) got.failure().raise();
          x = Value(integer(c->as_object(), "v"));
        }
      }
    }
    co_return Value(x.number());
  }
  void inlineStep(const json::object& s) { set(s, coroutine(integer(s, "d"), s.at("script").as_array(), true)); }
  void asyncStep(const json::object& s) { set(s, coroutine(integer(s, "d"), s.at("script").as_array(), false)); }

  // -- DeferredLock, DeferredSemaphore, DeferredQueue
  void lock(const json::object& s) { locks_[integer(s, "p")] = std::make_unique<DeferredLock>(); }
  void sem(const json::object& s) {
    semaphores_[integer(s, "p")] = std::make_unique<DeferredSemaphore>(static_cast<std::size_t>(integer(s, "n")));
  }
  void queue(const json::object& s) {
    auto limit = [&](const char* key) -> std::optional<std::size_t> {
      const json::value* v = s.if_contains(key);
      if (!v || v->is_null()) return std::nullopt;
      return v->to_number<std::size_t>();
    };
    queues_[integer(s, "p")] = std::make_unique<DeferredQueue<Value>>(limit("size"), limit("backlog"));
  }
  /// Calls use(primitive) with the lock or semaphore of s.
  template <class Use>
  void withPrimitive(const json::object& s, Use use) {
    auto it = locks_.find(integer(s, "p"));
    if (it != locks_.end()) {
      use(*it->second);
    } else {
      use(*semaphores_.at(integer(s, "p")));
    }
  }
  static bool isFree(const DeferredLock& p) { return !p.locked(); }
  static bool isFree(const DeferredSemaphore& p) { return p.tokens() >= p.limit(); }

  void acquire(const json::object& s) {
    withPrimitive(s, [&](auto& p) {
      set(s, p.acquire().addCallback([d = integer(s, "d")](auto&&...) -> Value {
        emit("acquired " + std::to_string(d));
        return 0;
      }));
    });
  }
  void release(const json::object& s) {
    withPrimitive(s, [&](auto& p) {
      if (isFree(p)) {
        emit("unlocked " + std::to_string(integer(s, "p")));
      } else {
        p.release();
      }
    });
  }
  void runLocked(const json::object& s) {
    withPrimitive(s, [&](auto& p) {
      withReturnType(s, false, [&](auto* r) { set(s, p.run(starter<std::remove_pointer_t<decltype(r)>>(s))); });
    });
  }
  void put(const json::object& s) { queues_.at(integer(s, "p"))->put(integer(s, "v")); }
  void get(const json::object& s) { set(s, queues_.at(integer(s, "p"))->get()); }

  Clock clock_;
  std::map<long, Named> deferreds_;
  std::map<long, DelayedCall> calls_;
  std::map<long, Loop> loops_;
  std::map<long, std::unique_ptr<DeferredLock>> locks_;
  std::map<long, std::unique_ptr<DeferredSemaphore>> semaphores_;
  std::map<long, std::unique_ptr<DeferredQueue<Value>>> queues_;
  std::map<long, int> pauses_;
  std::vector<std::weak_ptr<Deferred<Value>>> targets_;  // of chain steps
};

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--none-as-zero") {
      std::cerr << "usage: deferred_trace [--none-as-zero] < programs.jsonl\n";
      return 2;
    }
    noneAsZero = true;
  }
  std::ios::sync_with_stdio(false);
  setUnhandledFailureHandler(&noteUnhandled);
  detail::setBrokenDeferreds(false);
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    json::value program = json::parse(line);
    Machine().run(program.as_object());
    std::cout.flush();
  }
}
