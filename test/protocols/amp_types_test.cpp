#include <protocols/amp_types.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace torsion;
using namespace std::string_literals;
using namespace std::chrono_literals;

namespace {

struct Point {
  std::int64_t x = 0;
  std::optional<std::string> name = {};
  static constexpr auto fields = amp::fields(amp::field("x", &Point::x), amp::field("name", &Point::name));
  bool operator==(const Point&) const = default;
};

enum class Color { red, green };

template <class T, class A = amp::ArgumentFor<T>>
std::string encode(const T& value, A argument = {}) {
  amp::DescriptorExchanger exchanger;
  if constexpr (requires { argument.toStringProto(value, exchanger); }) {
    return argument.toStringProto(value, exchanger);
  } else {
    return argument.toString(value);
  }
}
template <class T, class A = amp::ArgumentFor<T>>
T decode(std::string_view text, A argument = {}) {
  amp::DescriptorExchanger exchanger;
  T value{};
  if constexpr (requires { argument.fromStringProto(text, value, exchanger); }) {
    argument.fromStringProto(text, value, exchanger);
  } else {
    argument.fromString(text, value);
  }
  return value;
}
template <class T, class A = amp::ArgumentFor<T>>
void checkBoth(const T& value, const std::string& text, A argument = {}) {
  CAPTURE(text);
  CHECK(encode(value, argument) == text);
  CHECK(decode<T>(text, argument) == value);
}
template <class T>
void checkBad(std::string_view text, const char* what) {
  CAPTURE(text);
  CHECK_THROWS_WITH_AS(decode<T>(text), what, amp::BadValue);
}

}  // namespace

template <>
struct amp::ArgumentFor<Color> {
  std::string toString(Color value) const { return value == Color::red ? "red" : "green"; }
  void fromString(std::string_view text, Color& value) const {
    if (text != "red" && text != "green") throw amp::BadValue("no such color");
    value = text == "red" ? Color::red : Color::green;
  }
};

TEST_CASE("Integer") {
  checkBoth(std::int64_t{0}, "0");
  checkBoth(123, "123");
  checkBoth(-1, "-1");
  checkBoth(std::numeric_limits<std::int64_t>::min(), "-9223372036854775808");
  checkBoth(std::numeric_limits<std::uint64_t>::max(), "18446744073709551615");
  CHECK(decode<int>("+5") == 5);
  CHECK(decode<int>("007") == 7);
  for (const char* text : {"", "x", "1x", "1.5", "-", "+", "+-1", " 1", "0x10"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(decode<int>(text), amp::BadValue);
  }
  checkBad<int>("x", "\"x\" is no integer");
  checkBad<std::uint8_t>("256", "\"256\" does not fit the integer that it is read into");
  checkBad<unsigned>("-1", "\"-1\" is no integer");
  checkBad<std::int64_t>("9223372036854775808",
                         "\"9223372036854775808\" does not fit the integer that it is read into");
  checkBad<std::int64_t>(
      "9" + std::string(100, '9'),
      "\"9999999999999999999999999999999999999999...\" does not fit the integer that it is read into");
}

TEST_CASE("String and Unicode") {
  checkBoth("any \0\xff bytes"s, "any \0\xff bytes"s);
  checkBoth("wor\u1234ld \U0001F600 \u00e9"s, "wor\xe1\x88\xb4ld \xf0\x9f\x98\x80 \xc3\xa9", amp::Unicode());
  checkBoth(""s, "", amp::Unicode());
  // Not whole, overlong, a surrogate, above the last, and bytes that begin nothing.
  for (const std::string bad : {"\xe1\x88", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xed\xa0\x80",
                                "\xf4\x90\x80\x80", "\xff", "\x80", "a\xc3z"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(encode(bad, amp::Unicode()), amp::BadValue);
    CHECK_THROWS_AS(decode<std::string>(bad, amp::Unicode()), amp::BadValue);
  }
}

TEST_CASE("Boolean") {
  checkBoth(true, "True");
  checkBoth(false, "False");
  for (const char* text : {"ninja", "true", "TRUE", ""}) CHECK_THROWS_AS(decode<bool>(text), amp::BadValue);
}

TEST_CASE("Float: Python's texts") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<double, std::string>> texts = {{0.0, "0.0"},
                                                             {-0.0, "-0.0"},
                                                             {1.0, "1.0"},
                                                             {0.1, "0.1"},
                                                             {1.0 / 3, "0.3333333333333333"},
                                                             {1e15, "1000000000000000.0"},
                                                             {1e16, "1e+16"},
                                                             {123456789012345678.0, "1.2345678901234568e+17"},
                                                             {1e-4, "0.0001"},
                                                             {1e-5, "1e-05"},
                                                             {1.5e-7, "1.5e-07"},
                                                             {1e100, "1e+100"},
                                                             {5e-324, "5e-324"},
                                                             {1.7976931348623157e308, "1.7976931348623157e+308"},
                                                             {inf, "inf"},
                                                             {-inf, "-inf"},
                                                             {100.0, "100.0"},
                                                             {-2.5, "-2.5"},
                                                             {1234.5678, "1234.5678"},
                                                             {9007199254740993.0, "9007199254740992.0"},
                                                             {0.00012345, "0.00012345"}};
  for (const auto& [value, text] : texts) checkBoth(value, text);
  CHECK(encode(std::nan("")) == "nan");
  CHECK(std::isnan(decode<double>("nan")));
  CHECK(decode<double>("+1") == 1.0);
  CHECK(decode<double>(".5") == 0.5);
  CHECK(decode<double>("Infinity") == inf);
  CHECK(std::signbit(decode<double>("-0.0")));
  for (const char* text : {"", "x", "1.0x", "+-1", " 1"}) CHECK_THROWS_AS(decode<double>(text), amp::BadValue);
  checkBad<double>("1e400", "\"1e400\" does not fit a double");
}

TEST_CASE("Decimal: what Python's Decimal makes of a text") {
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"1", "1"},
      {"1.0", "1.0"},
      {"1.50", "1.50"},
      {"-0", "-0"},
      {"0E5", "0E+5"},
      {"0e-7", "0E-7"},
      {"1e10", "1E+10"},
      {"123E-10", "1.23E-8"},
      {"0.000001", "0.000001"},
      {"0.0000001", "1E-7"},
      {"1E+2", "1E+2"},
      {"-1.5e2", "-1.5E+2"},
      {"+3", "3"},
      {".5", "0.5"},
      {"5.", "5"},
      {"007", "7"},
      {"0.00", "0.00"},
      {"-0.0", "-0.0"},
      {"1e-6", "0.000001"},
      {"123456e-3", "123.456"},
      {"NaN", "NaN"},
      {"-nan12", "-NaN12"},
      {"sNaN", "sNaN"},
      {"snan0045", "sNaN45"},
      {"inf", "Infinity"},
      {"-Infinity", "-Infinity"},
      {"1E+999999999999999999", "1E+999999999999999999"},
      {"00.100e3", "100"},
      {"1E-999999999999999999", "1E-999999999999999999"},
      {"12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"}};
  for (const auto& [given, text] : texts) {
    CAPTURE(given);
    CHECK(encode(amp::Decimal(given)) == text);
    CHECK(decode<amp::Decimal>(text).toString() == text);
  }
  CHECK(amp::Decimal().toString() == "0");
  for (const char* text : {"", "x", ".", "1e", "1ex", "e5", "--1", "1.2.3", "nanx", "1E+9999999999999999999", "1 "}) {
    CAPTURE(text);
    CHECK_THROWS_AS(decode<amp::Decimal>(text), amp::BadValue);
  }
}

TEST_CASE("DateTime: Twisted's texts") {
  using namespace std::chrono;
  const sys_time<microseconds> christmas = sys_days(2010y / 12 / 25);
  checkBoth(amp::DateTime{christmas}, "2010-12-25T00:00:00.000000-00:00");
  checkBoth(amp::DateTime{christmas - 60min, 60min}, "2010-12-25T00:00:00.000000+01:00");
  checkBoth(amp::DateTime{christmas - 210min, 210min}, "2010-12-25T00:00:00.000000+03:30");
  checkBoth(amp::DateTime{christmas + 300min, -300min}, "2010-12-25T00:00:00.000000-05:00");
  checkBoth(amp::DateTime{christmas + 419min, -419min}, "2010-12-25T00:00:00.000000-06:59");
  checkBoth(amp::DateTime{sys_days(9876y / 1 / 23) + 12h + 34min + 56s + 54321us + 83min, -83min},
            "9876-01-23T12:34:56.054321-01:23");
  checkBoth(amp::DateTime{sys_days(1969y / 12 / 31) + 23h + 59min + 59s + 999999us},
            "1969-12-31T23:59:59.999999-00:00");
  CHECK(decode<amp::DateTime>("2010-12-25T00:00:00.000000+00:00") == amp::DateTime{christmas});
  for (const char* text :
       {"abc", "", "2010-12-25T00:00:00.000000?01:00", "2010-13-25T00:00:00.000000+01:00",
        "2010-02-29T00:00:00.000000+01:00", "2010-12-25T24:00:00.000000+01:00", "2010-12-25T00:60:00.000000+01:00",
        "2010-12-25T00:00:60.000000+01:00", "2010-12-25 00:00:00.000000+01:00", "2010-12-25T00:00:00.000000+24:00",
        "2010-12-25T00:00:00.000000+01:60", "0000-12-25T00:00:00.000000+01:00", "2x10-12-25T00:00:00.000000+01:00"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(decode<amp::DateTime>(text), amp::BadValue);
  }
  CHECK_THROWS_AS(encode(amp::DateTime{christmas, 1440min}), amp::BadValue);
  CHECK_THROWS_AS(encode(amp::DateTime{sys_days(10000y / 1 / 1)}), amp::BadValue);
  CHECK_THROWS_AS(encode(amp::DateTime{sys_days(0y / 12 / 31)}), amp::BadValue);
  CHECK(encode(amp::DateTime{sys_days(0y / 12 / 31) + 23h, 60min}) == "0001-01-01T00:00:00.000000+01:00");
}

TEST_CASE("Path") {
  checkBoth(std::filesystem::path("/tmp/some file \u00e9"), "/tmp/some file \xc3\xa9");
  CHECK_THROWS_AS(encode(std::filesystem::path("/tmp/\xff")), amp::BadValue);
  CHECK_THROWS_AS(decode<std::filesystem::path>("\xff"), amp::BadValue);
}

TEST_CASE("ListOf: Twisted's texts") {
  checkBoth(std::vector<std::string>{}, "");
  checkBoth(std::vector<std::string>{"bar", "baz", "quux"}, "\0\3bar\0\3baz\0\4quux"s);
  checkBoth(std::vector<int>{1, 20, 500}, "\0\0011\0\00220\0\003500"s);
  checkBoth(std::vector<int>{-1}, "\0\2-1"s);
  checkBoth(std::vector<std::string>{"\u2603", "Hello", "world"}, "\0\3\xe2\x98\x83\0\5Hello\0\5world"s,
            amp::ListOf(amp::Unicode()));
  checkBoth(std::vector<std::vector<int>>{{1, 2}, {}}, "\0\6\0\0011\0\0012\0\0"s);
  checkBoth(std::vector<bool>{true, false}, "\0\4True\0\5False"s);
  checkBoth(std::vector<std::vector<std::string>>{{"a"}}, "\0\3\0\1a"s, amp::ListOf(amp::ListOf(amp::Unicode())));
  CHECK_THROWS_AS(decode<std::vector<int>>("\0"s), amp::BadValue);
  CHECK_THROWS_AS(decode<std::vector<int>>("\0\2"s + "1"), amp::BadValue);
  CHECK_THROWS_AS(decode<std::vector<int>>("\0\1x"s), amp::BadValue);
  CHECK_THROWS_AS(encode(std::vector<std::string>{std::string(65536, 'x')}), amp::TooLong);
}

TEST_CASE("AmpList") {
  const std::vector<Point> points = {{7, "hello"}, {9, {}}};
  const std::string text = "\0\4name\0\5hello\0\1x\0\0017\0\0\0\1x\0\0019\0\0"s;
  checkBoth(points, text);
  checkBoth(std::vector<Point>{}, "");
  SUBCASE("fields of another's struct") {
    constexpr auto argument = amp::AmpList(amp::fields(amp::field("number", &Point::x)));
    checkBoth(std::vector<Point>{{7, {}}}, "\0\6number\0\0017\0\0"s, argument);
  }
  CHECK_THROWS_AS(decode<std::vector<Point>>(text.substr(1)), amp::AmpError);
  CHECK_THROWS_AS(decode<std::vector<Point>>(text.substr(0, text.size() - 1)), amp::MalformedAmpBox);
  CHECK_THROWS_AS(decode<std::vector<Point>>("\0\0"s), amp::InvalidSignature);
}

TEST_CASE("fields: a struct as a box") {
  struct All {
    int number = 0;
    std::optional<int> maybe;
    std::string text;
    Color color = Color::red;
  };
  constexpr auto fields =
      amp::fields(amp::field("number", &All::number), amp::field("maybe", &All::maybe),
                  amp::field("a-text", &All::text, amp::Unicode()), amp::field("color", &All::color));
  amp::DescriptorExchanger exchanger;
  const amp::Box box = amp::detail::objectToBox(All{1, {}, "t", Color::green}, fields, exchanger);
  CHECK(box == amp::Box{{"number", "1"}, {"a-text", "t"}, {"color", "green"}});
  const auto taken = [&](amp::Box box) { return amp::detail::boxToObject<All>(box, fields, exchanger); };
  const All all = taken({{"number", "1"}, {"maybe", "2"}, {"a-text", "t"}, {"color", "green"}, {"unknown", "x"}});
  CHECK(all.number == 1);
  CHECK(all.maybe == 2);
  CHECK(all.color == Color::green);
  CHECK_FALSE(taken(box).maybe);
  CHECK_THROWS_WITH_AS(taken({{"number", "1"}}), "the box lacks \"a-text\"", amp::InvalidSignature);
  CHECK_THROWS_WITH_AS(taken({{"number", "y"}}), "number: \"y\" is no integer", amp::BadValue);
  CHECK_THROWS_WITH_AS(taken({{"number", "1"}, {"maybe", ""}}), "maybe: \"\" is no integer", amp::BadValue);
  CHECK_THROWS_WITH_AS(taken({{"number", "1"}, {"a-text", ""}, {"color", "blue"}}), "color: no such color",
                       amp::BadValue);
  try {
    amp::detail::objectToBox(All{1, {}, std::string(65536, 't'), Color::red}, fields, exchanger);
    FAIL("it was serialized");
  } catch (const amp::TooLong& e) {
    CHECK(e.keyName == "a-text");
  }
}

TEST_CASE("Descriptor: closes, and is given up") {
  int fd = -1;
  {
    amp::Descriptor descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    fd = descriptor.fileno();
    amp::Descriptor moved = std::move(descriptor);
    CHECK(descriptor.fileno() == -1);
    CHECK(moved.fileno() == fd);
    CHECK(::fcntl(fd, F_GETFD) != -1);
  }
  CHECK(::fcntl(fd, F_GETFD) == -1);
  amp::Descriptor kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  fd = kept.release();
  CHECK(kept.fileno() == -1);
  CHECK(::close(fd) == 0);
}

TEST_CASE("DescriptorExchanger: numbers in the order of sending and of receiving") {
  const amp::detail::DescriptorArgument argument;
  amp::DescriptorExchanger exchanger;
  const amp::Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(argument.toStringProto(null, exchanger) == "0");
  CHECK(argument.toStringProto(null, exchanger) == "1");
  CHECK(exchanger.outgoing().size() == 2);
  CHECK(exchanger.outgoing()[0].fileno() != null.fileno());
  exchanger.clear();  // the box was not sent
  CHECK(argument.toStringProto(null, exchanger) == "0");
  exchanger.sent();
  CHECK(argument.toStringProto(null, exchanger) == "1");
  CHECK_THROWS_AS(argument.toStringProto(amp::Descriptor(), exchanger), amp::BadValue);

  int first = -1, second = -1;
  {
    amp::Descriptor a(::open("/dev/null", O_RDONLY | O_CLOEXEC)), b(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    first = a.fileno();
    second = b.fileno();
    CHECK(exchanger.fileDescriptorReceived(std::move(a)));
    CHECK(exchanger.fileDescriptorReceived(std::move(b)));
  }
  amp::Descriptor got;
  argument.fromStringProto("1", got, exchanger);
  CHECK(got.fileno() == second);
  argument.fromStringProto("0", got, exchanger);
  CHECK(got.fileno() == first);
  for (const char* text : {"0", "2", "x", "-1"}) {
    CHECK_THROWS_AS(argument.fromStringProto(text, got, exchanger), amp::BadValue);
  }
  for (std::size_t i = 0; i < amp::DescriptorExchanger::kMaxReceived; ++i) {
    CHECK(exchanger.fileDescriptorReceived(amp::Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC))));
  }
  CHECK_FALSE(exchanger.fileDescriptorReceived(amp::Descriptor()));
}
