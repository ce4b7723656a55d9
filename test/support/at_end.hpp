// Call a function when they are destroyed: what a user's destructor may do, in a capture or as a value.
#pragma once

#include <functional>
#include <memory>
#include <utility>

class AtEnd {
 public:
  explicit AtEnd(std::function<void()> f) : f_(std::make_shared<std::function<void()>>(std::move(f))) {}
  // The last one of all copies and of what was moved from calls it.
  ~AtEnd() {
    if (f_.use_count() == 1) std::exchange(*f_, nullptr)();
  }
  AtEnd(const AtEnd&) = default;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  std::shared_ptr<std::function<void()>> f_;
};

// Whenever one is destroyed. Has no move of its own, as any struct with a destructor: what was moved from is a copy.
class AtEachEnd {
 public:
  explicit AtEachEnd(std::function<void()> f) : f_(std::move(f)) {}
  AtEachEnd(const AtEachEnd&) = default;
  AtEachEnd& operator=(const AtEachEnd&) = default;
  ~AtEachEnd() { f_(); }

 private:
  std::function<void()> f_;
};
