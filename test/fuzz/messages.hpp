// The parser of messages must find the same messages in the same bytes, however they are cut into pieces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include <protocols/http/parser.hpp>

#include "require.hpp"

inline void describe(std::string& log, const torsion::ResponseHead& head) {
  log.append(std::to_string(head.status)).append(1, ' ').append(head.message);
}
inline void describe(std::string& log, const torsion::RequestHead& head) {
  log.append(head.method).append(1, ' ').append(head.target);
}

/// The messages that a parser finds in `input`, given in pieces of `piece` bytes. When it sees a fault in what is no
/// whole head yet depends on the pieces, so that only whole messages count.
template <class Head>
std::string parse(std::string_view input, std::size_t piece, bool noBody) {
  using torsion::HttpEvent;
  torsion::HttpParser<Head> parser(4096);
  if constexpr (std::is_same_v<Head, torsion::ResponseHead>) {
    if (noBody) parser.expectNoBody();
  }
  std::string log, head, body;
  try {
    for (; !input.empty(); input.remove_prefix(std::min(piece, input.size()))) {
      std::string_view data = input.substr(0, piece);
      for (bool more = true; more;) {
        const std::size_t before = data.size();
        switch (parser.next(data)) {
          case HttpEvent::needMore:
            REQUIRE(data.empty());
            more = false;
            break;
          case HttpEvent::head:
            head.clear();
            describe(head, parser.head());
            for (const auto& [name, value] : parser.head().headers) {
              REQUIRE(torsion::isToken(name));
              head.append(1, '|').append(name).append(1, '=').append(value);
            }
            head += parser.head().keepAlive ? " keep\n" : " close\n";
            REQUIRE(parser.inBody());
            body.clear();
            break;
          case HttpEvent::body:
            REQUIRE(parser.inBody());
            body += parser.body();
            break;
          case HttpEvent::end:
            log.append(head).append(body).append("\n");
            REQUIRE(!parser.inBody());
            break;
        }
        REQUIRE(data.size() <= before);
      }
    }
    if (parser.inBody() && parser.finish()) log.append(head).append(body).append("\n");
  } catch (const torsion::HttpParseError&) {
  }
  return log;
}

/// The first byte says how long the pieces are.
template <class Head>
void checkMessages(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = parse<Head>(input, input.size(), data[0] >= 128);
  const std::string pieces = parse<Head>(input, 1 + data[0] % 128, data[0] >= 128);
  if (whole != pieces) std::fprintf(stderr, "whole:\n%s\nin pieces:\n%s\n", whole.c_str(), pieces.c_str());
  REQUIRE(whole == pieces);
}
