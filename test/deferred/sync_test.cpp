#include <deferred/sync.hpp>

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <deferred/functions.hpp>
#include <test/support/small_stack.hpp>
#include <test/support/unhandled.hpp>

using namespace torsion;
using Strings = std::vector<std::string>;

TEST_CASE("a DeferredLock goes from holder to holder, first come, first served") {
  DeferredLock lock;
  CHECK_FALSE(lock.locked());
  Strings log;
  lock.acquire().addCallback([&] { log.push_back("a"); });
  lock.acquire().addCallback([&] { log.push_back("b"); });
  lock.acquire().addCallback([&] { log.push_back("c"); });
  CHECK(lock.locked());
  CHECK(lock.waiting() == 2);
  CHECK(log == Strings{"a"});
  lock.release();
  CHECK(log == Strings{"a", "b"});
  lock.release();
  CHECK(log == Strings{"a", "b", "c"});
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(lock.release(), std::logic_error);
}

TEST_CASE("cancel of a waiting acquire leaves the queue; of one that has the lock does nothing") {
  DeferredLock lock;
  auto held = lock.acquire();
  auto waits = lock.acquire();
  auto next = lock.acquire();
  bool cancelled = false;
  waits.addErrback([&](const CancelledError&) { cancelled = true; });
  waits.cancel();
  CHECK(cancelled);
  CHECK(lock.waiting() == 1);
  held.cancel();
  CHECK(lock.locked());
  lock.release();
  CHECK(next.called());
}

TEST_CASE("run holds the lock until what the callable returned has fired, and gives its outcome") {
  DeferredLock lock;
  Resolver<int> job;
  Strings log;
  auto first = lock.run([&] { return log.push_back("first"), job.deferred(); });
  auto second = lock.run([&] { return log.push_back("second"), std::string("value"); });
  static_assert(std::is_same_v<decltype(first), Deferred<int>>);
  static_assert(std::is_same_v<decltype(second), Deferred<std::string>>);
  CHECK(log == Strings{"first"});
  int seen = 0;
  std::move(first).addCallback([&](int n) { seen = n; });
  job.callback(4);
  CHECK(seen == 4);
  CHECK(log == Strings{"first", "second"});
  CHECK_FALSE(lock.locked());
}

TEST_CASE("run releases on failure too") {
  DeferredLock lock;
  Strings log;
  lock.run([]() -> int { throw std::runtime_error("thrown"); }).addErrback([&](const Failure& f) {
    return log.push_back(f.getErrorMessage()), 0;
  });
  CHECK_FALSE(lock.locked());
  lock.run([] { return fail<int>(std::runtime_error("returned")); }).addErrback([&](const Failure& f) {
    return log.push_back(f.getErrorMessage()), 0;
  });
  CHECK_FALSE(lock.locked());
  CHECK(log == Strings{"thrown", "returned"});
}

TEST_CASE("cancel of a run leaves the queue, or cancels the job") {
  DeferredLock lock;
  Resolver<void> job;
  bool jobCancelled = false, waiterCancelled = false;
  job.onCancel([&](const Resolver<void>&) { jobCancelled = true; });
  auto runs = lock.run([&] { return job.deferred(); });
  auto waits = lock.run([&] { FAIL("must not run"); });
  waits.addErrback([&](const CancelledError&) { waiterCancelled = true; });
  waits.cancel();
  CHECK(waiterCancelled);
  runs.addErrback([](const CancelledError&) {});
  runs.cancel();
  CHECK(jobCancelled);
  CHECK_FALSE(lock.locked());
}

TEST_CASE("run works with coroutines that capture") {
  DeferredLock lock;
  Resolver<int> input;
  std::string text = "captured";
  std::string seen;
  auto job = lock.run([text, &input]() -> Deferred<std::string> {
    int n = co_await input.deferred();
    co_return text + std::to_string(n);
  });
  std::move(job).addCallback([&](std::string result) { seen = result; });
  CHECK(lock.locked());
  input.callback(3);
  CHECK(seen == "captured3");
  CHECK_FALSE(lock.locked());
}

TEST_CASE("a coroutine that run() has called gives the lock back when it throws, too") {
  DeferredLock lock;
  Resolver<void> input;
  std::string seen;
  auto job = [&input]() -> Deferred<int> {
    co_await input.deferred();
    throw std::runtime_error("some specific exception");
  };
  lock.run(job).addErrback([&](const std::runtime_error& e) { return seen = e.what(), 0; });
  auto next = lock.acquire();
  CHECK_FALSE(next.called());
  input.callback();
  CHECK(seen == "some specific exception");
  CHECK(next.called());
  CHECK(lock.locked());
}

TEST_CASE("a coroutine may hold several tokens, while others wait for one") {
  DeferredSemaphore semaphore(3);
  Resolver<void> inner, outer;
  auto holder = [&]() -> Deferred<void> {
    auto holdAnother = [&] { return inner.deferred(); };
    co_await semaphore.run(holdAnother);
    co_await outer.deferred();
  };
  auto held = semaphore.run(holder);
  CHECK(semaphore.tokens() == 1);
  auto first = semaphore.acquire(), second = semaphore.acquire();
  CHECK(first.called());
  CHECK_FALSE(second.called());
  inner.callback();
  CHECK(second.called());
  CHECK(semaphore.tokens() == 0);
  semaphore.release();
  semaphore.release();
  CHECK(semaphore.tokens() == 2);
  outer.callback();
  CHECK(held.called());
  CHECK(semaphore.tokens() == 3);
}

TEST_CASE("who waits for the lock has it before the job's outcome goes on") {
  DeferredLock lock;
  Resolver<int> job;
  Strings log;
  auto result = lock.run([&] { return job.deferred(); });
  result.addCallback([&](int n) { return log.push_back("result " + std::to_string(n)), n; });
  lock.acquire().addCallback([&] { log.push_back("acquired"); });
  auto waits = lock.acquire();
  waits.cancel();
  waits.addErrback([](const CancelledError&) {});
  job.callback(2);
  CHECK(log == Strings{"acquired", "result 2"});
  CHECK(lock.locked());
  lock.release();
  CHECK_FALSE(lock.locked());
}

TEST_CASE("a DeferredSemaphore lets so many in") {
  CHECK_THROWS_AS(DeferredSemaphore(0), std::invalid_argument);
  CHECK_THROWS_AS(DeferredSemaphore(-1), std::invalid_argument);
  DeferredSemaphore semaphore(2);
  Deferred<void> a = semaphore.acquire(), b = semaphore.acquire(), c = semaphore.acquire();
  CHECK(b.called());
  CHECK_FALSE(c.called());
  CHECK(semaphore.tokens() == 0);
  CHECK(semaphore.limit() == 2);
  CHECK(semaphore.waiting() == 1);
  semaphore.release();
  CHECK(c.called());
  semaphore.release();
  semaphore.release();
  CHECK(semaphore.tokens() == 2);
  CHECK_THROWS_AS(semaphore.release(), std::logic_error);
}

TEST_CASE("cancel of a waiting acquire of a semaphore") {
  DeferredSemaphore semaphore(1);
  auto held = semaphore.acquire();
  held.cancel();
  CHECK(semaphore.tokens() == 0);
  auto waits = semaphore.acquire();
  bool cancelled = false;
  waits.addErrback([&](const CancelledError&) { cancelled = true; });
  waits.cancel();
  CHECK(cancelled);
  CHECK(semaphore.waiting() == 0);
}

TEST_CASE("a million queued jobs that finish, or fail, at once need no stack") {
  const int kJobs = 1000000;
  int ran = 0, failed = 0;
  std::size_t tokens = 0;
  onSmallStack([&] {
    DeferredSemaphore semaphore(1);
    Resolver<void> first;
    auto gate = semaphore.run([&] { return first.deferred(); });
    for (int i = 0; i < kJobs; ++i) {
      semaphore
          .run([&ran, i] {
            ++ran;
            if (i % 2) throw std::runtime_error("odd");
          })
          .addErrback([&](const Failure&) { ++failed; });
    }
    first.callback();
    tokens = semaphore.tokens();
  });
  CHECK(ran == kJobs);
  CHECK(failed == kJobs / 2);
  CHECK(tokens == 1);
}

TEST_CASE("waiters of a lock that goes fail with BrokenDeferred, unless a job under way will still release it") {
  bool broken = false;
  {
    DeferredLock lock;
    lock.acquire();
    lock.acquire().addErrback([&](const BrokenDeferred&) { broken = true; });
  }
  CHECK(broken);

  Resolver<int> job;
  bool acquired = false;
  {
    DeferredLock lock;
    lock.run([&] { return job.deferred(); });
    lock.acquire().addCallback([&] { acquired = true; });
  }
  CHECK_FALSE(acquired);
  job.callback(2);
  CHECK(acquired);
}

TEST_CASE("a DeferredQueue gives values in order, to whoever waits or comes") {
  DeferredQueue<std::string> queue;
  Strings log;
  queue.put("a");
  CHECK(queue.pending() == 1);
  queue.get().addCallback([&](std::string s) { log.push_back(s); });
  CHECK(log == Strings{"a"});
  queue.get().addCallback([&](std::string s) { log.push_back(s); });
  queue.get().addCallback([&](std::string s) { log.push_back(s + "2"); });
  CHECK(queue.waiting() == 2);
  queue.put("b");
  queue.put("c");
  CHECK(log == Strings{"a", "b", "c2"});
}

TEST_CASE("a DeferredQueue's bounds") {
  DeferredQueue<int> queue(1, 1);
  queue.put(1);
  CHECK_THROWS_AS(queue.put(2), QueueOverflow);
  auto first = queue.get();
  auto waits = queue.get();
  CHECK_THROWS_AS(queue.get(), QueueUnderflow);
  queue.put(3);
  CHECK(waits.called());
  DeferredQueue<int> nothing(0);
  CHECK_THROWS_AS(nothing.put(1), QueueOverflow);
  DeferredQueue<int> nobody({}, 0);
  CHECK_THROWS_AS(nobody.get(), QueueUnderflow);
}

TEST_CASE("cancel of a waiting get leaves the queue; of one that has a value does nothing") {
  DeferredQueue<int> queue;
  auto waits = queue.get();
  bool cancelled = false;
  waits.addErrback([&](const CancelledError&) { return cancelled = true, 0; });
  waits.cancel();
  CHECK(cancelled);
  CHECK(queue.waiting() == 0);
  queue.put(1);
  auto got = queue.get();
  got.cancel();
  int seen = 0;
  std::move(got).addCallback([&](int n) { seen = n; });
  CHECK(seen == 1);
  auto gets = queue.get();
  queue.put(2);
  gets.cancel();
  std::move(gets).addCallback([&](int n) { seen = n; });
  CHECK(seen == 2);
}

TEST_CASE("a bounded DeferredQueue fills up only when nobody waits") {
  DeferredQueue<int> queue(2, 2);
  std::vector<int> gotten;
  auto note = [&](int n) { gotten.push_back(n); };
  for (int i = 0; i < 2; ++i) queue.get().addCallback(note);
  CHECK_THROWS_AS(queue.get(), QueueUnderflow);
  queue.put(0);
  CHECK(gotten == std::vector<int>{0});
  for (int i = 1; i < 4; ++i) queue.put(i);
  CHECK(gotten == std::vector<int>{0, 1});
  CHECK_THROWS_AS(queue.put(4), QueueOverflow);
  for (int i = 0; i < 2; ++i) queue.get().addCallback(note);
  CHECK(gotten == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("who waits for a semaphore that is gone, and that nobody can release, is told") {
  Unhandled unhandled;
  std::string waiting = "pending", queued = "pending";
  {
    DeferredSemaphore semaphore(1);
    semaphore.acquire();
    semaphore.acquire().addErrback([&](const BrokenDeferred&) { waiting = "broken"; });
    semaphore.run([] {}).addErrback([&](const BrokenDeferred&) { queued = "broken"; });
  }
  CHECK(waiting == "broken");
  CHECK(queued == "broken");
}

TEST_CASE("jobs that are queued run to the end though the semaphore has gone") {
  std::string log;
  Resolver<void> first;
  {
    DeferredSemaphore semaphore(1);
    semaphore.run([&] { return first.deferred(); });
    for (int i = 0; i < 3; ++i) semaphore.run([&log, i] { log += std::to_string(i); });
  }
  CHECK(log.empty());
  first.callback();
  CHECK(log == "012");
}

TEST_CASE("a job that releases its own token fails, and no token is made") {
  DeferredLock lock;
  std::string seen;
  lock.run([&] { lock.release(); }).addErrback([&](const std::logic_error& e) { seen = e.what(); });
  CHECK(seen == "the job of run() has released its token itself");
  CHECK_FALSE(lock.locked());
  lock.acquire();
  CHECK(lock.locked());
}

TEST_CASE("a lock that is released in callbacks, or in coroutines, needs no stack") {
  onSmallStack([] {
    DeferredLock lock;
    int ran = 0;
    auto wait = [](DeferredLock& l, int& n) -> Deferred<void> {
      co_await l.acquire();
      ++n;
      l.release();
    };
    const auto first = lock.acquire();
    std::vector<Deferred<void>> all;
    for (int i = 0; i < 40'000; ++i) {
      all.push_back(lock.acquire().addCallback([&] {
        ++ran;
        lock.release();
      }));
      all.push_back(wait(lock, ran));
    }
    lock.release();
    CHECK(ran == 80'000);
    CHECK_FALSE(lock.locked());
  });
}

TEST_CASE("releases within releases run in Twisted's order, as deep as 32") {
  DeferredLock lock;
  std::string order;
  const auto first = lock.acquire();
  std::vector<Deferred<void>> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(lock.acquire().addCallback([&lock, &order, i] {
      order += "<" + std::to_string(i);
      lock.release();
      order += std::to_string(i) + ">";
    }));
  }
  lock.release();
  CHECK(order == "<0<1<22>1>0>");
}

TEST_CASE("a queue whose getters put again needs no stack") {
  onSmallStack([] {
    DeferredQueue<int> queue;
    int got = 0;
    std::vector<Deferred<int>> all;
    for (int i = 0; i < 80'000; ++i) {
      all.push_back(queue.get().addCallback([&](int n) {
        ++got;
        if (n > 0) queue.put(n - 1);
        return n;
      }));
    }
    queue.put(79'999);
    CHECK(got == 80'000);
  });
}

TEST_CASE("a value that cannot be moved stays out of the queue, and who waits goes on waiting") {
  struct Value {
    bool* throws;
    explicit Value(bool& throws) : throws(&throws) {}
    Value(Value&& other) : throws(other.throws) {
      if (*throws) throw std::runtime_error("moved");
    }
  };
  bool throws = false;
  DeferredQueue<Value> queue;
  bool got = false;
  queue.get().addCallback([&](const Value&) { got = true; });
  // Into the argument it is made in place; from there on it is moved.
  throws = true;
  CHECK_THROWS_AS(queue.put(Value(throws)), std::runtime_error);
  CHECK(queue.waiting() == 1);
  throws = false;
  queue.put(Value(throws));
  CHECK(got);
}

TEST_CASE("callback() of a get() that waits is refused, and no value is lost") {
  DeferredQueue<int> queue;
  Deferred<int> d = queue.get();
  CHECK_THROWS_AS(d.callback(1), std::logic_error);
  queue.put(5);
  int seen = 0;
  d.addCallback([&](int n) { return seen = n; });
  CHECK(seen == 5);
}

TEST_CASE("those who wait for a queue that goes may come back to it") {
  Unhandled unhandled;
  std::string seen;
  {
    DeferredQueue<int> queue;
    auto again = [&](const BrokenDeferred&) {
      seen += "gone ";
      queue.get().addErrback([&](const BrokenDeferred&) {
        seen += "again ";
        return 0;
      });
      return 0;
    };
    queue.get().addErrback(again);
    queue.get().addErrback(again);
  }
  CHECK(seen == "gone gone again again ");
}

TEST_CASE("those who wait for a lock that goes may come back to it") {
  std::string seen;
  {
    DeferredLock lock;
    const auto held = lock.acquire();
    lock.acquire().addErrback([&](const BrokenDeferred&) {
      seen += "gone ";
      lock.acquire().addErrback([&](const BrokenDeferred&) { seen += "again "; });
    });
  }
  CHECK(seen == "gone again ");
}

TEST_CASE("a job that cannot be moved gives back what was acquired for it") {
  struct Job {
    int* moves;
    explicit Job(int& moves) : moves(&moves) {}
    Job(Job&& other) : moves(other.moves) {
      if (--*moves == 0) throw std::runtime_error("moved");
    }
    void operator()() {}
  };
  for (int at = 1; at < 8; ++at) {
    DeferredLock lock;
    int moves = at;
    try {
      lock.run(Job(moves));
    } catch (const std::runtime_error&) {
    }
    CHECK_FALSE(lock.locked());
  }
}
