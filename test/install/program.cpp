// A user's program, outside the tree: built by test/checks/install.py against an installed copy.
#include <deferred/failure.hpp>

#include <iostream>
#include <stdexcept>

int main() {
  torsion::Failure failure(std::make_exception_ptr(std::runtime_error("it works")));
  std::cout << failure.getErrorMessage() << '\n';
}
