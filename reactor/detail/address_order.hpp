// In which order to try the addresses of a name.
#pragma once

#include <vector>

#include <reactor/address.hpp>

namespace torsion::detail {

/// Those that this machine can reach best first (RFC 6724, 6); equals stay in the order that their server gave them.
void orderAddresses(std::vector<Address>& addresses);

}  // namespace torsion::detail
