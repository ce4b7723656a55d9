#include <reactor/error.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include <deferred/failure.hpp>

using namespace torsion;

TEST_CASE("connectErrorFor chooses the class by errno and keeps the number") {
  CHECK(connectErrorFor(ECONNREFUSED, "x").check<ConnectionRefusedError>());
  CHECK(connectErrorFor(ENETUNREACH, "x").check<NoRouteError>());
  CHECK(connectErrorFor(EHOSTUNREACH, "x").check<NoRouteError>());
  CHECK(connectErrorFor(ETIMEDOUT, "x").check<TCPTimedOutError>());
  CHECK(connectErrorFor(ENOENT, "x").check<BadFileError>());
  const Failure other = connectErrorFor(EPERM, "connect to 10.0.0.1:80");
  CHECK(other.type() == typeid(ConnectError));
  CHECK(other.get<ConnectError>()->osError == EPERM);
  CHECK(other.getErrorMessage().starts_with("connect to 10.0.0.1:80: "));
}

TEST_CASE("each connection error is caught by the classes it derives from") {
  CHECK(connectErrorFor(ECONNREFUSED, "x").check<ConnectError>());
  CHECK(Failure(ConnectTimeoutError("x")).check<UserError>());
  CHECK(Failure(ConnectionAborted()).check<ConnectionLost>());
  CHECK(Failure(ConnectionAborted()).check<ConnectionClosed>());
  CHECK_FALSE(Failure(ConnectionDone()).check<ConnectionLost>());
}

TEST_CASE("CannotListenError names the place and what to do") {
  const CannotListenError busy("127.0.0.1", 80, EADDRINUSE);
  CHECK(std::string(busy.what()).find("127.0.0.1:80") != std::string::npos);
  CHECK(std::string(busy.what()).find("choose another port") != std::string::npos);
  CHECK(busy.interface == "127.0.0.1");
  CHECK(busy.port == 80);
  CHECK(busy.osError == EADDRINUSE);
  CHECK(std::string(CannotListenError("", 80, EACCES).what()).find("any:80") != std::string::npos);
}
