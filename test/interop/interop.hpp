// Our ends and Python Twisted's. A test commands the other end by a session with peer.py, which says what happens
// there.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <test/support/turns.hpp>

namespace torsion::test {

/// The class of a loss reason or another error, by Twisted's name for it.
std::string nameOf(const Failure& failure);
/// As peer.py gives it: how many bytes, and the beginning of their SHA-256.
std::string sum(std::string_view data);
std::uint16_t portOf(const Address& address);

/// A session with the one Python process of this program, which is started when it is first needed.
class Peer {
 public:
  explicit Peer(Reactor& reactor);
  ~Peer();
  /// Gives a command, and returns at once.
  void tell(const std::string& command);
  /// Turns the reactor until the peer has said another line, and gives it.
  std::string hear();
  /// Gives a command that opens a port, and returns its number.
  std::uint16_t listen(const std::string& command);
  /// True if it has said nothing that was not heard.
  bool silent() const;

 private:
  struct Session;
  Reactor& reactor_;
  std::shared_ptr<Session> session_;
};

/// The sides of a test that is run both ways.
struct WeListen {
  static constexpr bool value = true;
};
struct TheyListen {
  static constexpr bool value = false;
};

/// Our end: notes what happens to it.
struct Recorder : Protocol {
  void connectionMade() override {
    if (made) made();
  }
  void dataReceived(std::string_view data) override {
    received += data;
    if (echo) transport().write(data);
  }
  void connectionLost(const Failure& reason) override { lost = nameOf(reason); }

  bool echo = false;
  std::function<void()> made;
  std::string received;
  std::string lost;  // the reason
};

/// The same, that goes on when the peer has closed its writing side.
struct HalfCloser : Recorder, HalfCloseableProtocol {
  void readConnectionLost() override { readLost = true; }
  void writeConnectionLost() override { writeLost = true; }
  bool readLost = false, writeLost = false;
};

struct RecorderClientFactory : ClientFactory {
  explicit RecorderClientFactory(std::shared_ptr<Protocol> protocol) : protocol(std::move(protocol)) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override { return protocol; }
  void clientConnectionFailed(Connector&, const Failure& reason) override { failed = nameOf(reason); }
  std::shared_ptr<Protocol> protocol;
  std::string failed;
};

inline std::shared_ptr<Factory> factoryOf(std::shared_ptr<Protocol> protocol) {
  return makeFactory([protocol = std::move(protocol)] { return protocol; });
}

}  // namespace torsion::test
