// Torsion's receivers, each with a virtual function that gets the message, on a StringTransport.
#include <memory>

#include <protocols/basic.hpp>
#include <reactor/testing/string_transport.hpp>

#include "framing.hpp"

namespace {

struct Lines final : torsion::LineReceiver {
  void lineReceived(std::string_view line) override { bytes += line.size(); }
  std::size_t bytes = 0;
};
template <class Base>
struct Strings final : Base {
  void stringReceived(std::string_view string) override { bytes += string.size(); }
  std::size_t bytes = 0;
};

template <class P>
std::size_t feed(std::string_view input, std::size_t read) {
  auto protocol = std::make_shared<P>();
  torsion::StringTransport transport;
  protocol->setMaxLength(bench::kLongLine);
  protocol->makeConnection(transport);
  torsion::Protocol* receiver = bench::opaque<torsion::Protocol*>(protocol.get());
  for (std::size_t at = 0; at < input.size(); at += read) receiver->dataReceived(input.substr(at, read));
  return protocol->bytes;
}

}  // namespace

int main() {
  bench::timeLines(feed<Lines>);
  bench::timeNetstrings(feed<Strings<torsion::NetstringReceiver>>);
  bench::timeInt32(feed<Strings<torsion::Int32StringReceiver>>);
}
