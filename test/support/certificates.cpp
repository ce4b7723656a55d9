#include <test/support/certificates.hpp>

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <random>
#include <stdexcept>

namespace torsion::test {
namespace {

template <auto Free>
struct Deleter {
  void operator()(auto* p) const noexcept { Free(p); }
};
using BIOPointer = std::unique_ptr<BIO, Deleter<BIO_free>>;
using X509Pointer = std::unique_ptr<X509, Deleter<X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("cannot make a certificate: ") + what);
}

std::string takeText(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

void addExtension(X509* certificate, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  check(extension && X509_add_ext(certificate, extension, -1) == 1, value.c_str());
  X509_EXTENSION_free(extension);
}

bool isAddress(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 || inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

}  // namespace

Issued makeCertificate(const CertificateSpec& spec) {
  KeyPointer key(EVP_EC_gen("P-256"));
  X509Pointer certificate(X509_new());
  check(key && certificate, "key");
  X509_set_version(certificate.get(), X509_VERSION_3);
  std::random_device random;
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), static_cast<long>(random() & 0x7fffffff));
  constexpr long kDay = 24 * 60 * 60;
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), spec.notBefore * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), spec.notAfter * kDay);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(spec.commonName.c_str()), -1, -1, 0);
  addExtension(certificate.get(), NID_basic_constraints, spec.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  std::string names;
  for (auto& name : spec.names) names += (names.empty() ? "" : ",") + ((isAddress(name) ? "IP:" : "DNS:") + name);
  if (!names.empty()) addExtension(certificate.get(), NID_subject_alt_name, names);

  KeyPointer issuerKey;
  X509Pointer issuer;
  if (spec.issuer) {
    BIOPointer keyText(
        BIO_new_mem_buf(spec.issuer->privateKey.data(), static_cast<int>(spec.issuer->privateKey.size())));
    BIOPointer text(
        BIO_new_mem_buf(spec.issuer->certificate.data(), static_cast<int>(spec.issuer->certificate.size())));
    issuerKey.reset(PEM_read_bio_PrivateKey(keyText.get(), nullptr, nullptr, nullptr));
    issuer.reset(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
    check(issuerKey && issuer, "issuer");
  }
  X509_set_issuer_name(certificate.get(), issuer ? X509_get_subject_name(issuer.get()) : subject);
  check(X509_sign(certificate.get(), issuerKey ? issuerKey.get() : key.get(), EVP_sha256()) > 0, "signature");

  BIOPointer certificateText(BIO_new(BIO_s_mem()));
  BIOPointer keyText(BIO_new(BIO_s_mem()));
  check(PEM_write_bio_X509(certificateText.get(), certificate.get()) == 1, "PEM");
  check(PEM_write_bio_PrivateKey(keyText.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1, "PEM");
  return {takeText(certificateText.get()), takeText(keyText.get())};
}

const TestPKI& testPKI() {
  static const TestPKI pki;
  return pki;
}

}  // namespace torsion::test
