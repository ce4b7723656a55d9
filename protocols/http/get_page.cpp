#include <protocols/http/get_page.hpp>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <system_error>

#include <protocols/http/parser.hpp>
#include <protocols/http/uri.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>

namespace torsion {
namespace {

constexpr std::size_t kDefaultMaxBody = 64 * 1024 * 1024;
/// A Content-Length is a promise only: reserve no more than this for it.
constexpr std::size_t kMaxReserve = 16 * 1024 * 1024;

bool isRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool startsWithIgnoreCase(std::string_view text, std::string_view start) {
  return equalsIgnoreCase(text.substr(0, start.size()), start);
}

bool isOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  for (std::string_view n : names) {
    if (equalsIgnoreCase(name, n)) return true;
  }
  return false;
}

/// What takes the body of a success, when it is not to be kept.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Before the request is sent.
  virtual void addHeaders(Headers&) {}
  /// True if 206 is a success.
  virtual bool wantsPart() const { return false; }
  virtual void begin(const ResponseHead&) {}
  virtual void write(std::string_view data) = 0;
  /// Everything has been written.
  virtual void end() {}
};

class FunctionSink final : public Sink {
 public:
  explicit FunctionSink(UniqueFunction<void(std::string_view)> f) : f_(std::move(f)) {}
  void write(std::string_view data) override { f_(data); }

 private:
  UniqueFunction<void(std::string_view)> f_;
};

class FileSink final : public Sink {
 public:
  FileSink(std::string path, bool partial) : path_(std::move(path)), partial_(partial) {}
  ~FileSink() override {
    if (file_) std::fclose(file_);
  }

  void addHeaders(Headers& headers) override {
    if (!partial_) return;
    if (std::FILE* f = std::fopen(path_.c_str(), "rb")) {
      if (std::fseek(f, 0, SEEK_END) == 0) have_ = std::ftell(f);
      std::fclose(f);
    }
    if (have_ > 0) headers.setHeader("Range", "bytes=" + std::to_string(have_) + '-');
  }
  bool wantsPart() const override { return have_ > 0; }
  void begin(const ResponseHead& head) override {
    if (head.status == 206) {
      const std::string expected = "bytes " + std::to_string(have_) + '-';
      if (!head.headers.getHeader("Content-Range").value_or("").starts_with(expected)) {
        throw HttpParseError("the server sent another part of the page than the one asked for");
      }
    }
    file_ = std::fopen(path_.c_str(), head.status == 206 ? "ab" : "wb");
    if (!file_) fail();
  }
  void write(std::string_view data) override {
    if (std::fwrite(data.data(), 1, data.size(), file_) != data.size()) fail();
  }
  void end() override {
    if (std::fclose(std::exchange(file_, nullptr)) != 0) fail();
  }

 private:
  [[noreturn]] void fail() const { throw std::system_error(errno, std::generic_category(), "downloadPage: " + path_); }

  std::string path_;
  bool partial_;
  long have_ = 0;
  std::FILE* file_ = nullptr;
};

const TLSOptions& systemTrust() {
  static const TLSOptions options = optionsForClientTLS("localhost");
  return options;
}

class PageFetch;

/// One request and its answer, on a connection of its own.
class HTTPPageGetter final : public Protocol {
 public:
  explicit HTTPPageGetter(std::shared_ptr<PageFetch> fetch);
  void connectionMade() override;
  void dataReceived(std::string_view data) override;
  void connectionLost(const Failure& reason) override;

  /// Ends the connection once the answer is known.
  void close();

 private:
  void headReceived();

  std::shared_ptr<PageFetch> fetch_;
  ResponseParser parser_;
  std::string body_;
  std::size_t received_ = 0;
  DelayedCall hangUp_;
  bool interim_ = false;  // the message is a 1xx
  bool toSink_ = false;
};

/// The whole of a getPage: each request makes it a factory of one HTTPPageGetter. It is kept by what goes on: the
/// attempt to connect, then the connection.
class PageFetch final : public Factory, public std::enable_shared_from_this<PageFetch> {
 public:
  /// `wantsURL`: whether the answer is to say where it came from in the end.
  PageFetch(PageOptions&& options, NetworkReactor& reactor, std::unique_ptr<Sink> sink, bool wantsURL,
            const std::source_location& where)
      : options_(std::move(options)),
        reactor_(reactor),
        sink_(std::move(sink)),
        where_(where),
        resolver_(where),
        wantsURL_(wantsURL) {}
  ~PageFetch() override {
    if (deadline_.active()) deadline_.cancel();
  }

  Deferred<PageResponse> start(std::string_view url);

  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    return std::make_shared<HTTPPageGetter>(shared_from_this());
  }
  bool clientSpeaksFirst() const noexcept override { return true; }

  // ---- for HTTPPageGetter
  /// False if nobody waits for the answer any more.
  bool connected(HTTPPageGetter& getter);
  std::string requestHead() const;
  const PageOptions& options() const { return options_; }
  Time& time() const { return reactor_; }
  bool headRequest() const { return options_.method == "HEAD"; }
  bool secure() const { return uri_.scheme == "https"; }
  bool succeeds(int status) const {
    return status == 200 || status == 201 || status == 202 || (status == 206 && sink_ && sink_->wantsPart());
  }
  Sink* sink() const { return sink_.get(); }
  std::size_t maxBody(bool toSink) const {
    const std::size_t most = options_.maxBody.value_or(toSink ? 0 : kDefaultMaxBody);
    return most == 0 ? SIZE_MAX : most;
  }
  void keepCookies(const Headers& headers) const;
  /// True if the answer is a redirect that needs no body: followed when the connection is closed, or a failure.
  bool redirected(const ResponseHead& head);
  void ended(ResponseHead head, std::string body, bool whole);
  void failed(Failure why) { outcome_.emplace(std::move(why)); }
  void disconnected(const Failure& reason);
  bool settled() const { return outcome_ || next_; }

 private:
  void validate() const;
  void connect();
  void timedOut();
  void abandon(Failure why);
  void deliver();

  PageOptions options_;
  NetworkReactor& reactor_;
  std::unique_ptr<Sink> sink_;
  const std::source_location where_;  // the user's
  URI uri_;
  std::optional<URI> next_;
  Resolver<PageResponse> resolver_;
  std::optional<Result<PageResponse>> outcome_;
  Canceller connecting_;
  HTTPPageGetter* getter_ = nullptr;
  DelayedCall deadline_;
  int redirects_ = 0;
  const bool wantsURL_;
  bool starting_ = true;
};

// ---------------------------------------------------------------------------------------------------- HTTPPageGetter

HTTPPageGetter::HTTPPageGetter(std::shared_ptr<PageFetch> fetch)
    : fetch_(std::move(fetch)), parser_(fetch_->options().maxHeader) {}

void HTTPPageGetter::connectionMade() {
  if (!fetch_->connected(*this)) return transport().abortConnection();
  parser_.expectNoBody(fetch_->headRequest());
  const std::string head = fetch_->requestHead();
  if (const auto& body = fetch_->options().postdata; body && !body->empty()) {
    const std::array<std::string_view, 2> pieces{head, *body};
    transport().writeSequence(pieces);
  } else {
    transport().write(head);
  }
}

void HTTPPageGetter::dataReceived(std::string_view data) {
  if (fetch_->settled()) return;
  try {
    while (true) {
      switch (parser_.next(data)) {
        case HttpEvent::needMore:
          return;
        case HttpEvent::head:
          headReceived();
          break;
        case HttpEvent::body: {
          const std::string_view piece = parser_.body();
          const std::size_t most = fetch_->maxBody(toSink_);
          received_ += piece.size();
          if (received_ > most) {
            throw HttpLimitError("the page is larger than the limit (maxBody) of " + std::to_string(most) + " bytes");
          }
          if (toSink_) {
            fetch_->sink()->write(piece);
          } else {
            body_.append(piece);
          }
          break;
        }
        case HttpEvent::end:
          if (interim_) break;
          fetch_->ended(std::move(parser_.head()), std::move(body_), true);
          break;
      }
      if (fetch_->settled()) return close();
    }
  } catch (...) {
    fetch_->failed(Failure::current());
    transport().abortConnection();
  }
}

void HTTPPageGetter::headReceived() {
  const ResponseHead& head = parser_.head();
  interim_ = head.status / 100 == 1;
  if (head.status == 101) throw HttpParseError("the server switched to another protocol without being asked to");
  if (interim_) return;
  fetch_->keepCookies(head.headers);
  if (fetch_->redirected(head)) return;
  toSink_ = fetch_->sink() && fetch_->succeeds(head.status);
  if (toSink_) fetch_->sink()->begin(head);
  if (head.contentLength && !fetch_->headRequest()) {
    const std::size_t most = fetch_->maxBody(toSink_);
    if (*head.contentLength > most) {
      throw HttpLimitError("the page of " + std::to_string(*head.contentLength) +
                           " bytes is larger than the limit (maxBody) of " + std::to_string(most));
    }
    if (!toSink_) body_.reserve(std::min<std::uint64_t>(*head.contentLength, kMaxReserve));
  }
}

void HTTPPageGetter::close() {
  transport().loseConnection();
  // The answer is whole: neither the rest of the request nor the peer's close_notify is worth waiting for.
  if (fetch_->secure() || fetch_->options().postdata) {
    hangUp_ = fetch_->time().callLater(Duration::zero(), hold([this] { transport().abortConnection(); }));
  }
}

void HTTPPageGetter::connectionLost(const Failure& reason) {
  if (hangUp_.active()) hangUp_.cancel();
  if (!fetch_->settled() && parser_.inBody() && !interim_) {
    try {
      const bool whole = reason.check<ConnectionDone>() && parser_.finish();
      fetch_->ended(std::move(parser_.head()), std::move(body_), whole);
    } catch (...) {
      fetch_->failed(Failure::current());
    }
  }
  const auto fetch = std::move(fetch_);
  fetch->disconnected(reason);
}

// --------------------------------------------------------------------------------------------------------- PageFetch

Deferred<PageResponse> PageFetch::start(std::string_view url) {
  Deferred<PageResponse> result = resolver_.deferred();
  resolver_.onCancel([this](const Resolver<PageResponse>&) { abandon(CancelledError()); });
  try {
    uri_ = URI::parse(url);
    if (sink_) sink_->addHeaders(options_.headers);
    validate();
    if (options_.timeout > Duration::zero())
      deadline_ = reactor_.callLater(options_.timeout, [this] { timedOut(); }, where_);
    connect();
  } catch (...) {
    failed(Failure::current());
    deliver();
  }
  starting_ = false;
  return result;
}

void PageFetch::validate() const {
  if (!isToken(options_.method)) throw InvalidRequest("Invalid method: it may contain no space or control character");
  if (!isHeaderValue(options_.agent)) throw InvalidRequest("Invalid agent: it may contain no control character");
  for (const auto& [name, value] : options_.headers) {
    if (!isToken(name)) throw InvalidRequest("Invalid header name: it is no token (letters, digits and '-')");
    if (!isHeaderValue(value)) {
      throw InvalidRequest("Invalid value of the header " + std::string(name) +
                           ": it may contain no control character");
    }
    if (equalsIgnoreCase(name, "Transfer-Encoding")) {
      throw InvalidRequest("Transfer-Encoding cannot be set: postdata is sent with its Content-Length");
    }
  }
}

void PageFetch::connect() {
  std::shared_ptr<Factory> factory = shared_from_this();
  if (secure()) {
    const TLSOptions& tls = options_.tls ? *options_.tls : systemTrust();
    factory = tlsFactory(tls.forHostname(uri_.host), std::move(factory), reactor_);
  }
  auto connection = HostnameEndpoint(uri_.host, uri_.port, reactor_).connect(std::move(factory), where_);
  connecting_ = connection.canceller();
  connection.addErrback([self = shared_from_this()](Failure reason) -> std::shared_ptr<Protocol> {
    self->connecting_ = {};
    if (!self->outcome_) self->failed(std::move(reason));
    self->deliver();
    return nullptr;
  });
}

bool PageFetch::connected(HTTPPageGetter& getter) {
  if (outcome_) return false;
  connecting_ = {};
  getter_ = &getter;
  return true;
}

std::string PageFetch::requestHead() const {
  std::string text;
  text.reserve(256);
  const auto add = [&text](std::string_view name, std::string_view value) {
    text.append(name).append(": ").append(value).append("\r\n");
  };
  text.append(options_.method).append(1, ' ').append(uri_.originForm).append(" HTTP/1.1\r\n");
  if (const auto host = options_.headers.getHeader("Host")) {
    add("Host", *host);
  } else {
    text.append("Host: ");
    uri_.appendNetloc(text);
    text.append("\r\n");
  }
  add("User-Agent", options_.agent);
  if (options_.postdata) add("Content-Length", std::to_string(options_.postdata->size()));
  std::string cookies;
  for (const auto& [name, value] : options_.headers) {
    if (equalsIgnoreCase(name, "Cookie")) {
      cookies.append(cookies.empty() ? "" : "; ").append(value);
    } else if (!isOneOf(name, {"Host", "User-Agent", "Content-Length", "Connection"})) {
      add(name, value);
    }
  }
  text.append("Connection: close\r\n");
  if (options_.cookies) {
    const std::string kept = options_.cookies->cookieHeader(uri_);
    if (!kept.empty()) cookies.append(cookies.empty() ? "" : "; ").append(kept);
  }
  if (!cookies.empty()) add("Cookie", cookies);
  return text.append("\r\n");
}

void PageFetch::keepCookies(const Headers& headers) const {
  if (!options_.cookies) return;
  for (const auto& [name, value] : headers) {
    if (equalsIgnoreCase(name, "Set-Cookie")) options_.cookies->setCookieReceived(uri_, value);
  }
}

bool PageFetch::redirected(const ResponseHead& head) {
  if (!isRedirect(head.status)) return false;
  const std::string location(head.headers.getHeader("Location").value_or(""));
  if (location.empty()) return false;
  if (!options_.followRedirect) {
    failed(PageRedirect(head.status, head.message, location, head.headers));
    return true;
  }
  if (++redirects_ >= options_.redirectLimit) {
    failed(InfiniteRedirection(head.status, "Infinite redirection detected", location, head.headers));
    return true;
  }
  URI next = uri_.join(location);
  Headers& headers = options_.headers;
  if (!next.sameOrigin(uri_)) {
    for (const char* name : {"Authorization", "Proxy-Authorization", "WWW-Authenticate", "Cookie", "Cookie2", "Host"}) {
      headers.removeHeader(name);
    }
  }
  if (head.status == 303 || (head.status == 302 && options_.afterFoundGet)) {
    if (!headRequest()) options_.method = "GET";
    options_.postdata.reset();
    Headers kept;
    for (const auto& [name, value] : headers) {
      if (!startsWithIgnoreCase(name, "Content-")) kept.addHeader(name, value);
    }
    headers = std::move(kept);
  }
  next_ = std::move(next);
  return true;
}

void PageFetch::ended(ResponseHead head, std::string body, bool whole) {
  if (!succeeds(head.status)) {
    failed(HttpError(head.status, std::move(head.message), std::move(body), std::move(head.headers)));
  } else if (!whole) {
    failed(PartialDownloadError(head.status, std::move(head.message), std::move(body), std::move(head.headers)));
  } else {
    if (sink_) sink_->end();
    outcome_.emplace(PageResponse{head.status, std::move(head.message), head.version, std::move(head.headers),
                                  std::move(body), wantsURL_ ? uri_.toString() : std::string()});
  }
}

void PageFetch::disconnected(const Failure& reason) {
  getter_ = nullptr;
  if (next_ && !outcome_) {
    uri_ = *std::exchange(next_, std::nullopt);
    try {
      return connect();
    } catch (...) {
      failed(Failure::current());
    }
  }
  if (!outcome_) {
    if (reason.check<ConnectionDone>()) {
      failed(ConnectionDone("the server closed the connection before it had answered"));
    } else {
      failed(reason);
    }
  }
  deliver();
}

void PageFetch::timedOut() {
  std::array<char, 32> seconds;
  std::snprintf(seconds.data(), seconds.size(), "%g", std::chrono::duration<double>(options_.timeout).count());
  abandon(TimeoutError("Getting " + uri_.toString() + " took longer than " + seconds.data() + " seconds."));
}

void PageFetch::abandon(Failure why) {
  const auto keep = shared_from_this();
  if (deadline_.active()) deadline_.cancel();
  if (!outcome_) failed(std::move(why));
  if (getter_) {
    getter_->transport().abortConnection();
  } else {
    std::exchange(connecting_, {}).cancel();
  }
}

void PageFetch::deliver() {
  if (deadline_.active()) deadline_.cancel();
  if (resolver_.called()) return;
  sink_.reset();    // the file is closed before anybody hears of it
  if (starting_) {  // never before it is returned
    deadline_ = reactor_.callLater(Duration::zero(), [self = shared_from_this()] { self->deliver(); }, where_);
    return;
  }
  resolver_.resolve(*std::exchange(outcome_, std::nullopt));
}

Deferred<PageResponse> fetch(std::string_view url, PageOptions&& options, NetworkReactor& reactor,
                             std::unique_ptr<Sink> sink, const std::source_location& where, bool wantsURL = false) {
  return std::make_shared<PageFetch>(std::move(options), reactor, std::move(sink), wantsURL, where)->start(url);
}

}  // namespace

Deferred<PageResponse> getPageResponse(std::string_view url, PageOptions options, NetworkReactor& reactor,
                                       std::source_location where) {
  return fetch(url, std::move(options), reactor, nullptr, where, true);
}

Deferred<std::string> getPage(std::string_view url, PageOptions options, NetworkReactor& reactor,
                              std::source_location where) {
  return fetch(url, std::move(options), reactor, nullptr, where).addCallback([](PageResponse page) {
    return std::move(page.body);
  });
}

Deferred<void> downloadPage(std::string_view url, const std::string& path, PageOptions options, NetworkReactor& reactor,
                            std::source_location where) {
  const bool partial = options.supportPartial;
  return fetch(url, std::move(options), reactor, std::make_unique<FileSink>(path, partial), where)
      .addCallback([](const PageResponse&) {});
}

Deferred<void> downloadPage(std::string_view url, UniqueFunction<void(std::string_view)> sink, PageOptions options,
                            NetworkReactor& reactor, std::source_location where) {
  return fetch(url, std::move(options), reactor, std::make_unique<FunctionSink>(std::move(sink)), where)
      .addCallback([](const PageResponse&) {});
}

}  // namespace torsion
