#include <reactor/testing/test_case.hpp>

#include <memory>

#include <deferred/result.hpp>
#include <reactor/detail/report.hpp>

namespace torsion {

std::string TestCase::mktemp() {
  if (!files_) files_.emplace();
  return files_->path() + "/" + std::to_string(++lastFile_);
}

std::vector<std::string> TestCase::cleanUp(UniqueFunction<void(const Deferred<void>&)> wait) {
  std::vector<std::string> problems;
  while (!cleanups_.empty()) {
    Cleanup cleanup = std::move(cleanups_.back());
    cleanups_.pop_back();
    const auto result = std::make_shared<std::optional<Result<void>>>();
    Deferred<void> done = cleanup.f().addBoth([result](Result<void> r) { result->emplace(std::move(r)); });
    if (!*result) wait(done);
    const std::string added = ", added at " + detail::at(cleanup.where);
    if (!*result) {
      problems.push_back("a cleanup has not ended: its Deferred has no result" + added);
    } else if (!(*result)->ok()) {
      problems.push_back("a cleanup failed" + added + ":\n" + (*result)->failure().getTraceback());
    }
  }
  return problems;
}

}  // namespace torsion
