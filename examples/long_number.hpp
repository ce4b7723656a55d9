// What longex and longex2 share: whole numbers of any length, as Python has them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// A whole number, in decimal.
class LongNumber {
 public:
  /// Throws std::invalid_argument unless `text` is digits, with or without a sign.
  explicit LongNumber(std::string_view text) {
    negative_ = text.starts_with('-');
    if (negative_ || text.starts_with('+')) text.remove_prefix(1);
    if (text.empty() || text.find_first_not_of("0123456789") != text.npos) throw std::invalid_argument("no number");
    for (std::size_t end = text.size(); end > 0; end -= std::min<std::size_t>(end, 9)) {
      const std::size_t start = end - std::min<std::size_t>(end, 9);
      parts_.push_back(static_cast<std::uint32_t>(std::stoul(std::string(text.substr(start, end - start)))));
    }
    normalize();
  }
  LongNumber operator*(const LongNumber& other) const {
    LongNumber product = *this;
    product.negative_ = negative_ != other.negative_;
    product.parts_.assign(parts_.size() + other.parts_.size(), 0);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      std::uint64_t carry = 0;
      for (std::size_t j = 0; j < other.parts_.size() || carry != 0; ++j) {
        if (j < other.parts_.size()) carry += std::uint64_t{parts_[i]} * other.parts_[j];
        carry += product.parts_[i + j];
        product.parts_[i + j] = static_cast<std::uint32_t>(carry % kBase);
        carry /= kBase;
      }
    }
    product.normalize();
    return product;
  }
  std::string toString() const {
    std::string text = negative_ ? "-" : "";
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
      const std::string digits = std::to_string(*part);
      if (part != parts_.rbegin()) text.append(9 - digits.size(), '0');
      text += digits;
    }
    return text;
  }

 private:
  static constexpr std::uint64_t kBase = 1'000'000'000;
  void normalize() {
    while (parts_.size() > 1 && parts_.back() == 0) parts_.pop_back();
    if (parts_.back() == 0) negative_ = false;
  }
  std::vector<std::uint32_t> parts_;  // of nine digits, the lowest first
  bool negative_ = false;
};

/// The numbers of a line, which spaces separate. Throws std::invalid_argument.
inline std::vector<LongNumber> longNumbers(std::string_view line) {
  std::istringstream words{std::string(line)};
  std::vector<LongNumber> numbers;
  for (std::string word; words >> word;) numbers.emplace_back(word);
  return numbers;
}
