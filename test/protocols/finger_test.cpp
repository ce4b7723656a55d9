#include <protocols/finger.hpp>

#include <memory>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <reactor/testing/string_transport.hpp>

using namespace torsion;

namespace {

template <class P>
std::string ask(std::string_view line) {
  auto server = std::make_shared<P>();
  StringTransport transport;
  server->makeConnection(transport);
  server->dataReceived(line);
  CHECK(transport.disconnecting());
  return transport.value();
}

}  // namespace

TEST_CASE("Finger: refuses everything by itself") {
  CHECK(ask<Finger>("\r\n") == "Finger online list denied\n");
  CHECK(ask<Finger>("moshez\r\n") == "Login: moshez\nNo such user\n");
  CHECK(ask<Finger>("moshez@example.com\r\n") == "Finger forwarding service denied\n");
}

TEST_CASE("Finger: queries of RFC 1288") {
  struct Told : Finger {
    void getUser(bool verbose, std::string_view user) override { answer(verbose, "user " + std::string(user)); }
    void getDomain(bool verbose) override { answer(verbose, "all"); }
    void forwardQuery(bool verbose, std::string_view user, std::string_view host) override {
      answer(verbose, std::string(user) + " at " + std::string(host));
    }
    void answer(bool verbose, const std::string& what) { refuse(verbose ? what + ", in full" : what); }
  };
  CHECK(ask<Told>("\r\n") == "all\n");
  CHECK(ask<Told>("  \r\n") == "all\n");
  CHECK(ask<Told>("ada\r\n") == "user ada\n");
  CHECK(ask<Told>(" ada \r\n") == "user ada\n");
  CHECK(ask<Told>("/W ada\r\n") == "user ada, in full\n");
  CHECK(ask<Told>("ada@b@c\r\n") == "ada@b at c\n");
  CHECK(ask<Told>("/W @c\r\n") == " at c, in full\n");
}
