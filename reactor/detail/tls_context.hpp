// The SSL_CTX behind TLSOptions: certificates, trust, and what is said when a peer cannot be trusted.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <deferred/failure.hpp>
#include <reactor/tls.hpp>

namespace torsion::detail {

/// What OpenSSL's callbacks are told of one connection, and where they leave what they found.
struct Verification {
  std::string hostname;                     ///< whom a client wants to talk to; empty at a server
  std::string problem = {};                 ///< with the peer's certificate; empty while there is none
  std::optional<TLSOptions> selected = {};  ///< by a server, for the name that the client sent
  std::optional<Failure> thrown = {};       ///< by the user's function that selects
};

struct SSLFree {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using SSLPointer = std::unique_ptr<SSL, SSLFree>;

struct SessionFree {
  void operator()(SSL_SESSION* session) const noexcept { SSL_SESSION_free(session); }
};
using SessionPointer = std::unique_ptr<SSL_SESSION, SessionFree>;

/// The sessions that a client may resume, by the name that was verified when they were made; those of the hosts
/// talked to longest ago are dropped first. Any thread may use it.
class SessionCache {
 public:
  static constexpr std::size_t kHosts = 256;
  static constexpr std::size_t kSessionsOfHost = 2;

  void keep(const std::string& hostname, SessionPointer session);
  /// One to offer, or null.
  SessionPointer take(const std::string& hostname);

 private:
  struct Host {
    std::string name;
    std::vector<SessionPointer> sessions;  // the newest last
  };
  std::mutex mutex_;
  std::list<Host> hosts_;  // the latest first
  std::unordered_map<std::string_view, std::list<Host>::iterator> byName_;
};

class TLSContext {
 public:
  static TLSOptions client(const std::string& hostname, const ClientTLS& options);
  static TLSOptions server(const CertificateOptions& options);
  static TLSOptions selecting(std::function<TLSOptions(const std::string& name)> select);
  static TLSOptions withHostname(std::shared_ptr<const TLSContext> context, const std::string& hostname);

  ~TLSContext() { SSL_CTX_free(context_); }
  TLSContext(const TLSContext&) = delete;
  TLSContext& operator=(const TLSContext&) = delete;

  /// An SSL for one connection, ready for its BIO. `verification` must live as long. Throws SSLError.
  SSLPointer newConnection(Verification& verification) const;
  Duration handshakeTimeout() const noexcept { return handshakeTimeout_; }

 private:
  explicit TLSContext(bool client);
  void usePrivateCertificate(const std::string& certificate, const std::string& privateKey);
  void trust(const std::string& roots);
  void trustSystem();
  void accept(const std::vector<std::string>& protocols);
  void limitHandshake(Duration timeout);
  static int keepSession(SSL* ssl, SSL_SESSION* session);
  static int selectOptions(SSL* ssl, int* alert, void* self);

  SSL_CTX* context_;
  bool client_;
  std::string protocols_;  // ALPN, in the form of the wire
  Duration handshakeTimeout_ = kHandshakeTimeout;
  std::function<TLSOptions(const std::string& name)> select_;
  mutable SessionCache sessions_;
};

/// The text of the newest error in OpenSSL's queue, and the queue emptied.
std::string takeOpenSSLError();
Certificate describeCertificate(X509* certificate);

}  // namespace torsion::detail
