// Finger, the user information protocol (RFC 1288; twisted.protocols.finger).
#pragma once

#include <string_view>

#include <protocols/basic.hpp>

namespace torsion {

/// A server: override what it is to answer. `verbose` is set if the query asks for more than usual ("/W").
class Finger : public LineReceiver {
 public:
  /// Who is `user`?
  virtual void getUser(bool verbose, std::string_view user);
  /// Who is here?
  virtual void getDomain(bool verbose);
  /// Ask `host` about `user`. Mind that you answer for others then.
  virtual void forwardQuery(bool verbose, std::string_view user, std::string_view host);

  void lineReceived(std::string_view line) override;

 protected:
  /// Sends `message` and closes.
  void refuse(std::string_view message);
};

}  // namespace torsion
