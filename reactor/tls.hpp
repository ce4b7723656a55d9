// TLS as a Protocol over any Transport: TCP, UNIX sockets, memory, another TLS (twisted.protocols.tls, internet.ssl).
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <deferred/time.hpp>
#include <reactor/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/transport.hpp>

namespace torsion {

class StreamClientEndpoint;
namespace detail {
class TLSContext;
}

// Where a string below is called PEM it is the PEM text itself if it contains "-----BEGIN", else the name of a file.

/// Which side a connection is, and what it shows to and asks of the other. An immutable handle, cheap to copy: all
/// connections made with one share its certificates. Any thread may copy and use it.
class TLSOptions {
 public:
  /// The same for another server: one set of trust roots serves many names. Clients only.
  /// Throws std::invalid_argument as optionsForClientTLS does.
  TLSOptions forHostname(const std::string& hostname) const;
  /// Empty for a server.
  const std::string& hostname() const noexcept { return hostname_; }
  bool isClient() const noexcept { return !hostname_.empty(); }
  const detail::TLSContext& context() const noexcept { return *context_; }

 private:
  friend class detail::TLSContext;
  TLSOptions(std::shared_ptr<const detail::TLSContext> context, std::string hostname) noexcept
      : context_(std::move(context)), hostname_(std::move(hostname)) {}
  std::shared_ptr<const detail::TLSContext> context_;
  std::string hostname_;
};

/// A certificate with its private key.
struct PrivateCertificate {
  std::string certificate = {};  ///< PEM: the certificate, then the intermediate ones up to (not with) the root
  std::string privateKey = {};   ///< PEM, not encrypted; empty: it is in `certificate`
};

/// How long a handshake may take unless options say otherwise.
inline constexpr Duration kHandshakeTimeout = std::chrono::seconds(30);

struct ClientTLS {
  /// PEM of one or many certificates, or a directory of them: these alone are trusted (Twisted's
  /// trustRootFromCertificates), be they authorities or the peer's own, self-signed one. Empty: the system's, or what
  /// the environment's SSL_CERT_FILE and SSL_CERT_DIR name.
  std::string trustRoots = {};
  std::optional<PrivateCertificate> clientCertificate = {};
  std::vector<std::string> acceptableProtocols = {};  ///< ALPN, the preferred first: {"h2", "http/1.1"}
  /// For the whole handshake; then the connection is aborted, with ConnectTimeoutError. 0: no limit.
  Duration handshakeTimeout = kHandshakeTimeout;
};

/// A client that connects only to a peer that proves to be `hostname`, a name or an IP address: the chain leads to a
/// trust root, no certificate is out of date, and the name or address is among the certificate's subjectAltNames
/// (RFC 6125; the subject's common name is not looked at). The name is sent (SNI). TLS 1.2 is the minimum.
/// If verification fails, connectionLost gets VerifyError, and nothing that was written has been sent.
/// Connections made with the options, or with a copy, resume sessions of earlier ones with the same hostname: the
/// tickets of the latest 256 hosts are kept.
/// Throws std::invalid_argument for a hostname that is empty or not ASCII, SSLError for a PEM that cannot be used.
TLSOptions optionsForClientTLS(const std::string& hostname, const ClientTLS& options);
inline TLSOptions optionsForClientTLS(const std::string& hostname) {
  return optionsForClientTLS(hostname, ClientTLS());
}

/// What a server shows and asks for (Twisted's CertificateOptions).
struct CertificateOptions {
  std::string privateKey = {};      ///< PEM, not encrypted; empty: it is in `certificate`
  std::string certificate = {};     ///< PEM: the certificate, perhaps followed by its chain
  std::string extraCertChain = {};  ///< PEM: intermediate certificates that are not in `certificate`
  /// As in ClientTLS. If given, clients are asked for a certificate, which must lead to one of them.
  std::string trustRoots = {};
  /// With trustRoots: refuse a client that shows none (VerifyError). If false its getPeerCertificate() gives nothing.
  bool requireCertificate = true;
  /// ALPN, the preferred first. If the client offers none of them, none is chosen.
  std::vector<std::string> acceptableProtocols = {};
  Duration handshakeTimeout = kHandshakeTimeout;  ///< as in ClientTLS; behind selectServerTLS it is the default
};

/// A server; TLS 1.2 is the minimum. Throws SSLError for a PEM that cannot be used or a key of another certificate.
TLSOptions optionsForServerTLS(const CertificateOptions& options);

/// A server that chooses its options for each connection: `select` gets the name that the client sent (SNI; in lower
/// case, empty if it sent none) and returns options made by optionsForServerTLS. So a certificate is renewed without a
/// restart: connections that are open go on with what they have.
///   TLSOptions current = optionsForServerTLS(...);
///   listenTCP(443, tlsFactory(selectServerTLS([&](const std::string&) { return current; }), site));
///   ...
///   current = optionsForServerTLS(...);  // from now on
/// It runs in the thread of the connection and must not touch connections; what it throws is logged and ends this one.
TLSOptions selectServerTLS(std::function<TLSOptions(const std::string& name)> select);

/// The same from a table. A name in it is exact ("www.example.com") or stands for all with one label before it
/// ("*.example.com"); the exact one wins. `otherwise` serves all other names, and clients that send none.
/// Throws std::invalid_argument for options of a client.
TLSOptions selectServerTLS(TLSOptions otherwise, std::map<std::string, TLSOptions> byName);

/// A certificate, to look at.
struct Certificate {
  std::string pem;
  std::string der;
  std::string subject;  ///< RFC 2253: "CN=example.com,O=Example"
  std::string issuer;
};

/// What transport() is to a protocol behind TLS (Twisted's ISSLTransport and INegotiated):
///   if (TLSTransport* tls = TLSTransport::from(transport())) log(tls->cipherName());
///
/// The protocol's connectionMade comes as soon as the lower transport is connected. What it writes is held until the
/// handshake has succeeded, and counts for back-pressure; nothing is ever sent in clear. Small writes of one turn leave
/// together at its end, in as few TLS records as they fit. How a connection ends:
///  - loseConnection() sends what is queued and a close_notify, waits up to 5 seconds for the peer's, and closes
///    (ConnectionDone); before the handshake with nothing written it closes at once;
///  - the peer's close_notify is answered and ends the connection both ways (ConnectionDone): TLS has no half-close;
///  - a lower connection that ends without close_notify was truncated (ConnectionLost);
///  - a handshake that fails gives VerifyError for a certificate that this side refuses, ConnectTimeoutError if it is
///    not finished in time, else SSLError;
///  - a breach of the TLS protocol after the handshake gives ConnectionLost.
class TLSTransport : public Transport {
 public:
  /// Looks below policies, too. Null if there is no TLS.
  static TLSTransport* from(Transport& transport) noexcept { return find<TLSTransport>(transport); }

  /// These are known from handshakeCompleted until connectionLost has returned; otherwise they give nothing.
  virtual std::optional<Certificate> getPeerCertificate() const = 0;
  /// By ALPN: "h2"; empty if none was agreed on.
  virtual std::string negotiatedProtocol() const = 0;
  virtual std::string protocolVersion() const = 0;  ///< "TLSv1.3"
  virtual std::string cipherName() const = 0;       ///< "TLS_AES_256_GCM_SHA384"
  /// The handshake was a short one, which resumed the session of an earlier connection with its verified peer.
  virtual bool sessionReused() const = 0;
};

/// Mix into a protocol to hear when the handshake has succeeded (Twisted's IHandshakeListener).
class HandshakeListener {
 public:
  /// The peer is verified; what was written before is sent when this returns, unless it calls abortConnection().
  virtual void handshakeCompleted() = 0;

 protected:
  ~HandshakeListener() = default;
};

/// Puts TLS under the protocols of `factory` (Twisted's TLSMemoryBIOFactory): as a server
///   listenTCP(443, tlsFactory(optionsForServerTLS({.privateKey = "key.pem", .certificate = "cert.pem"}), site));
/// or, with options of a client, as a client. `time` limits the handshake and the wait for the peer's close_notify, and
/// ends turns.
std::shared_ptr<Factory> tlsFactory(TLSOptions options, std::shared_ptr<Factory> factory, Time& time = reactor());
std::shared_ptr<ClientFactory> tlsFactory(TLSOptions options, std::shared_ptr<ClientFactory> factory,
                                          Time& time = reactor());
template <class F>
auto tlsFactory(TLSOptions options, std::shared_ptr<F> factory, Time& time = reactor()) {
  using Base = std::conditional_t<std::is_base_of_v<ClientFactory, F>, ClientFactory, Factory>;
  return tlsFactory(std::move(options), std::shared_ptr<Base>(std::move(factory)), time);
}

/// An endpoint that puts TLS under the protocols it connects. connect() gives the protocol that the factory built, and
/// fires when `endpoint` does, before the handshake: a VerifyError arrives at connectionLost.
std::shared_ptr<StreamClientEndpoint> wrapClientTLS(TLSOptions options, std::shared_ptr<StreamClientEndpoint> endpoint,
                                                    Time& time = reactor());

/// Puts TLS between a connected protocol and its transport (Twisted's transport.startTLS). What it has written goes out
/// in clear before; from now on its transport() is a TLSTransport. May be called in dataReceived; bytes that follow in
/// that call came in clear and must not be taken for protected ones: a LineReceiver and the like give them to TLS,
/// where they are the peer's handshake or an error. Its producer must be unregistered first.
void startTLS(Protocol& protocol, const TLSOptions& options, Time& time = reactor());

}  // namespace torsion
