// The small standard protocols of inetd (twisted.protocols.wire). As servers:
//   reactor().listenTCP(7, forProtocol<Echo>());
#pragma once

#include <string>
#include <string_view>

#include <reactor/protocol.hpp>
#include <reactor/transport.hpp>

namespace torsion {

/// Sends back what comes (RFC 862). It reads no faster than the peer does.
class Echo : public Protocol {
 public:
  void dataReceived(std::string_view data) override;
};

/// Ignores what comes (RFC 863).
class Discard : public Protocol {};

/// Sends characters for as long as the peer reads them (RFC 864).
class Chargen : public Protocol, private Producer {
 public:
  void connectionMade() override { transport().registerProducer(*this, false); }

 private:
  void resumeProducing() override;
  void pauseProducing() override {}
  void stopProducing() override {}
};

/// Sends a quote and closes (RFC 865).
class QOTD : public Protocol {
 public:
  void connectionMade() override;
  virtual std::string getQuote() { return "An apple a day keeps the doctor away.\r\n"; }
};

/// Sends the date and time of day, UTC, as "Tue Nov 24 19:10:00 2026", and closes (RFC 867).
class Daytime : public Protocol {
 public:
  void connectionMade() override;
};

}  // namespace torsion
