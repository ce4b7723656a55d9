#include <protocols/finger.hpp>

#include <algorithm>
#include <string>

namespace torsion {

void Finger::lineReceived(std::string_view line) {
  constexpr std::string_view kSpace = " \t";
  const std::size_t first = std::min(line.find_first_not_of(kSpace), line.size());
  const std::size_t last = line.find_last_not_of(kSpace) + 1;
  const std::string_view query = line.substr(first, last > first ? last - first : 0);
  const std::size_t space = query.find_last_of(kSpace);
  const bool verbose = space != std::string_view::npos;
  const std::string_view user = query.substr(verbose ? space + 1 : 0);
  if (const std::size_t at = user.rfind('@'); at != std::string_view::npos) {
    forwardQuery(verbose, user.substr(0, at), user.substr(at + 1));
  } else if (!user.empty()) {
    getUser(verbose, user);
  } else {
    getDomain(verbose);
  }
}

void Finger::refuse(std::string_view message) {
  transport().write(std::string(message) + '\n');
  transport().loseConnection();
}

void Finger::getUser(bool, std::string_view user) {
  transport().write("Login: " + std::string(user) + '\n');
  refuse("No such user");
}
void Finger::getDomain(bool) {
  refuse("Finger online list denied");
}
void Finger::forwardQuery(bool, std::string_view, std::string_view) {
  refuse("Finger forwarding service denied");
}

}  // namespace torsion
