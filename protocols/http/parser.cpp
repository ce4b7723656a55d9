#include <protocols/http/parser.hpp>

#include <boost/beast/http/basic_parser.hpp>

namespace torsion {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

[[noreturn]] void tooLarge(std::size_t limit) {
  throw HttpLimitError("the head is larger than the limit (maxHeader) of " + std::to_string(limit) + " bytes", 431);
}

}  // namespace

template <class Head>
class HttpParser<Head>::Impl {
 public:
  static constexpr bool kRequest = std::is_same_v<Head, RequestHead>;

  explicit Impl(std::size_t headerLimit) : headerLimit_(headerLimit) {}

  HttpEvent next(std::string_view& data) {
    if (ended_) reset();
    if (kept_ > 0 && kept_ == pending_.size()) {
      pending_.clear();
      kept_ = 0;
    }
    while (true) {
      if (message_ && message_->is_done()) {
        ended_ = true;
        return HttpEvent::end;
      }
      bool fromPending = kept_ < pending_.size();
      if (fromPending) {
        pending_.append(data);
        data = {};
      }
      std::string_view in = fromPending ? std::string_view(pending_).substr(kept_) : data;
      if (!message_) {
        if (!begin(in, data)) return HttpEvent::needMore;
        fromPending = kept_ < pending_.size();
      }
      if (in.empty()) return HttpEvent::needMore;
      bool padding = false;
      if constexpr (!kRequest) {
        if (message_->headDone && message_->chunked() && !message_->inChunk) {
          padding = mendChunk(in, data);
          fromPending = kept_ < pending_.size();
        }
      }
      // Beast's parser asserts that it is not asked about fewer bytes than a last chunk has.
      const bool wait = padding || (message_->headDone && message_->chunked() && !message_->inChunk && in.size() < 5);

      error_code error = http::error::need_more;
      message_->body = {};
      const std::size_t taken = wait ? 0 : message_->put({in.data(), in.size()}, error);
      if (error && error != http::error::need_more) fail(error);
      if (fromPending) {
        kept_ += taken;
      } else {
        data.remove_prefix(taken);
      }
      if (!message_->headReported) {
        headBytes_ += taken;
        if (headBytes_ > headerLimit_) tooLarge(headerLimit_);
        if (message_->headDone) {
          message_->headReported = true;
          checkHead();
          return HttpEvent::head;
        }
      } else if (!message_->body.empty()) {
        return HttpEvent::body;
      }
      if (error == http::error::need_more) {
        const std::size_t rest = in.size() - taken;
        if ((message_->headDone ? 0 : headBytes_) + rest > headerLimit_) tooLarge(headerLimit_);
        if (fromPending) {
          pending_.erase(0, kept_);
        } else {
          pending_.assign(data);
          data = {};
        }
        kept_ = 0;
        return HttpEvent::needMore;
      }
    }
  }

  bool finish() {
    if (!message_ || !message_->got_some() || ended_) return false;
    error_code error;
    message_->put_eof(error);
    return !error;
  }

  Head& head() noexcept { return message_->head; }
  std::string_view body() const noexcept { return message_ ? message_->body : std::string_view(); }
  bool inBody() const noexcept { return message_ && message_->headReported && !ended_; }
  bool started() const noexcept { return !ended_ && (message_ || !pending_.empty()); }
  void expectNoBody(bool noBody) noexcept { noBody_ = noBody; }

 private:
  // One message. Beast gives the start line and the fields as soon as it has them, as views of what it was given then.
  struct Message final : http::basic_parser<kRequest> {
    Message(std::size_t headerLimit, bool noBody) {
      this->header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(headerLimit, UINT32_MAX)));
      this->body_limit(boost::none);
      if (noBody) this->skip(true);
    }

    void on_request_impl(http::verb, boost::beast::string_view method, boost::beast::string_view target, int version,
                         error_code&) override {
      if constexpr (kRequest) {
        head.method = view(method);
        head.target = view(target);
        head.version = version;
      }
    }
    void on_response_impl(int status, boost::beast::string_view reason, int version, error_code&) override {
      if constexpr (!kRequest) {
        head.status = status;
        head.message = view(reason);
        head.version = version;
      }
    }
    void on_field_impl(http::field field, boost::beast::string_view name, boost::beast::string_view value,
                       error_code&) override {
      if (headDone) return;  // a trailer
      if (field == http::field::transfer_encoding) {
        ++transferEncodings;
        onlyChunked = equalsIgnoreCase(trim(view(value)), "chunked");
      } else if (field == http::field::content_length) {
        ++contentLengths;
      } else if (field == http::field::host) {
        ++hosts;
      }
      head.headers.addHeader(view(name), view(value));
    }
    void on_header_impl(error_code&) override { headDone = true; }
    void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
    std::size_t on_body_impl(boost::beast::string_view piece, error_code&) override {
      body = view(piece);
      return piece.size();
    }
    void on_chunk_header_impl(std::uint64_t size, boost::beast::string_view, error_code&) override {
      inChunk = size > 0;
    }
    std::size_t on_chunk_body_impl(std::uint64_t remain, boost::beast::string_view piece, error_code&) override {
      body = view(piece);
      inChunk = remain > piece.size();
      return piece.size();
    }
    void on_finish_impl(error_code&) override {}

    Head head;
    std::string_view body;
    int transferEncodings = 0, contentLengths = 0, hosts = 0;
    bool onlyChunked = false, headDone = false, headReported = false, inChunk = false;
  };

  void reset() {
    message_.reset();
    headBytes_ = 0;
    ended_ = false;
  }

  /// Makes ready for a message; false if nothing of it is there yet. May move `in` to pending_, `data` with it.
  bool begin(std::string_view& in, std::string_view& data) {
    if constexpr (kRequest) {  // RFC 9112 2.2: empty lines before a request are ignored
      const auto start = std::min(in.find_first_not_of("\r\n"), in.size());
      skip(start, in, data);
    } else if (!mendHead(in, data)) {
      return false;
    }
    if (in.empty()) return false;
    message_.emplace(headerLimit_, noBody_);
    return true;
  }

  // Where the head of a response has to be mended.
  struct Irregular {
    bool lines = false;   // some end in LF alone (RFC 9112 2.2), or are folded (5.2)
    bool reason = false;  // there is none, nor the space before it, which Beast wants and many servers leave out
  };

  /// Beast gets the head of a response whole, and in the form that it knows. False, with what there is in pending_,
  /// while it is not whole.
  bool mendHead(std::string_view& in, std::string_view& data) {
    constexpr std::string_view kStart = "HTTP/1.";
    constexpr std::size_t kStatus = 12;  // "HTTP/1.1 200"
    if (in.substr(0, kStart.size()) != kStart.substr(0, in.size())) fail(http::error::bad_version);
    Irregular irregular;
    std::size_t end = std::string_view::npos;
    for (std::size_t line = 0;;) {
      const std::size_t lf = in.find('\n', line);
      if (lf == in.npos) break;
      const bool crlf = lf > line && in[lf - 1] == '\r';
      const std::size_t size = lf - line - (crlf ? 1 : 0);
      if (line == 0 && size == kStatus) irregular.reason = true;
      const bool folded = lf + 1 < in.size() && (in[lf + 1] == ' ' || in[lf + 1] == '\t');
      irregular.lines = irregular.lines || !crlf || (folded && size > 0);
      line = lf + 1;
      if (size == 0) {
        end = line;
        break;
      }
    }
    if (std::min(end, in.size()) > headerLimit_) tooLarge(headerLimit_);
    if (end == in.npos) {
      if (in.data() == data.data() && !in.empty()) {
        pending_.assign(data);
        kept_ = 0;
        data = {};
      }
      return false;
    }
    if (!irregular.lines && !irregular.reason) return true;
    std::string mended;
    for (std::size_t line = 0; line < end;) {
      const std::size_t lf = in.find('\n', line);
      std::string_view text = in.substr(line, lf - line);
      if (text.ends_with('\r')) text.remove_suffix(1);
      if (mended.ends_with(' ')) text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
      mended.append(text);
      if (line == 0 && irregular.reason) mended += ' ';
      line = lf + 1;
      const bool folded = line < end && !text.empty() && (in[line] == ' ' || in[line] == '\t');
      mended.append(folded ? " " : "\r\n");
    }
    mended.append(in.substr(end));
    take(std::move(mended), in, data);
    return true;
  }

  /// Takes the padding behind a chunk's size away, which many servers send and Beast refuses. True if more of it may
  /// come.
  bool mendChunk(std::string_view& in, std::string_view& data) {
    const std::size_t size = in.find_first_not_of("\r\n");
    const std::size_t padding = in.find_first_not_of("0123456789abcdefABCDEF", size);
    const std::size_t rest = in.find_first_not_of(" \t", padding);
    if (padding == in.npos || padding == size || rest == padding) return false;
    if (rest == in.npos) return true;
    if (in[rest] != '\r' && in[rest] != ';') return false;
    std::string mended(in.substr(0, padding));
    mended.append(in.substr(rest));
    take(std::move(mended), in, data);
    return false;
  }

  /// `mended` comes in the place of `in`.
  void take(std::string mended, std::string_view& in, std::string_view& data) {
    pending_ = std::move(mended);
    kept_ = 0;
    data = {};
    in = pending_;
  }

  void skip(std::size_t count, std::string_view& in, std::string_view& data) noexcept {
    if (kept_ < pending_.size()) {
      kept_ += count;
    } else {
      data.remove_prefix(count);
    }
    in.remove_prefix(count);
  }

  void checkHead() {
    Message& m = *message_;
    if (m.transferEncodings > 0) {
      if (m.contentLengths > 0) throw HttpParseError("both Transfer-Encoding and Content-Length");
      if (m.head.version < 11) throw HttpParseError("Transfer-Encoding in HTTP/1.0");
      if (m.transferEncodings > 1) throw HttpParseError("more than one Transfer-Encoding");
      if (!m.onlyChunked) throw HttpParseError("a Transfer-Encoding other than chunked", kRequest ? 501 : 400);
    }
    if constexpr (kRequest) {
      if (m.contentLengths > 1) throw HttpParseError("more than one Content-Length");
      if (m.hosts > 1) throw HttpParseError("more than one Host");
      if (m.hosts == 0 && m.head.version >= 11) throw HttpParseError("no Host");
      m.head.chunked = m.chunked();
    }
    if (const auto length = m.content_length()) m.head.contentLength = *length;
    m.head.keepAlive = m.keep_alive();
  }

  [[noreturn]] void fail(error_code error) const {
    if (error == http::error::header_limit) tooLarge(headerLimit_);
    throw HttpParseError("not HTTP/1.1: " + error.message());
  }

  std::size_t headerLimit_;
  std::optional<Message> message_;
  std::string pending_;  ///< bytes that Beast wants to see again, from kept_ on
  std::size_t kept_ = 0;
  std::size_t headBytes_ = 0;
  bool ended_ = false, noBody_ = false;
};

template <class Head>
HttpParser<Head>::HttpParser(std::size_t headerLimit) : impl_(std::make_unique<Impl>(headerLimit)) {}
template <class Head>
HttpParser<Head>::HttpParser(HttpParser&&) noexcept = default;
template <class Head>
HttpParser<Head>& HttpParser<Head>::operator=(HttpParser&&) noexcept = default;
template <class Head>
HttpParser<Head>::~HttpParser() = default;

template <class Head>
HttpEvent HttpParser<Head>::next(std::string_view& data) {
  return impl_->next(data);
}
template <class Head>
bool HttpParser<Head>::finish() {
  return impl_->finish();
}
template <class Head>
Head& HttpParser<Head>::head() noexcept {
  return impl_->head();
}
template <class Head>
std::string_view HttpParser<Head>::body() const noexcept {
  return impl_->body();
}
template <class Head>
bool HttpParser<Head>::inBody() const noexcept {
  return impl_->inBody();
}
template <class Head>
bool HttpParser<Head>::started() const noexcept {
  return impl_->started();
}
template <class Head>
void HttpParser<Head>::expectNoBody(bool noBody) {
  impl_->expectNoBody(noBody);
}

template class HttpParser<RequestHead>;
template class HttpParser<ResponseHead>;

}  // namespace torsion
