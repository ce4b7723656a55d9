#include <deferred/list.hpp>

#include <string>

namespace torsion {

namespace {

// Those of lists in lists in lists hold each other: one after the other, so that their end is no recursion.
struct Ending {
  std::vector<Failure>* waiting = nullptr;
};
constinit thread_local Ending ending;

void end(std::vector<Failure> failures) noexcept {
  if (ending.waiting) {
    for (Failure& failure : failures) ending.waiting->push_back(std::move(failure));
    return;
  }
  std::vector<Failure> waiting = std::move(failures);
  ending.waiting = &waiting;
  while (!waiting.empty()) {
    const Failure last = std::move(waiting.back());
    waiting.pop_back();
  }
  ending.waiting = nullptr;
}

// The same for their texts, which would hold each other's.
std::string textOf(const Failure& failure) {
  constexpr std::size_t kMost = 500;
  std::string text = failure.getErrorMessage();
  if (text.size() > kMost) text.replace(kMost, text.npos, "...");
  return text;
}

}  // namespace

FirstError::FirstError(Failure subFailure, std::size_t index)
    : runtime_error("input " + std::to_string(index) + " failed: " + textOf(subFailure)),
      subFailure(std::move(subFailure)),
      index(index) {}

FirstError::~FirstError() {
  std::vector<Failure> failures;
  failures.push_back(std::move(subFailure));
  end(std::move(failures));
}

FailureGroup::FailureGroup(std::vector<Failure> failures)
    : runtime_error(std::to_string(failures.size()) + " Deferreds failed"), failures(std::move(failures)) {}

FailureGroup::~FailureGroup() {
  end(std::move(failures));
}

}  // namespace torsion
