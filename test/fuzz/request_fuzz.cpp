// Requests, one after another on a connection.
#include "messages.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  checkMessages<torsion::RequestHead>(data, size);
  return 0;
}
