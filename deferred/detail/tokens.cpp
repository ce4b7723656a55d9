#include <deferred/detail/tokens.hpp>

#include <iterator>
#include <stdexcept>

#include <deferred/detail/take.hpp>

namespace torsion::detail {

namespace {

class ReleaseNode final : public Node {
 public:
  ReleaseNode(std::shared_ptr<Tokens> tokens, const std::source_location& where) noexcept
      : Node(where), tokens_(std::move(tokens)) {}
  Jump step(Chain& chain) noexcept override {
    std::shared_ptr<Tokens> tokens = std::move(tokens_);
    chain.dispose(this);
    if (tokens->free == tokens->limit) {
      chain.putFailure(std::logic_error("the job of run() has released its token itself"));
      return {};
    }
    return tokens->releaseJump();
  }
  void drop(Chain& chain) noexcept override { chain.dispose(this); }

 private:
  ~ReleaseNode() = default;
  friend Chain;
  std::shared_ptr<Tokens> tokens_;
};

}  // namespace

Tokens::Tokens(std::int64_t limit) : limit(static_cast<std::size_t>(limit)), free(this->limit) {
  if (limit < 1) throw std::invalid_argument("DeferredSemaphore needs at least one token");
}

Tokens::~Tokens() {
  // The waiters fail, and their callbacks may come back.
  while (!waiting.empty()) drop(waiting);
}

Deferred<void> Tokens::acquire(const std::source_location& where) {
  if (free > 0) {
    --free;
    return succeed(where);
  }
  waiting.push_back({Resolver<void>(where)});
  auto at = std::prev(waiting.end());
  at->resolver.onCancel([self = weak_from_this(), at](const Resolver<void>&) {
    if (auto tokens = self.lock()) static_cast<void>(takeAt(tokens->waiting, at));
  });
  return at->resolver.deferred();
}

void Tokens::release() {
  if (free == limit) throw std::logic_error("release() without acquire(): nothing is held");
  if (waiting.empty()) {
    ++free;
    return;
  }
  Chain& chain = takeFirst().release();
  chain.markTaken();
  chain.fireNested();
  chain.dropFirer();
}

Jump Tokens::releaseJump() {
  if (waiting.empty()) {
    ++free;
    return {};
  }
  Chain& chain = takeFirst().release();
  chain.markTaken();
  chain.markFired();
  return {&chain, true};  // the Resolver's firer goes along
}

Resolver<void> Tokens::takeFirst() {
  Waiter first = takeFront(waiting);
  if (first.tokens) *first.tokens = shared_from_this();
  return std::move(first.resolver);
}

void releaseAfter(Chain& chain, std::shared_ptr<Tokens> tokens, const std::source_location& where) {
  chain.append(*chain.make<ReleaseNode>(std::move(tokens), where));
}

}  // namespace torsion::detail
