#include <test/interop/interop.hpp>

#include <openssl/sha.h>

#include <array>

#include <protocols/basic.hpp>
#include <reactor/error.hpp>
#include <test/support/process.hpp>

namespace torsion::test {

std::string nameOf(const Failure& failure) {
  if (failure.check<FileDescriptorOverrun>()) return "FileDescriptorOverrun";
  if (failure.check<ConnectionAborted>()) return "ConnectionAborted";
  if (failure.check<ConnectionLost>()) return "ConnectionLost";
  if (failure.check<ConnectionDone>()) return "ConnectionDone";
  if (failure.check<ConnectionRefusedError>()) return "ConnectionRefusedError";
  if (failure.check<BadFileError>()) return "BadFileError";
  if (failure.check<ConnectTimeoutError>()) return "ConnectTimeoutError";
  if (failure.check<SSLError>()) return "SSLError";
  if (failure.check<VerifyError>()) return "VerifyError";
  if (failure.check<TimeoutError>()) return "TimeoutError";
  return failure.getErrorMessage();
}

std::string sum(std::string_view data) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(), digest.data());
  std::string text = std::to_string(data.size()) + " ";
  for (int i = 0; i < 8; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::uint16_t portOf(const Address& address) {
  if (auto* v6 = std::get_if<IPv6Address>(&address)) return v6->port;
  return std::get<IPv4Address>(address).port;
}

namespace {

std::uint16_t peerPort() {
  static Process python({"/usr/bin/python3", "-B", INTEROP_DIRECTORY "/peer.py"});
  static const std::uint16_t port = [] {
    std::string_view before = "port ";
    std::string output = python.waitFor("\n");
    REQUIRE_MESSAGE(output.starts_with(before), output);
    return static_cast<std::uint16_t>(std::stoi(output.substr(before.size())));
  }();
  return port;
}

}  // namespace

struct Peer::Session : LineReceiver {
  Session() { setDelimiter("\n"); }
  void lineReceived(std::string_view line) override { said.emplace_back(line); }
  std::deque<std::string> said;
};

Peer::Peer(Reactor& reactor) : reactor_(reactor), session_(std::make_shared<Session>()) {
  reactor.connectTCP("127.0.0.1", peerPort(), std::make_shared<RecorderClientFactory>(session_));
  runUntil(reactor, [&] { return session_->connected(); });
}

Peer::~Peer() {
  session_->transport().abortConnection();
}

void Peer::tell(const std::string& command) {
  session_->sendLine(command);
}

std::string Peer::hear() {
  runUntil(reactor_, [&] { return !session_->said.empty(); });
  std::string line = std::move(session_->said.front());
  session_->said.pop_front();
  return line;
}

std::uint16_t Peer::listen(const std::string& command) {
  tell(command);
  std::string line = hear();
  REQUIRE_MESSAGE(line.starts_with("port "), line);
  return static_cast<std::uint16_t>(std::stoi(line.substr(5)));
}

bool Peer::silent() const {
  return session_->said.empty();
}

}  // namespace torsion::test
