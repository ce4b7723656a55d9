#include <test/support/name_server.hpp>

#include <arpa/inet.h>

#include <cstddef>

#include <reactor/error.hpp>
#include <reactor/protocol.hpp>

namespace torsion::test {
namespace {

std::string sixteen(std::size_t number) {
  return {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
}

// The question, and where it ends in the packet.
std::pair<NameServer::Question, std::size_t> parse(std::string_view packet) {
  NameServer::Question question;
  std::size_t at = 12;
  for (; packet[at] != 0; at += static_cast<unsigned char>(packet[at]) + 1u) {
    question.name += std::string(packet.substr(at + 1, static_cast<unsigned char>(packet[at]))) + ".";
  }
  question.v6 = packet[at + 2] == 28;
  return {question, at + 5};
}

std::string encode(std::string_view packet, std::size_t end, bool v6, const NameServer::Reply& reply) {
  std::string text(packet.substr(0, 2));
  text += reply.truncated ? '\x83' : '\x81';
  text += static_cast<char>(0x80 | reply.code);
  text += sixteen(1) + sixteen(reply.addresses.size()) + std::string(4, '\0');
  text += packet.substr(12, end - 12);
  for (const std::string& address : reply.addresses) {
    std::string data(v6 ? 16 : 4, '\0');
    ::inet_pton(v6 ? AF_INET6 : AF_INET, address.c_str(), data.data());
    text += "\xc0\x0c" + sixteen(v6 ? 28 : 1) + sixteen(1) + std::string(4, '\0') + sixteen(data.size()) + data;
  }
  return text;
}

}  // namespace

class NameServer::Datagrams final : public DatagramProtocol {
 public:
  explicit Datagrams(NameServer& server) : server_(server) {}
  void datagramReceived(std::string_view packet, const Address& from) override {
    if (const auto answer = server_.answer(packet, false)) {
      transport().write(*answer, from);
    } else {
      held_.emplace_back(std::string(packet), from);
    }
  }
  void release(const Reply& reply) {
    for (const auto& [packet, from] : std::exchange(held_, {})) {
      const auto [question, end] = parse(packet);
      transport().write(encode(packet, end, question.v6, reply), from);
    }
  }

 private:
  NameServer& server_;
  std::vector<std::pair<std::string, Address>> held_;
};

class NameServer::Stream final : public Protocol {
 public:
  explicit Stream(NameServer& server) : server_(server) {}
  void dataReceived(std::string_view data) override {
    received_ += data;
    const auto size = [this] {
      return static_cast<std::size_t>(static_cast<unsigned char>(received_[0]) << 8 |
                                      static_cast<unsigned char>(received_[1]));
    };
    while (received_.size() >= 2 && received_.size() >= size() + 2) {
      if (const auto answer = server_.answer(received_.substr(2, size()), true)) {
        transport().write(sixteen(answer->size()) + *answer);
      }
      received_.erase(0, size() + 2);
    }
  }

 private:
  NameServer& server_;
  std::string received_;
};

NameServer::NameServer(Reactor& reactor, Behaviour behaviour_, PortNumber port)
    : behaviour(std::move(behaviour_)), datagrams_(std::make_shared<Datagrams>(*this)) {
  // The same number for both; the port that UDP got may be taken by somebody else's TCP.
  for (int i = 0; !tcp_; ++i) {
    udp_ = reactor.listenUDP(port, datagrams_, "127.0.0.1");
    port_ = std::get<IPv4Address>(udp_->getHost()).port;
    try {
      tcp_ = reactor.listenTCP(port_, makeFactory([this] { return std::make_shared<Stream>(*this); }), 50, "127.0.0.1");
    } catch (const CannotListenError&) {
      if (i == 20) throw;
      udp_->stopListening();
      datagrams_ = std::make_shared<Datagrams>(*this);
    }
  }
}

NameServer::~NameServer() {
  udp_->stopListening();
  tcp_->stopListening();
}

void NameServer::release(const Reply& reply) {
  datagrams_->release(reply);
}

std::optional<std::string> NameServer::answer(std::string_view packet, bool tcp) {
  auto [question, end] = parse(packet);
  question.tcp = tcp;
  questions_.push_back(question.text());
  const auto reply = behaviour(question);
  if (!reply) return std::nullopt;
  return encode(packet, end, question.v6, *reply);
}

}  // namespace torsion::test
