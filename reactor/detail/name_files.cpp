#include <reactor/detail/name_files.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include <reactor/detail/socket_address.hpp>

namespace torsion::detail {
namespace {

// Two changes within this need not differ in their times, which the system counts in steps.
constexpr std::chrono::milliseconds kTimeStep(50);

bool isSame(const struct stat& a, const struct stat& b) {
  const auto equal = [](const timespec& x, const timespec& y) {
    return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
  };
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size && equal(a.st_mtim, b.st_mtim) &&
         equal(a.st_ctim, b.st_ctim);
}

bool isOld(const struct stat& file) {
  const auto changed = std::chrono::seconds(file.st_mtim.tv_sec) + std::chrono::nanoseconds(file.st_mtim.tv_nsec);
  return std::chrono::system_clock::now().time_since_epoch() - changed > kTimeStep;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::string_view withoutDot(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return name;
}

std::string_view withoutComment(std::string_view line, std::string_view marks) {
  return line.substr(0, line.find_first_of(marks));
}

std::vector<std::string> wordsOf(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\v\f\n";
  std::vector<std::string> words;
  for (auto begin = line.find_first_not_of(kBlank); begin != line.npos; begin = line.find_first_not_of(kBlank, begin)) {
    const auto end = std::min(line.find_first_of(kBlank, begin), line.size());
    words.emplace_back(line.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

template <class F>
void forEachLine(std::string_view text, F&& f) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    f(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Of this machine, as the resolver of glibc has it, where nothing says in which domains to search.
std::vector<std::string> ownDomain() {
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  const std::string_view text(name);
  const auto dot = text.find('.');
  if (dot == text.npos || dot + 1 == text.size()) return {};
  return {std::string(text.substr(dot + 1))};
}

}  // namespace

std::optional<std::string> WatchedFile::changed() {
  struct stat now = {};
  const bool there = ::stat(path_.c_str(), &now) == 0;
  if (known_ && there == seen_.has_value() && (!there || isSame(now, *seen_))) return std::nullopt;
  known_ = !there || isOld(now);
  seen_.reset();
  if (there) seen_ = now;
  std::ifstream in(path_, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::vector<Address> HostsFile::addressesOf(std::string_view name) {
  if (const auto text = file_.changed()) {
    names_.clear();
    forEachLine(*text, [this](std::string_view line) {
      const auto words = wordsOf(withoutComment(line, "#"));
      const auto address = words.empty() ? std::nullopt : socketAddress(words.front(), 0);
      if (!address) return;
      for (auto word = words.begin() + 1; word != words.end(); ++word) {
        auto& addresses = names_[lower(withoutDot(*word))];
        const Address found = toAddress(*address);
        if (std::find(addresses.begin(), addresses.end(), found) == addresses.end()) addresses.push_back(found);
      }
    });
  }
  const auto found = names_.find(lower(withoutDot(name)));
  return found == names_.end() ? std::vector<Address>() : found->second;
}

ResolvConf ResolvConf::parse(std::string_view text) {
  ResolvConf conf;
  std::optional<std::vector<std::string>> search;
  forEachLine(text, [&](std::string_view line) {
    const auto words = wordsOf(withoutComment(line, "#;"));
    if (words.size() < 2) return;
    if (words[0] == "nameserver") {
      if (!isIPAddress(words[1]) && !isIPv6Address(words[1])) return;
      conf.servers += (conf.servers.empty() ? "" : ",") + (isIPAddress(words[1]) ? words[1] : '[' + words[1] + ']');
    } else if (words[0] == "search" || words[0] == "domain") {
      search.emplace(words.begin() + 1, words[0] == "domain" ? words.begin() + 2 : words.end());
    } else if (words[0] == "options") {
      for (auto word = words.begin() + 1; word != words.end(); ++word) conf.setOption(*word);
    }
  });
  if (const char* domains = std::getenv("LOCALDOMAIN")) search = wordsOf(domains);
  if (const char* options = std::getenv("RES_OPTIONS")) {
    for (const auto& word : wordsOf(options)) conf.setOption(word);
  }
  if (conf.servers.empty()) conf.servers = "127.0.0.1";
  conf.search = search ? *search : ownDomain();
  return conf;
}

void ResolvConf::setOption(std::string_view option) {
  const auto set = [option](std::string_view name, int least, int most, int& value) {
    if (!option.starts_with(name)) return;
    int given = 0;
    const std::string_view digits = option.substr(name.size());
    if (std::from_chars(digits.data(), digits.data() + digits.size(), given).ec != std::errc()) return;
    value = std::clamp(given, least, most);
  };
  set("ndots:", 0, 15, ndots);
  set("timeout:", 1, 30, timeout);
  set("attempts:", 1, 5, attempts);
  if (option == "rotate") rotate = true;
}

std::vector<std::string> ResolvConf::candidates(std::string_view name) const {
  const std::string itself = std::string(withoutDot(name)) + '.';
  if (name.ends_with('.')) return {itself};
  std::vector<std::string> all;
  for (const auto& domain : search) {
    const std::string_view plain = withoutDot(domain);
    if (!plain.empty()) all.push_back(itself + std::string(plain) + '.');
  }
  const bool first = std::count(name.begin(), name.end(), '.') >= ndots;
  all.insert(first ? all.begin() : all.end(), itself);
  return all;
}

std::string interfaceAddress(const std::string& name) {
  if (isIPAddress(name) || isIPv6Address(name)) return name;
  auto addresses = localhostAddresses(name);
  if (addresses.empty()) addresses = HostsFile().addressesOf(name);
  return addresses.empty() ? std::string() : literalOf(addresses.front());
}

std::vector<Address> localhostAddresses(std::string_view name) {
  if (!isUnder(name, "localhost")) return {};
  return {IPv4Address("127.0.0.1"), IPv6Address("::1")};
}

bool isUnder(std::string_view name, std::string_view domain) {
  const std::string whole = lower(withoutDot(name));
  if (!whole.ends_with(domain)) return false;
  return whole.size() == domain.size() || whole[whole.size() - domain.size() - 1] == '.';
}

}  // namespace torsion::detail
