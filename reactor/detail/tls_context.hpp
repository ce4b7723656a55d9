// The SSL_CTX behind TLSOptions: certificates, trust, and what is said when a peer cannot be trusted.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <vector>

#include <reactor/tls.hpp>

namespace torsion::detail {

/// Where the verification of one connection leaves what it found wrong.
struct Verification {
  std::string hostname;  ///< whom a client wants to talk to; empty at a server
  std::string problem;   ///< empty while there is none
};

struct SSLFree {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using SSLPointer = std::unique_ptr<SSL, SSLFree>;

class TLSContext {
 public:
  static TLSOptions client(const std::string& hostname, const ClientTLS& options);
  static TLSOptions server(const CertificateOptions& options);
  static TLSOptions withHostname(std::shared_ptr<const TLSContext> context, const std::string& hostname);

  ~TLSContext() { SSL_CTX_free(context_); }
  TLSContext(const TLSContext&) = delete;
  TLSContext& operator=(const TLSContext&) = delete;

  /// An SSL for one connection, ready for its BIO. `verification` must live as long. Throws SSLError.
  SSLPointer newConnection(Verification& verification) const;

 private:
  explicit TLSContext(bool client);
  void usePrivateCertificate(const std::string& certificate, const std::string& privateKey);
  void trust(const std::string& roots);
  void trustSystem();
  void accept(const std::vector<std::string>& protocols);

  SSL_CTX* context_;
  bool client_;
  std::string protocols_;  // ALPN, in the form of the wire
};

/// The text of the newest error in OpenSSL's queue, and the queue emptied.
std::string takeOpenSSLError();
Certificate describeCertificate(X509* certificate);

}  // namespace torsion::detail
