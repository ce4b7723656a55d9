// What echoclient, echoclient_ssl and ssl_clientauth_client share: three lines to be sent back.
#pragma once

#include <iostream>
#include <string_view>

#include <deferred/deferred.hpp>
#include <protocols/basic.hpp>
#include <reactor/error.hpp>

class EchoClient : public torsion::LineReceiver {
 public:
  /// Fires when the connection has ended; fails if that was not in an orderly way.
  torsion::Deferred<void> whenDone() { return done_.deferred(); }

  void connectionMade() override {
    sendLine("Hello, world!");
    sendLine("What a fine day it is.");
    sendLine(end);
  }
  void lineReceived(std::string_view line) override {
    std::cout << "receive: " << line << '\n';
    if (line == end) transport().loseConnection();
  }
  void connectionLost(const torsion::Failure& reason) override {
    if (reason.check<torsion::ConnectionDone>()) {
      done_.callback();
    } else {
      done_.errback(reason);
    }
  }

 private:
  static constexpr std::string_view end = "Bye-bye!";
  torsion::Resolver<void> done_;
};
