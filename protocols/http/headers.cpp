#include <protocols/http/headers.hpp>

#include <algorithm>
#include <array>

namespace torsion {
namespace {

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

constexpr auto kTokenChars = [] {
  std::array<bool, 256> table{};
  for (char c = '0'; c <= '9'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (char c = 'a'; c <= 'z'; ++c)
    table[static_cast<unsigned char>(c)] = table[static_cast<unsigned char>(c - 32)] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

}  // namespace

Headers::Headers(std::initializer_list<Field> fields) {
  for (const auto& [name, value] : fields) addHeader(name, value);
}

std::optional<std::string_view> Headers::getHeader(std::string_view name) const noexcept {
  for (const Place& p : fields_) {
    if (p.name != name.size()) continue;
    if (const Field f = field(p); equalsIgnoreCase(f.first, name)) return f.second;
  }
  return std::nullopt;
}

std::vector<std::string_view> Headers::getHeaders(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const auto& [n, value] : *this) {
    if (equalsIgnoreCase(n, name)) values.push_back(value);
  }
  return values;
}

void Headers::addHeader(std::string_view name, std::string_view value) {
  if (fields_.empty()) {  // a usual head fits, so that it costs two allocations
    text_.reserve(std::max<std::size_t>(256, name.size() + value.size()));
    fields_.reserve(8);
  }
  fields_.push_back({text_.size(), static_cast<std::uint32_t>(name.size()), static_cast<std::uint32_t>(value.size())});
  text_.append(name).append(value);
}

void Headers::setHeader(std::string_view name, std::string_view value) {
  const std::string copy(value);  // it may be a view into this
  const std::string nameCopy(name);
  removeHeader(nameCopy);
  addHeader(nameCopy, copy);
}

void Headers::removeHeader(std::string_view name) {
  std::erase_if(fields_, [&](const Place& p) { return equalsIgnoreCase(field(p).first, name); });
}

void Headers::clear() noexcept {
  text_.clear();
  fields_.clear();
}

bool equalsIgnoreCase(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string toLower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

std::string_view trim(std::string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool isToken(std::string_view text) noexcept {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return kTokenChars[static_cast<unsigned char>(c)]; });
}

bool isHeaderValue(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u == '\t' || (u >= 0x20 && u != 0x7f);
  });
}

bool hasToken(const Headers& headers, std::string_view name, std::string_view token) noexcept {
  for (const auto& [n, value] : headers) {
    if (!equalsIgnoreCase(n, name)) continue;
    std::string_view rest = value;
    while (true) {
      const auto comma = rest.find(',');
      if (equalsIgnoreCase(trim(rest.substr(0, comma)), token)) return true;
      if (comma == rest.npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return false;
}

}  // namespace torsion
