// Headers: the header fields of a message, in order, with names that compare without case (twisted.web.http_headers).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace torsion {

/// A list of (name, value). All of it is kept in one string, so that a whole head costs two allocations; the views it
/// gives are valid until it is changed. Nothing is checked here: what sends headers does that.
class Headers {
 public:
  using Field = std::pair<std::string_view, std::string_view>;

  Headers() = default;
  Headers(std::initializer_list<Field> fields);

  /// The first value of `name`.
  std::optional<std::string_view> getHeader(std::string_view name) const noexcept;
  /// All values of `name`, in order.
  std::vector<std::string_view> getHeaders(std::string_view name) const;
  bool hasHeader(std::string_view name) const noexcept { return getHeader(name).has_value(); }

  /// Adds a field after the others.
  void addHeader(std::string_view name, std::string_view value);
  /// Replaces all fields of that name by this one.
  void setHeader(std::string_view name, std::string_view value);
  void removeHeader(std::string_view name);
  void clear() noexcept;

  std::size_t size() const noexcept { return fields_.size(); }
  bool empty() const noexcept { return fields_.empty(); }
  Field operator[](std::size_t i) const noexcept { return field(fields_[i]); }

  class iterator {
   public:
    iterator(const Headers& headers, std::size_t i) noexcept : headers_(&headers), i_(i) {}
    Field operator*() const noexcept { return (*headers_)[i_]; }
    iterator& operator++() noexcept { return ++i_, *this; }
    bool operator==(const iterator&) const = default;

   private:
    const Headers* headers_;
    std::size_t i_;
  };
  iterator begin() const noexcept { return {*this, 0}; }
  iterator end() const noexcept { return {*this, fields_.size()}; }

 private:
  struct Place {
    std::size_t start;
    std::uint32_t name, value;  // lengths; the value follows the name
  };
  Field field(const Place& p) const noexcept {
    const std::string_view text = text_;
    return {text.substr(p.start, p.name), text.substr(p.start + p.name, p.value)};
  }

  std::string text_;
  std::vector<Place> fields_;
};

/// Compares ASCII text without case.
bool equalsIgnoreCase(std::string_view a, std::string_view b) noexcept;
/// Lower-cases ASCII letters.
std::string toLower(std::string_view text);
/// Without the spaces and tabs around it.
std::string_view trim(std::string_view text) noexcept;
/// True if `text` is a token of RFC 9110: a method, or the name of a header.
bool isToken(std::string_view text) noexcept;
/// True if `text` can be the value of a header: no control characters but tab.
bool isHeaderValue(std::string_view text) noexcept;
/// True if the comma-separated values of `name` contain `token`, without case.
bool hasToken(const Headers& headers, std::string_view name, std::string_view token) noexcept;

}  // namespace torsion
