// Certificates made at run time, for the tests of TLS and of https.
#pragma once

#include <string>
#include <vector>

namespace torsion::test {

/// A certificate and its key, both PEM.
struct Issued {
  std::string certificate;
  std::string privateKey;
};

/// Times are days from now.
struct CertificateSpec {
  std::string commonName = {};
  std::vector<std::string> names = {};  // subjectAltNames: host names and IP addresses
  int notBefore = -1;
  int notAfter = 30;
  bool authority = false;          // may issue others
  const Issued* issuer = nullptr;  // null: self-signed
};

Issued makeCertificate(const CertificateSpec& spec);

/// An authority and what tests need of it, made once in a program (keys take time).
struct TestPKI {
  Issued authority = makeCertificate({.commonName = "Torsion test authority", .authority = true});
  Issued localhost =
      makeCertificate({.commonName = "localhost", .names = {"localhost", "127.0.0.1"}, .issuer = &authority});
  Issued expired = makeCertificate({.commonName = "expired",
                                    .names = {"localhost", "127.0.0.1"},
                                    .notBefore = -30,
                                    .notAfter = -2,
                                    .issuer = &authority});
  Issued notYet = makeCertificate({.commonName = "not yet",
                                   .names = {"localhost", "127.0.0.1"},
                                   .notBefore = 2,
                                   .notAfter = 30,
                                   .issuer = &authority});
  Issued wrongName = makeCertificate(
      {.commonName = "localhost", .names = {"other.example", "*.third.example", "192.0.2.1"}, .issuer = &authority});
  Issued selfSigned = makeCertificate({.commonName = "localhost", .names = {"localhost", "127.0.0.1"}});
  Issued nameless = makeCertificate({.commonName = "localhost", .issuer = &authority});
  Issued client = makeCertificate({.commonName = "a client", .issuer = &authority});
};
const TestPKI& testPKI();

}  // namespace torsion::test
