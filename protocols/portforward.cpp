#include <protocols/portforward.hpp>

#include <optional>
#include <string_view>
#include <utility>

#include <deferred/canceller.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

const Logger kLog("torsion.portforward");

// Either end. The two refer to each other until one of them is lost.
class Proxy final : public Protocol {
 public:
  explicit Proxy(std::shared_ptr<StreamClientEndpoint> endpoint = nullptr) : endpoint_(std::move(endpoint)) {}

  void connectionMade() override {
    if (!endpoint_) return;  // the outgoing one
    transport().pauseProducing();
    auto connecting =
        endpoint_->connect(makeFactory([] { return std::make_shared<Proxy>(); }))
            .addCallbacks(
                hold([this](std::shared_ptr<Protocol> other) { join(std::static_pointer_cast<Proxy>(other)); }),
                hold([this](const Failure& reason) {
                  if (lost_) return;
                  kLog.warn("{peer} cannot be forwarded: {reason}",
                            {{"peer", describe(transport().getPeer())}, {"reason", reason}});
                  transport().loseConnection();
                }));
    cancelConnecting_ = connecting.canceller();
  }

  void dataReceived(std::string_view data) override {
    if (other_) other_->transport().write(data);
  }

  void connectionLost(const Failure&) override {
    lost_ = true;
    if (cancelConnecting_) cancelConnecting_->cancel();
    if (const auto other = std::exchange(other_, nullptr)) {
      other->other_.reset();
      other->transport().unregisterProducer();
      other->transport().loseConnection();
    }
  }

 private:
  void join(std::shared_ptr<Proxy> other) {
    cancelConnecting_.reset();
    if (lost_) return other->transport().abortConnection();
    other_ = std::move(other);
    other_->other_ = std::static_pointer_cast<Proxy>(shared_from_this());
    transport().registerProducer(other_->transport(), true);
    other_->transport().registerProducer(transport(), true);
    transport().resumeProducing();
  }

  std::shared_ptr<StreamClientEndpoint> endpoint_;
  std::shared_ptr<Proxy> other_;
  std::optional<Canceller> cancelConnecting_;
  bool lost_ = false;
};

}  // namespace

ProxyFactory::ProxyFactory(std::shared_ptr<StreamClientEndpoint> endpoint) : endpoint_(std::move(endpoint)) {}

std::shared_ptr<Protocol> ProxyFactory::buildProtocol(const Address&) {
  return std::make_shared<Proxy>(endpoint_);
}

}  // namespace torsion
