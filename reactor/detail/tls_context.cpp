#include <reactor/detail/tls_context.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>

#include <reactor/error.hpp>

namespace torsion::detail {
namespace {

struct BIOFree {
  void operator()(BIO* bio) const noexcept { BIO_free(bio); }
};
struct X509Free {
  void operator()(X509* certificate) const noexcept { X509_free(certificate); }
};
struct KeyFree {
  void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
};
using BIOPointer = std::unique_ptr<BIO, BIOFree>;
using X509Pointer = std::unique_ptr<X509, X509Free>;
using KeyPointer = std::unique_ptr<EVP_PKEY, KeyFree>;

/// A PEM argument as it is named in errors, and its text.
struct PEM {
  std::string name;
  std::string text;
};

PEM readPEM(const std::string& argument, const char* role) {
  if (argument.find("-----BEGIN") != std::string::npos) return {role, argument};
  std::string name = std::string(role) + " \"" + argument + "\"";
  errno = 0;
  std::ifstream file(argument, std::ios::binary);
  if (!file) throw SSLError("Cannot read the " + name + ": " + std::strerror(errno));
  PEM pem{std::move(name), std::string(std::istreambuf_iterator<char>(file), {})};
  if (pem.text.find("-----BEGIN") == std::string::npos) throw SSLError("The " + pem.name + " is not in PEM format.");
  return pem;
}

BIOPointer reader(const PEM& pem) {
  BIOPointer bio(BIO_new_mem_buf(pem.text.data(), static_cast<int>(pem.text.size())));
  if (!bio) throw std::bad_alloc();
  return bio;
}

std::vector<X509Pointer> readCertificates(const PEM& pem) {
  BIOPointer bio = reader(pem);
  std::vector<X509Pointer> certificates;
  ERR_clear_error();
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate);
  }
  // What ends a good file is "no start line".
  bool atEnd = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  std::string error = takeOpenSSLError();
  if (!atEnd) throw SSLError("Cannot use the " + pem.name + ": " + error);
  if (certificates.empty()) throw SSLError("There is no certificate in the " + pem.name + ".");
  return certificates;
}

KeyPointer readPrivateKey(const PEM& pem) {
  BIOPointer bio = reader(pem);
  ERR_clear_error();
  // Without a callback OpenSSL would ask for a password on the terminal.
  auto noPassword = [](char*, int, int, void*) { return -1; };
  KeyPointer key(PEM_read_bio_PrivateKey(bio.get(), nullptr, noPassword, nullptr));
  std::string error = takeOpenSSLError();
  if (!key) {
    throw SSLError("There is no usable private key in the " + pem.name +
                   " (an encrypted one must be decrypted first): " + error);
  }
  return key;
}

std::string takeText(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

BIOPointer writer() {
  BIOPointer bio(BIO_new(BIO_s_mem()));
  if (!bio) throw std::bad_alloc();
  return bio;
}

std::string nameText(const X509_NAME* name) {
  BIOPointer bio = writer();
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
  return takeText(bio.get());
}

std::string timeText(const ASN1_TIME* time) {
  BIOPointer bio = writer();
  ASN1_TIME_print_ex(bio.get(), time, ASN1_DTFLGS_ISO8601);
  return takeText(bio.get());
}

/// The names and addresses that a certificate is for: "a.example", "b.example", 127.0.0.1; at most a few.
std::string subjectNames(X509* certificate) {
  constexpr int kMost = 6;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::string text;
  int count = names ? sk_GENERAL_NAME_num(names) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    std::string one;
    if (name->type == GEN_DNS) {
      one = "\"";
      auto* bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
      for (char c : std::string_view(bytes, static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)))) {
        one += c > ' ' && c < '\x7f' ? c : '?';
      }
      one += '"';
    } else if (name->type == GEN_IPADD) {
      BIOPointer bio = writer();
      GENERAL_NAME_print(bio.get(), const_cast<GENERAL_NAME*>(name));
      one = takeText(bio.get());
      one.erase(0, one.find(':') + 1);
    } else {
      continue;
    }
    if (i == kMost) {
      text += ", ...";
      break;
    }
    if (!text.empty()) text += ", ";
    text += one;
  }
  GENERAL_NAMES_free(names);
  return text;
}

std::string describeProblem(X509_STORE_CTX* store, const std::string& hostname) {
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  int error = X509_STORE_CTX_get_error(store);
  bool leaf = X509_STORE_CTX_get_error_depth(store) == 0;
  std::string subject = certificate ? nameText(X509_get_subject_name(certificate)) : std::string("?");
  std::string issuer = certificate ? nameText(X509_get_issuer_name(certificate)) : std::string("?");
  std::string whose = hostname.empty() ? "the client" : "\"" + hostname + "\"";
  std::string the = leaf ? "The certificate of " + whose + " (" + subject + ")"
                         : "The certificate " + subject + ", in the chain of " + whose + ",";
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return the + " expired on " + timeText(X509_get0_notAfter(certificate)) +
             ". Its owner must renew it; or the clock of this machine is wrong.";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return the + " is not valid before " + timeText(X509_get0_notBefore(certificate)) +
             ". Is the clock of this machine right?";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return the + " is self-signed, and is not a trust root. To trust it, give it as trustRoots.";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return the +
             " is self-signed, and is not a trust root: the issuer is unknown. To trust it, give it as trustRoots.";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return the + " comes from an unknown issuer, " + issuer +
             ". To trust it, give the issuer's certificate as trustRoots; if the issuer is an intermediate one, the " +
             (hostname.empty() ? "client" : "server") + " must send it along.";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: {
      std::string names = subjectNames(certificate);
      if (names.empty()) {
        return the + " says by no subjectAltName whom it is for, so not that it is for " + whose +
               " (the common name does not count). It must be made anew, with the name.";
      }
      return "The certificate is for " + names + ", not for " + whose +
             ". Connect to a name that it is for, or have it made for this one; or the peer is an impostor.";
    }
    default:
      return the + " is refused: " + X509_verify_cert_error_string(error) + ".";
  }
}

int verifyCallback(int ok, X509_STORE_CTX* store) {
  if (ok) return 1;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* verification = static_cast<Verification*>(SSL_get_app_data(ssl));
  try {
    verification->problem = describeProblem(store, verification->hostname);
  } catch (...) {  // memory: the refusal stands, its text does not
  }
  return 0;
}

/// The name in a ClientHello (RFC 6066, 3), in lower case; empty if there is none.
std::string sentName(SSL* ssl) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  constexpr std::size_t kHead = 5;  // the list's size, the type of its first name, the name's size
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1 || size <= kHead) return {};
  if (data[2] != TLSEXT_NAMETYPE_host_name || ((data[3] << 8) | data[4]) != static_cast<int>(size - kHead)) return {};
  std::string name(reinterpret_cast<const char*>(data + kHead), size - kHead);
  for (char& c : name) {
    if (c <= ' ' || c >= '\x7f') return {};
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return name;
}

int selectProtocol(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* theirs,
                   unsigned int theirSize, void* argument) {
  auto& ours = *static_cast<const std::string*>(argument);
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned int>(ours.size()), theirs, theirSize) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

void SessionCache::keep(const std::string& hostname, SessionPointer session) {
  std::lock_guard lock(mutex_);
  auto found = byName_.find(hostname);
  if (found == byName_.end()) {
    if (hosts_.size() == kHosts) {
      byName_.erase(hosts_.back().name);
      hosts_.pop_back();
    }
    hosts_.push_front({hostname, {}});
    found = byName_.emplace(hosts_.front().name, hosts_.begin()).first;
  }
  hosts_.splice(hosts_.begin(), hosts_, found->second);
  auto& sessions = hosts_.front().sessions;
  if (sessions.size() == kSessionsOfHost) sessions.erase(sessions.begin());
  sessions.push_back(std::move(session));
}

SessionPointer SessionCache::take(const std::string& hostname) {
  std::lock_guard lock(mutex_);
  auto found = byName_.find(hostname);
  if (found == byName_.end()) return nullptr;
  auto host = found->second;
  SessionPointer session;
  // TLS 1.3 gives tickets for one use each, so that nobody can tell that two connections are the same client's.
  if (SSL_SESSION_get_protocol_version(host->sessions.back().get()) >= TLS1_3_VERSION) {
    session = std::move(host->sessions.back());
    host->sessions.pop_back();
  } else {
    session.reset(SSL_SESSION_dup(host->sessions.back().get()));
  }
  if (host->sessions.empty()) {
    byName_.erase(found);
    hosts_.erase(host);
  }
  return session;
}

std::string takeOpenSSLError() {
  unsigned long error = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(error);
  std::string text = reason                             ? reason
                     : error && ERR_SYSTEM_ERROR(error) ? std::strerror(ERR_GET_REASON(error))
                                                        : "unknown error";
  ERR_clear_error();
  return text;
}

Certificate describeCertificate(X509* certificate) {
  Certificate description;
  BIOPointer pem = writer();
  PEM_write_bio_X509(pem.get(), certificate);
  description.pem = takeText(pem.get());
  BIOPointer der = writer();
  i2d_X509_bio(der.get(), certificate);
  description.der = takeText(der.get());
  description.subject = nameText(X509_get_subject_name(certificate));
  description.issuer = nameText(X509_get_issuer_name(certificate));
  return description;
}

TLSContext::TLSContext(bool client)
    : context_(SSL_CTX_new(client ? TLS_client_method() : TLS_server_method())), client_(client) {
  if (!context_) throw SSLError("OpenSSL cannot be used: " + takeOpenSSLError());
  SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
  SSL_CTX_set_options(context_, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context_,
                   SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_app_data(context_, this);
  if (client) {
    SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context_, keepSession);
  } else {
    // Clients resume with the tickets that they keep; a cache here would hold thousands of sessions that nobody asks
    // for. A session made under one context is none under another, which may ask clients for other certificates.
    SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
    static std::atomic<std::uint64_t> contexts{0};
    const std::uint64_t id = ++contexts;
    SSL_CTX_set_session_id_context(context_, reinterpret_cast<const unsigned char*>(&id), sizeof id);
  }
}

TLSOptions TLSContext::client(const std::string& hostname, const ClientTLS& options) {
  auto make = [](const ClientTLS& options) {
    std::shared_ptr<TLSContext> made(new TLSContext(true));
    SSL_CTX_set_verify(made->context_, SSL_VERIFY_PEER, verifyCallback);
    if (options.trustRoots.empty()) {
      made->trustSystem();
    } else {
      made->trust(options.trustRoots);
    }
    if (auto& own = options.clientCertificate) made->usePrivateCertificate(own->certificate, own->privateKey);
    made->accept(options.acceptableProtocols);
    made->limitHandshake(options.handshakeTimeout);
    return made;
  };
  if (options.trustRoots.empty() && !options.clientCertificate && options.acceptableProtocols.empty() &&
      options.handshakeTimeout == kHandshakeTimeout) {
    // A program that fetches from thousands of hosts reads the system's certificates once.
    static const std::shared_ptr<const TLSContext> plain = make({});
    return withHostname(plain, hostname);
  }
  return withHostname(make(options), hostname);
}

TLSOptions TLSContext::withHostname(std::shared_ptr<const TLSContext> context, const std::string& hostname) {
  if (!context->client_) throw std::invalid_argument("TLSOptions of a server have no hostname");
  std::string name = hostname;
  if (name.ends_with('.')) name.pop_back();
  bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (name.empty() || !ascii) {
    throw std::invalid_argument("not a hostname for TLS: \"" + hostname +
                                "\" (an international name is given in its ASCII form, xn--...)");
  }
  return TLSOptions(std::move(context), std::move(name));
}

TLSOptions TLSContext::server(const CertificateOptions& options) {
  std::shared_ptr<TLSContext> made(new TLSContext(false));
  made->usePrivateCertificate(options.certificate, options.privateKey);
  if (!options.extraCertChain.empty()) {
    for (auto& certificate : readCertificates(readPEM(options.extraCertChain, "certificate chain"))) {
      SSL_CTX_add1_chain_cert(made->context_, certificate.get());
    }
  }
  if (!options.trustRoots.empty()) {
    made->trust(options.trustRoots);
    int mode = SSL_VERIFY_PEER | (options.requireCertificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    SSL_CTX_set_verify(made->context_, mode, verifyCallback);
  }
  made->accept(options.acceptableProtocols);
  made->limitHandshake(options.handshakeTimeout);
  return TLSOptions(std::move(made), {});
}

TLSOptions TLSContext::selecting(std::function<TLSOptions(const std::string& name)> select) {
  std::shared_ptr<TLSContext> made(new TLSContext(false));
  made->select_ = std::move(select);
  // Before anything else is done with the ClientHello: what is selected decides also which sessions may be resumed.
  SSL_CTX_set_client_hello_cb(made->context_, selectOptions, made.get());
  return TLSOptions(std::move(made), {});
}

int TLSContext::selectOptions(SSL* ssl, int* alert, void* self) {
  auto* verification = static_cast<Verification*>(SSL_get_app_data(ssl));
  try {
    verification->selected = static_cast<TLSContext*>(self)->select_(sentName(ssl));
    const TLSContext& selected = verification->selected->context();
    if (selected.client_ || selected.select_) {
      throw std::logic_error(
          "selectServerTLS: what is selected must come from optionsForServerTLS(CertificateOptions)");
    }
    SSL_set_SSL_CTX(ssl, selected.context_);
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(selected.context_), verifyCallback);
    return SSL_CLIENT_HELLO_SUCCESS;
  } catch (...) {
    verification->thrown = Failure::current();
  }
  *alert = SSL_AD_INTERNAL_ERROR;
  return SSL_CLIENT_HELLO_ERROR;
}

int TLSContext::keepSession(SSL* ssl, SSL_SESSION* session) {
  auto* self = static_cast<TLSContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  auto* verification = static_cast<Verification*>(SSL_get_app_data(ssl));
  try {
    // A copy: what becomes of the connection spoils its own session.
    SessionPointer copy(SSL_SESSION_dup(session));
    if (copy) self->sessions_.keep(verification->hostname, std::move(copy));
  } catch (...) {  // memory: it is not resumed then
  }
  return 0;
}

void TLSContext::limitHandshake(Duration timeout) {
  if (timeout < Duration::zero()) throw std::invalid_argument("handshakeTimeout is negative; 0 sets no limit");
  handshakeTimeout_ = timeout;
}

void TLSContext::usePrivateCertificate(const std::string& certificate, const std::string& privateKey) {
  if (certificate.empty()) throw SSLError("A TLS server needs a certificate, and the private key that belongs to it.");
  PEM pem = readPEM(certificate, "certificate");
  std::vector<X509Pointer> chain = readCertificates(pem);
  KeyPointer key = readPrivateKey(privateKey.empty() ? pem : readPEM(privateKey, "private key"));
  ERR_clear_error();
  if (SSL_CTX_use_certificate(context_, chain.front().get()) != 1) {
    throw SSLError("Cannot use the " + pem.name + ": " + takeOpenSSLError());
  }
  for (std::size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(context_, chain[i].get());
  if (SSL_CTX_use_PrivateKey(context_, key.get()) != 1 || SSL_CTX_check_private_key(context_) != 1) {
    throw SSLError("The private key does not belong to the " + pem.name + ": " + takeOpenSSLError());
  }
}

void TLSContext::trust(const std::string& roots) {
  X509_STORE* store = SSL_CTX_get_cert_store(context_);
  // A root given may be any certificate: a self-signed server, or an intermediate authority.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  auto add = [&](const PEM& pem) {
    for (auto& certificate : readCertificates(pem)) {
      if (X509_STORE_add_cert(store, certificate.get()) != 1) {
        throw SSLError("Cannot use the " + pem.name + ": " + takeOpenSSLError());
      }
      if (!client_) SSL_CTX_add_client_CA(context_, certificate.get());
    }
  };
  std::error_code error;
  if (roots.find("-----BEGIN") != std::string::npos || !std::filesystem::is_directory(roots, error)) {
    return add(readPEM(roots, "trust roots"));
  }
  bool any = false;
  for (auto& entry : std::filesystem::directory_iterator(roots)) {
    if (entry.path().extension() != ".pem" && entry.path().extension() != ".crt") continue;
    add(readPEM(entry.path().string(), "trust root"));
    any = true;
  }
  if (!any) throw SSLError("There is no .pem or .crt file in the directory of trust roots \"" + roots + "\".");
}

// SSL_CTX_set_default_verify_paths reads a file of all certificates, in 30 ms. The directory of the same certificates
// is read as they are needed.
void TLSContext::trustSystem() {
  const char* file = std::getenv(X509_get_default_cert_file_env());
  const char* directory = std::getenv(X509_get_default_cert_dir_env());
  std::error_code error;
  std::filesystem::directory_iterator entries(directory ? directory : X509_get_default_cert_dir(), error);
  SSL_CTX_set_default_verify_dir(context_);
  if (file || error || entries == std::filesystem::directory_iterator()) SSL_CTX_set_default_verify_file(context_);
  ERR_clear_error();  // no certificates at all: then every peer is an unknown one, and its VerifyError says so
}

void TLSContext::accept(const std::vector<std::string>& protocols) {
  for (auto& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) {
      throw std::invalid_argument("the name of an acceptable protocol has 1 to 255 bytes: \"" + protocol + "\"");
    }
    protocols_ += static_cast<char>(protocol.size());
    protocols_ += protocol;
  }
  if (protocols_.empty()) return;
  if (client_) {
    SSL_CTX_set_alpn_protos(context_, reinterpret_cast<const unsigned char*>(protocols_.data()),
                            static_cast<unsigned int>(protocols_.size()));
  } else {
    SSL_CTX_set_alpn_select_cb(context_, selectProtocol, &protocols_);
  }
}

SSLPointer TLSContext::newConnection(Verification& verification) const {
  ERR_clear_error();
  SSLPointer ssl(SSL_new(context_));
  if (!ssl) throw SSLError("OpenSSL cannot make a connection: " + takeOpenSSLError());
  SSL_set_app_data(ssl.get(), &verification);
  if (!client_) {
    SSL_set_accept_state(ssl.get());
    return ssl;
  }
  SSL_set_connect_state(ssl.get());
  if (SessionPointer session = sessions_.take(verification.hostname)) SSL_set_session(ssl.get(), session.get());
  const std::string& name = verification.hostname;
  X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl.get());
  bool set;
  if (isIPAddress(name) || isIPv6Address(name)) {
    set = X509_VERIFY_PARAM_set1_ip_asc(parameters, name.substr(0, name.find('%')).c_str()) == 1;
  } else {
    X509_VERIFY_PARAM_set_hostflags(parameters,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    set = X509_VERIFY_PARAM_set1_host(parameters, name.c_str(), name.size()) == 1 &&
          SSL_set_tlsext_host_name(ssl.get(), name.c_str()) == 1;
  }
  if (!set) throw SSLError("OpenSSL does not take the hostname \"" + name + "\": " + takeOpenSSLError());
  return ssl;
}

}  // namespace torsion::detail
