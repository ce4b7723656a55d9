// A name server on 127.0.0.1, over UDP and TCP, that answers as a test tells it to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <reactor/interfaces.hpp>
#include <reactor/reactor.hpp>
#include <reactor/udp.hpp>

namespace torsion::test {

class NameServer {
 public:
  struct Question {
    std::string name;  ///< as it was asked, with the dot at its end
    bool v6 = false;
    bool tcp = false;
    std::string text() const { return (v6 ? "AAAA " : "A ") + name; }
  };
  struct Reply {
    std::vector<std::string> addresses;
    int code = 0;  ///< 2: the server failed, 3: no such name, 5: refused
    bool truncated = false;
  };
  static Reply noSuchName() { return {{}, 3, false}; }
  static Reply refused() { return {{}, 5, false}; }
  /// Nothing: no answer comes, until release().
  using Behaviour = std::function<std::optional<Reply>(const Question&)>;

  /// On `port`, or one that the system chooses.
  NameServer(Reactor& reactor, Behaviour behaviour, PortNumber port = 0);
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  /// For DNSResolver.
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  /// All that were asked, as "A name.".
  const std::vector<std::string>& questions() const noexcept { return questions_; }
  /// Answers those that have had no answer by UDP.
  void release(const Reply& reply);

  Behaviour behaviour;

 private:
  class Datagrams;
  class Stream;
  std::optional<std::string> answer(std::string_view question, bool tcp);

  std::shared_ptr<Datagrams> datagrams_;
  std::shared_ptr<DatagramTransport> udp_;
  std::shared_ptr<ListeningPort> tcp_;
  std::uint16_t port_ = 0;
  std::vector<std::string> questions_;
};

}  // namespace torsion::test
