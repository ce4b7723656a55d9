#include <protocols/amp_box.hpp>

#include <utility>

namespace torsion::amp {
namespace {

void appendString(std::string& to, std::string_view string) {
  to += static_cast<char>(string.size() >> 8);
  to += static_cast<char>(string.size() & 0xff);
  to += string;
}

std::string tooLong(bool isKey, bool isLocal, std::size_t length, const std::string& keyName) {
  std::string text = isLocal ? "local " : "remote ";
  text += isKey ? "key" : "value";
  if (!isKey) text += " \"" + keyName + '"';
  return text + " too long: it has " + std::to_string(length) + " bytes, and at most " +
         std::to_string(isKey ? kMaxKeyLength : kMaxValueLength) + " can be sent";
}

}  // namespace

std::string serialize(const Box& box) {
  std::size_t size = 2;
  for (const auto& [key, value] : box) {
    if (key.empty()) throw MalformedAmpBox("a key is empty: that is how a box ends");
    if (key.size() > kMaxKeyLength) throw TooLong(true, true, key.size());
    if (value.size() > kMaxValueLength) throw TooLong(false, true, value.size(), key);
    size += key.size() + value.size() + 4;
  }
  std::string text;
  text.reserve(size);
  for (const auto& [key, value] : box) {
    appendString(text, key);
    appendString(text, value);
  }
  return text.append(2, '\0');
}

std::vector<Box> parseString(std::string_view data) {
  std::vector<Box> boxes;
  detail::BoxParser parser;
  while (parser.parse(data)) boxes.push_back(parser.take());
  if (!data.empty() || !parser.atStart()) throw MalformedAmpBox("the last box is cut off");
  return boxes;
}

TooLong::TooLong(bool isKey, bool isLocal, std::size_t length, const std::string& keyName)
    : AmpError(tooLong(isKey, isLocal, length, keyName)),
      isKey(isKey),
      isLocal(isLocal),
      length(length),
      keyName(keyName) {}

BadLocalReturn::BadLocalReturn(Failure enclosed)
    : AmpError("what the responder returned cannot be sent: " + enclosed.getErrorMessage()),
      enclosed(std::move(enclosed)) {}

RemoteAmpError::RemoteAmpError(std::string errorCode, std::string description, bool fatal)
    : AmpError("Code<" + errorCode + ">: " + description),
      errorCode(std::move(errorCode)),
      description(std::move(description)),
      fatal(fatal) {}

namespace detail {

bool BoxParser::parse(std::string_view& input) {
  while (input.size() >= 2) {
    const std::size_t length =
        static_cast<std::size_t>(static_cast<unsigned char>(input[0])) << 8 | static_cast<unsigned char>(input[1]);
    const bool isKey = key_.empty();
    if (isKey && length > kMaxKeyLength) throw TooLong(true, false, length);
    if (length_ + 2 + length > maxLength) {
      throw AmpLimitError("the peer's box has more than " + std::to_string(maxLength) + " bytes (see setMaxBoxLength)");
    }
    if (input.size() < 2 + length) return false;
    const std::string_view string = input.substr(2, length);
    input.remove_prefix(2 + length);
    length_ += 2 + length;
    if (!isKey) {
      box_.insert_or_assign(std::exchange(key_, {}), string);
    } else if (string.empty()) {
      return true;
    } else {
      key_ = string;
      if (box_.size() == maxKeys && !box_.contains(string)) {
        throw AmpLimitError("the peer's box has more than " + std::to_string(maxKeys) + " keys (see setMaxKeys)");
      }
    }
  }
  return false;
}

Box BoxParser::take() noexcept {
  length_ = 0;
  return std::exchange(box_, {});
}

}  // namespace detail
}  // namespace torsion::amp
