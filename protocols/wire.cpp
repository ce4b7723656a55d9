#include <protocols/wire.hpp>

#include <ctime>

#include <deferred/deferred.hpp>

namespace torsion {

void Echo::dataReceived(std::string_view data) {
  transport().write(data);
  Deferred<void> drained = transport().drained();
  if (!drained.called()) transport().pauseProducing();
  std::move(drained).addCallbacks(hold([this] { transport().resumeProducing(); }), [](const Failure&) {});
}

void Chargen::resumeProducing() {
  transport().write(R"(@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghijklmnopqrstuvwxyz{|}~ !"#$%&?)");
}

void QOTD::connectionMade() {
  transport().write(getQuote());
  transport().loseConnection();
}

void Daytime::connectionMade() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  ::gmtime_r(&now, &fields);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y\r\n", &fields);
  transport().write({text, size});
  transport().loseConnection();
}

}  // namespace torsion
