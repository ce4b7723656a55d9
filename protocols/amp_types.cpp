#include <protocols/amp_types.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace torsion::amp {
namespace {

// For the text of an error: what the peer sent, not all of it.
std::string excerpt(std::string_view text) {
  constexpr std::size_t kMost = 40;
  return '"' + std::string(text.substr(0, kMost)) + (text.size() > kMost ? "..." : "") + '"';
}

bool isDigit(char c) {
  return c >= '0' && c <= '9';
}

// As Python's strict decoder: no overlong form, no surrogate, nothing above U+10FFFF.
bool isUTF8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : static_cast<unsigned char>(0);
    };
    const unsigned first = byte(i);
    std::size_t more = 0;
    unsigned lowest = 0x80, highest = 0xbf;  // of the second byte
    if (first < 0x80) {
      more = 0;
    } else if (first >= 0xc2 && first <= 0xdf) {
      more = 1;
    } else if (first >= 0xe0 && first <= 0xef) {
      more = 2;
      if (first == 0xe0) lowest = 0xa0;
      if (first == 0xed) highest = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
      more = 3;
      if (first == 0xf0) lowest = 0x90;
      if (first == 0xf4) highest = 0x8f;
    } else {
      return false;
    }
    for (std::size_t k = 1; k <= more; ++k, lowest = 0x80, highest = 0xbf) {
      if (byte(i + k) < lowest || byte(i + k) > highest) return false;
    }
    i += 1 + more;
  }
  return true;
}

// Python's int() of as many digits as `width`, and nothing else.
int digits(std::string_view text, std::size_t at, std::size_t width) {
  int value = 0;
  for (std::size_t i = at; i < at + width; ++i) {
    if (!isDigit(text[i])) throw BadValue(excerpt(text) + " is no date and time");
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

// `digits` without the zeros at their front.
std::string_view significant(std::string_view digits) {
  return digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
}

}  // namespace

// ---- Decimal

Decimal::Decimal(std::string_view text) {
  const auto bad = [text] { return BadValue(excerpt(text) + " is no decimal number"); };
  std::string_view rest = text;
  std::string sign;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    if (rest[0] == '-') sign = "-";
    rest.remove_prefix(1);
  }
  const std::string word = lower(rest);
  if (word == "inf" || word == "infinity") {
    text_ = sign + "Infinity";
    return;
  }
  for (const std::string_view nan : {"nan", "snan"}) {
    if (!word.starts_with(nan)) continue;
    const std::string_view diagnostic = std::string_view(word).substr(nan.size());
    if (!std::all_of(diagnostic.begin(), diagnostic.end(), isDigit)) throw bad();
    text_ = sign + (nan == "nan" ? "NaN" : "sNaN") + std::string(significant(diagnostic));
    return;
  }

  std::string all;  // the digits, the point left out
  std::int64_t exponent = 0;
  bool point = false;
  while (!rest.empty() && (isDigit(rest[0]) || (rest[0] == '.' && !point))) {
    if (rest[0] == '.') {
      point = true;
    } else {
      all += rest[0];
      if (point) --exponent;
    }
    rest.remove_prefix(1);
  }
  if (all.empty()) throw bad();
  if (!rest.empty()) {
    if (rest[0] != 'e' && rest[0] != 'E') throw bad();
    rest.remove_prefix(1);
    std::int64_t given = 0;
    // What Python's Decimal can hold.
    constexpr std::int64_t kMost = 999'999'999'999'999'999;
    Integer().fromString(rest, given);
    if (given > kMost || given < -kMost) throw bad();
    exponent += given;
  }
  std::string coefficient(significant(all));
  if (coefficient.empty()) coefficient = "0";

  // "to-scientific-string" of the General Decimal Arithmetic Specification.
  const auto size = static_cast<std::int64_t>(coefficient.size());
  const std::int64_t left = exponent + size;  // digits before the point
  const bool plain = exponent <= 0 && left > -6;
  const std::int64_t before = plain ? left : 1;
  if (before <= 0) {
    text_ = sign + "0." + std::string(static_cast<std::size_t>(-before), '0') + coefficient;
  } else if (before >= size) {
    text_ = sign + coefficient;
  } else {
    text_ = sign + coefficient.insert(static_cast<std::size_t>(before), 1, '.');
  }
  if (left != before) text_ += (left > before ? "E+" : "E") + std::to_string(left - before);
}

// ---- DateTime

std::string detail::DateTimeArgument::toString(const DateTime& value) const {
  using namespace std::chrono;
  if (abs(value.offset) >= days(1)) throw BadValue("the offset of a DateTime is a day or more");
  const auto local = value.time + value.offset;
  const auto day = floor<days>(local);
  const year_month_day date(day);
  const hh_mm_ss clock(local - day);
  const int year(date.year());
  if (year < 1 || year > 9999) throw BadValue("the year of a DateTime is not between 1 and 9999");
  const auto minutes = value.offset.count();
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%06d%c%02d:%02d", year, unsigned(date.month()),
                unsigned(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()), minutes > 0 ? '+' : '-',
                static_cast<int>(std::abs(minutes) / 60), static_cast<int>(std::abs(minutes) % 60));
  return text;
}

void detail::DateTimeArgument::fromString(std::string_view text, DateTime& value) const {
  using namespace std::chrono;
  constexpr std::string_view kForm = "    -  -  T  :  :  .         :  ";
  bool good = text.size() == kForm.size() && (text[26] == '+' || text[26] == '-');
  for (std::size_t i = 0; good && i < text.size(); ++i) good = kForm[i] == ' ' || kForm[i] == text[i];
  if (!good) throw BadValue(excerpt(text) + " is no date and time");
  const year_month_day date(year(digits(text, 0, 4)), month(unsigned(digits(text, 5, 2))),
                            day(unsigned(digits(text, 8, 2))));
  const int hour = digits(text, 11, 2), minute = digits(text, 14, 2), second = digits(text, 17, 2);
  const int offsetHour = digits(text, 27, 2), offsetMinute = digits(text, 30, 2);
  if (!date.ok() || int(date.year()) < 1 || hour > 23 || minute > 59 || second > 59 || offsetHour > 23 ||
      offsetMinute > 59) {
    throw BadValue(excerpt(text) + " is no date and time");
  }
  const minutes offset((offsetHour * 60 + offsetMinute) * (text[26] == '-' ? -1 : 1));
  value.offset = offset;
  value.time =
      sys_days(date) + hours(hour) + minutes(minute) + seconds(second) + microseconds(digits(text, 20, 6)) - offset;
}

// ---- Descriptor

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::uint64_t DescriptorExchanger::sendFileDescriptor(const Descriptor& descriptor) {
  Descriptor duplicate(::fcntl(descriptor.fileno(), F_DUPFD_CLOEXEC, 0));
  if (duplicate.fileno() < 0) {
    throw BadValue("the descriptor cannot be sent: " + std::generic_category().message(errno));
  }
  outgoing_.push_back(std::move(duplicate));
  return sent_ + outgoing_.size() - 1;
}

Descriptor DescriptorExchanger::getDescriptor(std::uint64_t ordinal) {
  const auto found = received_.find(ordinal);
  if (found == received_.end()) throw BadValue("no descriptor " + std::to_string(ordinal) + " was received");
  Descriptor descriptor = std::move(found->second);
  received_.erase(found);
  return descriptor;
}

void DescriptorExchanger::sent() noexcept {
  sent_ += outgoing_.size();
  outgoing_.clear();
}

bool DescriptorExchanger::fileDescriptorReceived(Descriptor descriptor) {
  const std::uint64_t ordinal = receivedCount_++;
  if (received_.size() == kMaxReceived) return false;
  received_.emplace(ordinal, std::move(descriptor));
  return true;
}

std::string detail::DescriptorArgument::toStringProto(const Descriptor& value, DescriptorExchanger& exchanger) const {
  return std::to_string(exchanger.sendFileDescriptor(value));
}
void detail::DescriptorArgument::fromStringProto(std::string_view text, Descriptor& value,
                                                 DescriptorExchanger& exchanger) const {
  std::uint64_t ordinal = 0;
  Integer().fromString(text, ordinal);
  value = exchanger.getDescriptor(ordinal);
}

// ---- the other argument types

void detail::badInteger(std::string_view text, bool tooLarge) {
  throw BadValue(excerpt(text) + (tooLarge ? " does not fit the integer that it is read into" : " is no integer"));
}

std::string Unicode::toString(const std::string& value) const {
  if (!isUTF8(value)) throw BadValue(excerpt(value) + " is not UTF-8");
  return value;
}
void Unicode::fromString(std::string_view text, std::string& value) const {
  if (!isUTF8(text)) throw BadValue(excerpt(text) + " is not UTF-8");
  value = text;
}

void Boolean::fromString(std::string_view text, bool& value) const {
  if (text != "True" && text != "False") throw BadValue(excerpt(text) + " is neither True nor False");
  value = text == "True";
}

std::string Float::toString(double value) const {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<std::size_t>(end.ptr - buffer.data()));
  const std::size_t e = text.find('e');
  int exponent = 0;
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (isDigit(c)) digits += c;
  }
  const bool negative = text[0] == '-';
  Integer().fromString(text.substr(e + 1), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  // Python writes these without an exponent.
  std::string result = negative ? "-" : "";
  if (exponent < 0) {
    return result + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  const auto before = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= before) return result + digits + std::string(before - digits.size(), '0') + ".0";
  return result + digits.insert(before, 1, '.');
}

void Float::fromString(std::string_view text, double& value) const {
  const char* begin = text.data();
  const char* const end = begin + text.size();
  if (begin != end && *begin == '+' && end - begin > 1 && begin[1] != '-') ++begin;
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error == std::errc() && stop == end) return;
  throw BadValue(excerpt(text) +
                 (error == std::errc::result_out_of_range ? " does not fit a double" : " is no number"));
}

std::string Path::toString(const std::filesystem::path& value) const {
  return Unicode().toString(value.string());
}
void Path::fromString(std::string_view text, std::filesystem::path& value) const {
  std::string checked;
  Unicode().fromString(text, checked);
  value = checked;
}

void detail::appendListed(std::string& list, std::string_view element) {
  if (element.size() > kMaxValueLength) throw TooLong(false, true, element.size(), "an element of a list");
  list += static_cast<char>(element.size() >> 8);
  list += static_cast<char>(element.size() & 0xff);
  list += element;
}
std::string_view detail::takeListed(std::string_view& list) {
  const auto byte = [list](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(list[at])); };
  const std::size_t length = list.size() < 2 ? list.size() : byte(0) << 8 | byte(1);
  if (list.size() < 2 + length) throw BadValue("a list is cut off");
  const std::string_view element = list.substr(2, length);
  list.remove_prefix(2 + length);
  return element;
}

void detail::tooLong(std::string_view name, std::size_t length) {
  throw TooLong(false, true, length, std::string(name));
}
void detail::missing(std::string_view name) {
  throw InvalidSignature("the box lacks \"" + std::string(name) + '"');
}
void detail::badField(std::string_view name, const BadValue& why) {
  throw BadValue(std::string(name) + ": " + why.what());
}

}  // namespace torsion::amp
