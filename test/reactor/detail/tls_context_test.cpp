#include <reactor/detail/tls_context.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>

using namespace torsion::detail;

namespace {

SessionPointer makeSession(int version) {
  SessionPointer session(SSL_SESSION_new());
  SSL_SESSION_set_protocol_version(session.get(), version);
  return session;
}

std::string host(std::size_t number) {
  return "host" + std::to_string(number) + ".example";
}

}  // namespace

TEST_CASE("sessions to resume are kept of 256 hosts: the one talked to longest ago goes first") {
  CHECK(SessionCache::kHosts == 256);
  SessionCache cache;
  for (std::size_t i = 0; i < SessionCache::kHosts; ++i) cache.keep(host(i), makeSession(TLS1_2_VERSION));
  cache.keep(host(0), makeSession(TLS1_2_VERSION));  // the latest again
  for (std::size_t i = 256; i < 356; ++i) cache.keep(host(i), makeSession(TLS1_2_VERSION));
  CHECK(cache.take(host(0)));
  for (std::size_t i = 1; i <= 100; ++i) CHECK_FALSE(cache.take(host(i)));
  for (std::size_t i = 101; i < 356; ++i) CHECK(cache.take(host(i)));
}

TEST_CASE("a host's latest two sessions are kept; those of TLS 1.3 are given once, those of 1.2 again and again") {
  SessionCache cache;
  SSL_SESSION* made[3];
  for (SSL_SESSION*& session : made) {
    SessionPointer owned = makeSession(TLS1_3_VERSION);
    session = owned.get();
    cache.keep("a.example", std::move(owned));
  }
  CHECK(cache.take("a.example").get() == made[2]);
  CHECK(cache.take("a.example").get() == made[1]);
  CHECK_FALSE(cache.take("a.example"));
  cache.keep("a.example", makeSession(TLS1_2_VERSION));
  CHECK(cache.take("a.example"));
  CHECK(cache.take("a.example"));
  CHECK_FALSE(cache.take("b.example"));
}
