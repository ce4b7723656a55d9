#include <reactor/detail/name_search.hpp>

#include <sys/socket.h>

#include <chrono>
#include <iterator>
#include <utility>

#include <deferred/detail/take.hpp>

namespace torsion::detail {
namespace {

constexpr Duration kGrace = std::chrono::milliseconds(50);

}  // namespace

void NameSearch::askForNext() {
  awaited_ = 2;
  awaitsIPv6_ = true;
  graceOver_ = false;
  const std::string& name = names_[next_++];
  listener_.ask(name, AF_INET6, 2 * next_);
  listener_.ask(name, AF_INET, 2 * next_ + 1);
}

void NameSearch::answered(std::size_t question, DNSAnswer answer) {
  if (stopped_ || question / 2 != next_) return;  // of a name that was given up
  const auto self = listener_.self();
  --awaited_;
  if (question % 2 == 0) awaitsIPv6_ = false;
  const bool clear = answer.kind == DNSAnswer::Kind::addresses || answer.kind == DNSAnswer::Kind::noSuchName;
  if (answer.kind == DNSAnswer::Kind::addresses) {
    held_.insert(held_.end(), std::make_move_iterator(answer.addresses.begin()),
                 std::make_move_iterator(answer.addresses.end()));
  } else if (answer.kind >= worst_.kind) {
    worst_ = std::move(answer);
  }
  if (!awaitsIPv6_ || graceOver_) giveHeld();
  if (stopped_) return;
  if (awaited_ == 0) {
    nameIsDone();
  } else if (clear) {
    grace_ = time_.callLater(kGrace, [this] { graceIsOver(); }, where_);
  }
}

void NameSearch::giveHeld() {
  if (held_.empty()) return;
  found_ = true;
  listener_.found(take(held_));
}

void NameSearch::graceIsOver() {
  const auto self = listener_.self();
  graceOver_ = true;
  giveHeld();
  if (stopped_) return;
  if (found_) return listener_.settled();
  nameIsDone();  // there is no such name, for the other family either
}

void NameSearch::nameIsDone() {
  if (grace_.active()) grace_.cancel();
  if (found_) {
    stop();
    return listener_.ended({});
  }
  // A server that does not answer would not know of the next name either.
  if (worst_.kind != DNSAnswer::Kind::timedOut && next_ < names_.size()) return askForNext();
  stop();
  listener_.ended(worst_.error);
}

void NameSearch::stop() {
  stopped_ = true;
  if (grace_.active()) grace_.cancel();
}

}  // namespace torsion::detail
