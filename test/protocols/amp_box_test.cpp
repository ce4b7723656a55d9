#include <protocols/amp_box.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace torsion;
using namespace std::string_literals;
using namespace std::string_view_literals;

TEST_CASE("Box: on the wire, keys in order") {
  const amp::Box box = {{"total", "94"}, {"_answer", "1"}, {"empty", ""}};
  const std::string text = "\0\7_answer\0\0011\0\5empty\0\0\0\5total\0\00294\0\0"s;
  CHECK(amp::serialize(box) == text);
  CHECK(amp::parseString(text) == std::vector<amp::Box>{box});
  CHECK(amp::serialize({}) == "\0\0"s);
}

TEST_CASE("Box: any bytes, any number of boxes") {
  const std::vector<amp::Box> boxes = {
      {{"simple", "test"}, {"ceq", ": "}},
      {{"crtest", "test\r"}, {"lftest", "hello\n"}, {"newline", "test\r\none\r\ntwo"}},
      {{"body", "blah\r\n\r\ntesttest"}, {"\0\xff"s, std::string(amp::kMaxValueLength, '\0')}},
      {{std::string(amp::kMaxKeyLength, 'k'), "v"}},
      {},
  };
  std::string text;
  for (const auto& box : boxes) text += amp::serialize(box);
  CHECK(amp::parseString(text) == boxes);
  CHECK(amp::parseString("").empty());
}

TEST_CASE("Box: of two values for a key the last one counts") {
  CHECK(amp::parseString("\0\1a\0\0011\0\1a\0\0012\0\0"s) == std::vector<amp::Box>{{{"a", "2"}}});
}

TEST_CASE("Box: what cannot be sent") {
  SUBCASE("a long key") {
    try {
      amp::serialize({{std::string(256, 'H'), "hi"}});
      FAIL("it was serialized");
    } catch (const amp::TooLong& e) {
      CHECK(e.isKey);
      CHECK(e.isLocal);
      CHECK(e.length == 256);
      CHECK(e.keyName.empty());
      CHECK(e.what() == "local key too long: it has 256 bytes, and at most 255 can be sent"s);
    }
  }
  SUBCASE("a long value") {
    try {
      amp::serialize({{"hello", std::string(65536, 'H')}});
      FAIL("it was serialized");
    } catch (const amp::TooLong& e) {
      CHECK_FALSE(e.isKey);
      CHECK(e.isLocal);
      CHECK(e.length == 65536);
      CHECK(e.keyName == "hello");
      CHECK(e.what() == "local value \"hello\" too long: it has 65536 bytes, and at most 65535 can be sent"s);
    }
  }
  SUBCASE("an empty key") {
    CHECK_THROWS_AS(amp::serialize({{"", "hi"}}), amp::MalformedAmpBox);
  }
}

TEST_CASE("Box: what is no box") {
  CHECK_THROWS_AS(amp::parseString("\1\0"s + std::string(256, 'k')), amp::TooLong);
  const std::string good = amp::serialize({{"key", "value"}});
  for (std::size_t size = 1; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(amp::parseString(std::string_view(good).substr(0, size)), amp::MalformedAmpBox);
    CHECK_THROWS_AS(amp::parseString(good + good.substr(0, size)), amp::MalformedAmpBox);
  }
}

TEST_CASE("BoxParser: boxes cut at every byte, and limits") {
  const std::string text = amp::serialize({{"a", "1"}, {"bc", "23"}});
  const std::string twice = text + text;
  for (std::size_t cut = 0; cut <= twice.size(); ++cut) {
    CAPTURE(cut);
    amp::detail::BoxParser parser;
    parser.maxLength = text.size();
    parser.maxKeys = 2;
    std::vector<amp::Box> boxes;
    std::string kept;
    for (const std::string& piece : {twice.substr(0, cut), twice.substr(cut)}) {
      kept += piece;
      std::string_view rest = kept;
      while (parser.parse(rest)) boxes.push_back(parser.take());
      kept = std::string(rest);
    }
    CHECK(boxes == std::vector<amp::Box>(2, amp::Box{{"a", "1"}, {"bc", "23"}}));
    CHECK(kept.empty());
    CHECK(parser.atStart());
  }
  SUBCASE("too many bytes") {
    amp::detail::BoxParser parser;
    parser.maxLength = text.size() - 1;
    std::string_view rest = text;
    CHECK_THROWS_AS(parser.parse(rest), amp::AmpLimitError);
  }
  SUBCASE("too many bytes, known from a length alone") {
    amp::detail::BoxParser parser;
    parser.maxLength = 100;
    std::string_view rest = "\0\1a\0\x60"sv;
    CHECK_THROWS_AS(parser.parse(rest), amp::AmpLimitError);
  }
  SUBCASE("too many keys") {
    amp::detail::BoxParser parser;
    parser.maxKeys = 1;
    std::string_view rest = text;
    CHECK_THROWS_AS(parser.parse(rest), amp::AmpLimitError);
  }
}

TEST_CASE("RemoteAmpError: its text") {
  const amp::RemoteAmpError error("BLAHBLAH", "Something wrong");
  CHECK(error.what() == "Code<BLAHBLAH>: Something wrong"s);
  CHECK_FALSE(error.fatal);
}
