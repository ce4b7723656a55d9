// How the arguments of AMP's commands are written: a type for each of Twisted's (amp.Integer, amp.ListOf, ...), and the
// list of fields by which a struct becomes a box. See amp.hpp for commands.
//
// | Twisted                        | the member of the struct          | amp::field("x", &Arguments::x, ...)         |
// |--------------------------------|-----------------------------------|---------------------------------------------|
// | amp.Integer()                  | any integer                       |                                             |
// | amp.String()                   | std::string, any bytes            |                                             |
// | amp.Unicode()                  | std::string, UTF-8                | amp::Unicode()                              |
// | amp.Boolean(), amp.Float()     | bool, double                      |                                             |
// | amp.Decimal(), amp.DateTime()  | amp::Decimal, amp::DateTime       |                                             |
// | amp.Path()                     | std::filesystem::path             |                                             |
// | amp.ListOf(amp.Integer())      | std::vector<int>                  |                                             |
// | amp.ListOf(amp.Unicode())      | std::vector<std::string>          | amp::ListOf(amp::Unicode())                 |
// | amp.AmpList([...])             | std::vector<Item>                 | (if Item::fields says its fields), or       |
// |                                |                                   | amp::AmpList(amp::fields(...))              |
// | amp.Descriptor()               | amp::Descriptor                   |                                             |
// | any, with optional=True        | std::optional of it               | as without                                  |
#pragma once

#include <charconv>
#include <chrono>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <protocols/amp_box.hpp>

namespace torsion::amp {

// ---- values of types that C++ has not

/// A decimal number of any size and precision, kept as the text that Python's decimal.Decimal has for it: "1.50",
/// "-3.141E+7", "Infinity", "NaN". 1 and 1.0 differ.
class Decimal {
 public:
  Decimal() : text_("0") {}
  /// Anything that Python's Decimal() takes, but for spaces and underscores. Throws BadValue.
  explicit Decimal(std::string_view text);
  const std::string& toString() const noexcept { return text_; }
  bool operator==(const Decimal&) const = default;

 private:
  std::string text_;
};

/// A time, and the offset from UTC of the place that it is meant for (a datetime with a fixed time zone). Years are 1
/// to 9999 there; offsets are less than a day.
struct DateTime {
  std::chrono::sys_time<std::chrono::microseconds> time = {};
  std::chrono::minutes offset{0};
  bool operator==(const DateTime&) const = default;
};

/// An open file, socket or the like, to be sent over a UNIX socket. It is closed when this goes.
class Descriptor {
 public:
  Descriptor() noexcept = default;
  /// Takes `fd` over.
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  /// -1 if there is none.
  int fileno() const noexcept { return fd_; }
  /// Gives it up: it is the caller's to close.
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// The descriptors of a connection that go with its boxes, which name them by their number.
class DescriptorExchanger {
 public:
  /// Those that are not asked for in a box of theirs are held for it, up to here.
  static constexpr std::size_t kMaxReceived = 64;

  DescriptorExchanger() = default;
  /// Keeps a duplicate to be sent with the next box. Throws BadValue if there is none, or it cannot be duplicated.
  std::uint64_t sendFileDescriptor(const Descriptor& descriptor);
  /// Takes the received one of that number. Throws BadValue.
  Descriptor getDescriptor(std::uint64_t ordinal);

  /// For AMP: what to send, which is then sent, or else forgotten by the next clear().
  const std::vector<Descriptor>& outgoing() const noexcept { return outgoing_; }
  void clear() noexcept { outgoing_.clear(); }
  void sent() noexcept;
  /// False if too many are held: it was closed.
  bool fileDescriptorReceived(Descriptor descriptor);

 private:
  std::vector<Descriptor> outgoing_;
  std::map<std::uint64_t, Descriptor> received_;
  std::uint64_t sent_ = 0;
  std::uint64_t receivedCount_ = 0;
};

// ---- argument types. Each has
//   std::string toString(const T& value) const;
//   void fromString(std::string_view text, T& value) const;   // both throw BadValue
// or, where these need the connection, toStringProto and fromStringProto with a DescriptorExchanger as last parameter.

namespace detail {
template <class T>
concept Number = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> && !std::same_as<T, wchar_t> &&
                 !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;
[[noreturn]] void badInteger(std::string_view text, bool tooLarge);
void appendListed(std::string& list, std::string_view element);
/// Takes an element off the front. Throws BadValue if it is cut off.
std::string_view takeListed(std::string_view& list);
}  // namespace detail

/// "123". A number that does not fit the C++ type is a BadValue.
struct Integer {
  template <detail::Number T>
  std::string toString(T value) const {
    return std::to_string(value);
  }
  template <detail::Number T>
  void fromString(std::string_view text, T& value) const {
    const char* begin = text.data();
    const char* const end = begin + text.size();
    if (begin != end && *begin == '+' && end - begin > 1 && begin[1] != '-') ++begin;
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error == std::errc() && stop == end) return;
    detail::badInteger(text, error == std::errc::result_out_of_range && stop == end);
  }
};

/// Bytes as they are.
struct String {
  std::string toString(const std::string& value) const { return value; }
  void fromString(std::string_view text, std::string& value) const { value = text; }
};

/// UTF-8, which is checked both ways.
struct Unicode {
  std::string toString(const std::string& value) const;
  void fromString(std::string_view text, std::string& value) const;
};

/// "True" or "False".
struct Boolean {
  std::string toString(bool value) const { return value ? "True" : "False"; }
  void fromString(std::string_view text, bool& value) const;
};

/// As Python writes it, in the fewest digits that give the same number: "0.1", "1e+16", "inf", "nan".
struct Float {
  std::string toString(double value) const;
  void fromString(std::string_view text, double& value) const;
};

namespace detail {
struct DecimalArgument {
  std::string toString(const Decimal& value) const { return value.toString(); }
  void fromString(std::string_view text, Decimal& value) const { value = Decimal(text); }
};
/// "2010-12-25T00:00:00.000000+01:00".
struct DateTimeArgument {
  std::string toString(const DateTime& value) const;
  void fromString(std::string_view text, DateTime& value) const;
};
struct DescriptorArgument {
  std::string toStringProto(const Descriptor& value, DescriptorExchanger& exchanger) const;
  void fromStringProto(std::string_view text, Descriptor& value, DescriptorExchanger& exchanger) const;
};
}  // namespace detail

/// The name of a file, in UTF-8.
struct Path {
  std::string toString(const std::filesystem::path& value) const;
  void fromString(std::string_view text, std::filesystem::path& value) const;
};

/// The argument type that a member of type T has unless its field names another. Specialize it for a type of your own:
///   template <> struct torsion::amp::ArgumentFor<Color> {
///     std::string toString(const Color& value) const;
///     void fromString(std::string_view text, Color& value) const;
///   };
template <class T>
struct ArgumentFor;

/// A list, of at most 65,535 bytes in all.
template <class Element>
struct ListOf {
  constexpr ListOf() = default;
  constexpr explicit ListOf(Element element) : element(std::move(element)) {}
  template <class T>
  std::string toString(const std::vector<T>& values) const {
    std::string list;
    for (const auto& value : values) detail::appendListed(list, element.toString(value));
    return list;
  }
  template <class T>
  void fromString(std::string_view list, std::vector<T>& values) const {
    values.clear();
    while (!list.empty()) {
      T value{};
      element.fromString(detail::takeListed(list), value);
      values.push_back(std::move(value));
    }
  }
  Element element = {};
};
template <class Element>
ListOf(ListOf<Element>) -> ListOf<ListOf<Element>>;  // a list of lists, not a copy

// ---- fields

namespace detail {
template <class T>
struct Required {
  using Type = T;
};
template <class T>
struct Required<std::optional<T>> {
  using Type = T;
};
consteval void checkName(std::string_view name) {
  // What does not hold is thrown, which makes it an error of compilation that shows the line.
  if (name.empty() || name.size() > kMaxKeyLength) throw "a name has 1 to 255 bytes";
  for (const std::string_view own : {"_ask", "_answer", "_command", "_error", "_error_code", "_error_description"}) {
    if (name == own) throw "this name is AMP's own";
  }
}
}  // namespace detail

/// A member of S, by its name in the box.
template <class S, class T, class A>
struct Field {
  std::string_view name;
  T S::* member;
  A argument;
};

/// The field of `member`, which is left out of the box, and may be missing there, if it is a std::optional.
template <class S, class T>
consteval auto field(std::string_view name, T S::* member) {
  detail::checkName(name);
  return Field<S, T, ArgumentFor<typename detail::Required<T>::Type>>{name, member, {}};
}
/// The same, with another argument type than that of its C++ type.
template <class S, class T, class A>
consteval auto field(std::string_view name, T S::* member, A argument) {
  detail::checkName(name);
  return Field<S, T, A>{name, member, std::move(argument)};
}

/// All fields of a struct. (Those that a box has besides are ignored.)
template <class... F>
consteval std::tuple<F...> fields(F... f) {
  return {std::move(f)...};
}

namespace detail {

template <class A, class T>
std::string toText(const A& argument, const T& value, DescriptorExchanger& exchanger) {
  if constexpr (requires { argument.toStringProto(value, exchanger); }) {
    return argument.toStringProto(value, exchanger);
  } else {
    return argument.toString(value);
  }
}
template <class A, class T>
void fromText(const A& argument, std::string_view text, T& value, DescriptorExchanger& exchanger) {
  if constexpr (requires { argument.fromStringProto(text, value, exchanger); }) {
    argument.fromStringProto(text, value, exchanger);
  } else {
    argument.fromString(text, value);
  }
}

[[noreturn]] void tooLong(std::string_view name, std::size_t length);
[[noreturn]] void missing(std::string_view name);
[[noreturn]] void badField(std::string_view name, const BadValue& why);

/// Null if it is left out.
template <class T>
const T* given(const T& member) {
  return &member;
}
template <class T>
const T* given(const std::optional<T>& member) {
  return member ? &*member : nullptr;
}
template <class T>
T& filled(T& member) {
  return member;
}
template <class T>
T& filled(std::optional<T>& member) {
  return member.emplace();
}

template <class S, class T, class A>
void putField(const S& object, const Field<S, T, A>& field, Box& box, DescriptorExchanger& exchanger) {
  const auto* value = given(object.*field.member);
  if (!value) return;
  std::string text = toText(field.argument, *value, exchanger);
  if (text.size() > kMaxValueLength) tooLong(field.name, text.size());
  box.insert_or_assign(std::string(field.name), std::move(text));
}
template <class S, class T, class A>
void takeField(S& object, const Field<S, T, A>& field, const Box& box, DescriptorExchanger& exchanger) {
  const auto found = box.find(field.name);
  if (found == box.end()) {
    if constexpr (std::is_same_v<typename Required<T>::Type, T>) missing(field.name);
    return;
  }
  try {
    fromText(field.argument, found->second, filled(object.*field.member), exchanger);
  } catch (const BadValue& why) {
    badField(field.name, why);
  }
}

template <class S, class... F>
Box objectToBox(const S& object, const std::tuple<F...>& fields, DescriptorExchanger& exchanger) {
  Box box;
  std::apply([&](const F&... field) { (putField(object, field, box, exchanger), ...); }, fields);
  return box;
}
template <class S, class... F>
S boxToObject(const Box& box, const std::tuple<F...>& fields, DescriptorExchanger& exchanger) {
  S object{};
  std::apply([&](const F&... field) { (takeField(object, field, box, exchanger), ...); }, fields);
  return object;
}

}  // namespace detail

/// A list of structs, of at most 65,535 bytes in all.
template <class Fields>
struct AmpList {
  constexpr explicit AmpList(Fields fields) : fields(std::move(fields)) {}
  template <class S>
  std::string toStringProto(const std::vector<S>& values, DescriptorExchanger& exchanger) const {
    std::string list;
    for (const S& value : values) list += serialize(detail::objectToBox(value, fields, exchanger));
    return list;
  }
  template <class S>
  void fromStringProto(std::string_view list, std::vector<S>& values, DescriptorExchanger& exchanger) const {
    values.clear();
    for (const Box& box : parseString(list)) values.push_back(detail::boxToObject<S>(box, fields, exchanger));
  }
  Fields fields;
};

// ---- the argument types of C++'s types
template <detail::Number T>
struct ArgumentFor<T> : Integer {};
template <>
struct ArgumentFor<std::string> : String {};
template <>
struct ArgumentFor<bool> : Boolean {};
template <>
struct ArgumentFor<double> : Float {};
template <>
struct ArgumentFor<Decimal> : detail::DecimalArgument {};
template <>
struct ArgumentFor<DateTime> : detail::DateTimeArgument {};
template <>
struct ArgumentFor<std::filesystem::path> : Path {};
template <>
struct ArgumentFor<Descriptor> : detail::DescriptorArgument {};
template <class T>
struct ArgumentFor<std::vector<T>> : ListOf<ArgumentFor<T>> {};
template <class S>
  requires requires { S::fields; }
struct ArgumentFor<std::vector<S>> : AmpList<std::remove_cvref_t<decltype(S::fields)>> {
  constexpr ArgumentFor() : AmpList<std::remove_cvref_t<decltype(S::fields)>>(S::fields) {}
};

}  // namespace torsion::amp
