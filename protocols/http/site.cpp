#include <protocols/http/site.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <optional>

#include <protocols/http/error.hpp>
#include <protocols/http/parser.hpp>
#include <protocols/http/uri.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

constexpr std::size_t kPiece = 64 * 1024;
/// After an error the rest of the request is read and dropped for so long: closing at once would reset the connection,
/// and the client might never see why.
constexpr Duration kLinger = std::chrono::seconds(2);
/// A body's rate is looked at after so long.
constexpr Duration kBodyGrace = std::chrono::seconds(20);

Logger& logger() {
  static Logger log("torsion.http.site");
  return log;
}

void add(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

std::string_view number(std::size_t value, std::array<char, 24>& store) {
  const auto end = std::to_chars(store.data(), store.data() + store.size(), value).ptr;
  return {store.data(), static_cast<std::size_t>(end - store.data())};
}

/// The Date header's value, made anew once a second.
std::string_view httpDate() {
  thread_local std::time_t made = 0;
  thread_local std::array<char, 32> text;
  if (const std::time_t now = std::time(nullptr); now != made) {
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm tm{};
    gmtime_r(&now, &tm);
    std::snprintf(text.data(), text.size(), "%s, %02d %s %d %02d:%02d:%02d GMT", kDays[tm.tm_wday], tm.tm_mday,
                  kMonths[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    made = now;
  }
  return text.data();
}

Response errorPage(int status) {
  return {.status = status, .body = std::to_string(status) + ' ' + reasonPhrase(status) + '\n'};
}

bool knownMethod(std::string_view method) {
  static constexpr std::array<std::string_view, 9> kMethods = {"GET",     "HEAD",  "POST",  "PUT",    "DELETE",
                                                               "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  return std::find(kMethods.begin(), kMethods.end(), method) != kMethods.end();
}

/// The path and query of any form of a request's target; empty if it is none.
std::string_view originForm(std::string_view target) {
  if (target.starts_with('/')) return target;
  for (std::string_view scheme : {"http://", "https://"}) {
    if (!equalsIgnoreCase(target.substr(0, scheme.size()), scheme)) continue;
    const auto path = target.find_first_of("/?", scheme.size());
    return path == target.npos || target[path] == '?' ? std::string_view("/") : target.substr(path);
  }
  return {};
}

}  // namespace

/// One connection of a Site (twisted.web.http.HTTPChannel).
class HTTPChannel final : public Protocol, public HalfCloseableProtocol {
 public:
  explicit HTTPChannel(std::shared_ptr<Site> site) : site_(std::move(site)), parser_(site_->options_.maxHeader) {}

  ~HTTPChannel() override {
    if (idle_.active()) idle_.cancel();
  }

  void connectionMade() override {
    peer_ = transport().getPeer();
    idle_ = site_->time_.callLater(site_->options_.idleTimeout, [this] { timedOut(); });
  }

  void dataReceived(std::string_view data) override {
    if (state_ == State::closing) return;
    active();
    if (state_ != State::reading) {
      waiting_.append(data);
      if (waiting_.size() > kPiece) transport().pauseProducing();
      return;
    }
    read(data);
  }

  void connectionLost(const Failure&) override {
    state_ = State::closing;
    if (idle_.active()) idle_.cancel();
    std::exchange(handling_, {}).cancel();
  }

  // The client sends no more; what it has asked for is answered.
  void readConnectionLost() override {
    halfClosed_ = true;
    if (state_ == State::reading) transport().loseConnection();
  }
  void writeConnectionLost() override {}

 private:
  enum class State {
    reading,   // a request, or waiting for one
    handling,  // the handler's Deferred has not fired
    sending,   // the answer is larger than the transport takes at once
    closing,   // nothing more is read
  };

  void active() {
    if (idle_.active()) idle_.reset(site_->options_.idleTimeout);
  }

  void timedOut() {
    switch (state_) {
      case State::handling:
        idle_ = site_->time_.callLater(site_->options_.idleTimeout, [this] { timedOut(); });
        break;
      case State::reading:
        state_ = State::closing;
        transport().loseConnection();
        // Should what was answered before not go out either:
        idle_ = site_->time_.callLater(site_->options_.idleTimeout, [this] { timedOut(); });
        break;
      case State::sending:
      case State::closing:
        transport().abortConnection();
        break;
    }
  }

  void read(std::string_view data) {
    inRead_ = true;
    readRequests(data);
    inRead_ = false;
  }

  void readRequests(std::string_view data) {
    try {
      while (state_ == State::reading) {
        switch (parser_.next(data)) {
          case HttpEvent::needMore:
            return tooSlow();
          case HttpEvent::head:
            headReceived(parser_.head());
            began_ = site_->time_.seconds();
            bodyReceived_ = 0;
            break;
          case HttpEvent::body:
            bodyReceived_ += parser_.body().size();
            if (parser_.body().size() > site_->options_.maxBody - request_->body.size()) return refuse(413);
            request_->body.append(parser_.body());
            break;
          case HttpEvent::end:
            handle();
            break;
        }
      }
    } catch (const HttpParseError& e) {
      head_ = false;
      return refuse(e.status);
    }
    if (state_ != State::closing) waiting_.append(data);
  }

  /// Refuses a request that comes, but so slowly that it only holds the connection.
  void tooSlow() {
    if (!parser_.started()) {
      began_.reset();
      return;
    }
    const Duration now = site_->time_.seconds();
    if (!began_) began_ = now;
    const SiteOptions& options = site_->options_;
    const Duration took = now - *began_;
    if (!parser_.inBody()) {
      head_ = false;
      if (options.headTimeout > Duration::zero() && took > options.headTimeout) refuse(408);
    } else if (options.minBodyRate > 0 && took > kBodyGrace) {
      const double seconds = std::chrono::duration<double>(took).count();
      if (static_cast<double>(bodyReceived_) < seconds * static_cast<double>(options.minBodyRate)) refuse(408);
    }
  }

  void headReceived(RequestHead& head) {
    keepAlive_ = head.keepAlive;
    head_ = head.method == "HEAD";
    if (!request_ || request_.use_count() > 1) request_ = std::make_shared<Request>();
    Request& r = *request_;
    r.method = std::move(head.method);
    r.version = head.version;
    r.headers = std::move(head.headers);
    r.body.clear();
    std::string_view target = originForm(head.target);
    if (head.target == "*" && r.method == "OPTIONS") target = "*";
    if (target.empty() || !isHost(r.headers.getHeader("Host").value_or(""))) return refuse(400);
    const auto question = target.find('?');
    r.path = target.substr(0, question);
    r.query = question == target.npos ? "" : target.substr(question + 1);
    if (head.contentLength.value_or(0) > site_->options_.maxBody) return refuse(413);
    const bool body = head.chunked || head.contentLength.value_or(0) > 0;
    if (body && r.version >= 11 && hasToken(r.headers, "Expect", "100-continue")) {
      transport().write("HTTP/1.1 100 Continue\r\n\r\n");
    }
  }

  void handle() {
    request_->peer = peer_;
    began_.reset();
    state_ = State::handling;
    std::optional<Reply> reply;
    try {
      reply.emplace(site_->answer(*request_));
    } catch (...) {
      return failed(Failure::current());
    }
    if (auto* response = std::get_if<Response>(&*reply)) return respond(std::move(*response));
    Deferred<Response>& later = std::get<Deferred<Response>>(*reply);
    handling_ = later.canceller();
    // Until it fires they keep what a coroutine uses: the request, and by way of this its handler.
    auto self = std::static_pointer_cast<HTTPChannel>(shared_from_this());
    std::move(later).addBoth([self, request = request_](Result<Response> result) {
      self->handling_ = {};
      if (result.ok()) {
        self->respond(std::move(result).value());
      } else {
        self->failed(result.failure());
      }
      self->readWaiting();
    });
  }

  void failed(const Failure& failure) {
    if (state_ == State::closing) return;  // it was cancelled, as the client has gone
    logger().failure("{method} {path} failed", failure, {{"method", request_->method}, {"path", request_->path}});
    respond(errorPage(500));
  }

  /// After an answer that did not come at once.
  void readWaiting() {
    if (state_ != State::reading || inRead_) return;
    transport().resumeProducing();
    const std::string data = std::exchange(waiting_, {});
    read(data);
    if (halfClosed_ && state_ == State::reading) transport().loseConnection();
  }

  /// Answers a request that cannot be handled, and ends the connection.
  void refuse(int status) {
    keepAlive_ = false;
    linger_ = true;
    respond(errorPage(status));
  }

  void respond(Response response) {
    if (state_ == State::closing) return;
    bool valid = response.status >= 200 && response.status <= 999;
    for (const auto& [name, value] : response.headers) valid = valid && isToken(name) && isHeaderValue(value);
    if (!valid) {
      logger().error("a handler's answer to {method} {path} has an invalid status or header",
                     {{"method", request_->method}, {"path", request_->path}});
      response = errorPage(500);
    }
    if (hasToken(response.headers, "Connection", "close")) keepAlive_ = false;
    writeHead(response);
    if (head_ || response.status == 204 || response.status == 304) response.body.clear();
    const bool small = response.body.size() <= kPiece;
    if (small) out_.append(response.body);
    transport().write(out_);
    written_ += out_.size();
    out_.clear();
    if (small && written_ <= kPiece) return responded();
    state_ = State::sending;
    sending_ = small ? std::string() : std::move(response.body);
    sent_ = 0;
    send();
  }

  void writeHead(const Response& response) {
    std::array<char, 24> store;
    out_.append("HTTP/1.1 ").append(number(static_cast<std::size_t>(response.status), store)).append(1, ' ');
    out_.append(reasonPhrase(response.status)).append("\r\n");
    bool typed = false, dated = false, named = false;
    for (const auto& [name, value] : response.headers) {
      if (equalsIgnoreCase(name, "Content-Length") || equalsIgnoreCase(name, "Transfer-Encoding") ||
          equalsIgnoreCase(name, "Connection")) {
        continue;
      }
      typed = typed || equalsIgnoreCase(name, "Content-Type");
      dated = dated || equalsIgnoreCase(name, "Date");
      named = named || equalsIgnoreCase(name, "Server");
      add(out_, name, value);
    }
    if (!named) add(out_, "Server", "Torsion");
    if (!dated) add(out_, "Date", httpDate());
    if (response.status != 204 && response.status != 304) {
      if (!typed && !response.body.empty()) add(out_, "Content-Type", "text/plain; charset=utf-8");
      add(out_, "Content-Length", number(response.body.size(), store));
    }
    if (!keepAlive_) {
      add(out_, "Connection", "close");
    } else if (request_ && request_->version < 11) {
      add(out_, "Connection", "keep-alive");
    }
    out_.append("\r\n");
  }

  /// Gives the transport the answer in pieces, as it takes them.
  void send() {
    while (state_ == State::sending) {
      active();
      Deferred<void> drained = transport().drained();
      drained.addErrback([](const Failure&) {});  // then connectionLost comes
      if (!drained.called()) {
        drained.addCallback(hold([this] {
          send();
          readWaiting();
        }));
        return;
      }
      written_ = 0;
      if (sent_ == sending_.size()) {
        sending_ = {};
        return responded();
      }
      const std::string_view piece = std::string_view(sending_).substr(sent_, kPiece);
      transport().write(piece);
      sent_ += piece.size();
    }
  }

  void responded() {
    active();
    if (halfClosed_ && waiting_.empty()) keepAlive_ = false;
    state_ = keepAlive_ ? State::reading : State::closing;
    if (keepAlive_) return;
    if (!linger_ || halfClosed_) return transport().loseConnection();
    transport().loseWriteConnection();
    if (idle_.active()) idle_.reset(kLinger);
  }

  std::shared_ptr<Site> site_;
  RequestParser parser_;
  std::shared_ptr<Request> request_;
  Canceller handling_;
  DelayedCall idle_;
  std::string waiting_;  // bytes that came while a request was being answered
  std::string out_, sending_;
  std::size_t sent_ = 0;
  std::size_t written_ = 0;  // since the transport was known to have less than 64 KiB queued
  Address peer_;
  State state_ = State::reading;
  std::optional<Duration> began_;  // the head, or the body, that is coming in
  std::size_t bodyReceived_ = 0;
  bool keepAlive_ = true, head_ = false, linger_ = false, inRead_ = false;
  bool halfClosed_ = false;  // by the client
};

std::shared_ptr<Protocol> Site::buildProtocol(const Address&) {
  return std::make_shared<HTTPChannel>(shared_from_this());
}

void Site::addRoute(std::string method, const std::string& path, Handler handler) {
  if (!path.starts_with('/'))
    throw std::invalid_argument("Site::route: the path '" + path + "' does not start with '/'");
  if (!path.ends_with("/*")) {
    exact_[path].insert_or_assign(std::move(method), std::move(handler));
    return;
  }
  const std::string prefix = path.substr(0, path.size() - 1);
  auto place = std::find_if(prefixes_.begin(), prefixes_.end(), [&](const auto& p) { return p.first == prefix; });
  if (place == prefixes_.end()) {
    place =
        std::find_if(prefixes_.begin(), prefixes_.end(), [&](const auto& p) { return p.first.size() < prefix.size(); });
    place = prefixes_.emplace(place, prefix, Methods());
  }
  place->second.insert_or_assign(std::move(method), std::move(handler));
}

Site::Methods* Site::find(std::string_view path) {
  if (const auto exact = exact_.find(path); exact != exact_.end()) return &exact->second;
  for (auto& [prefix, methods] : prefixes_) {
    if (path.starts_with(prefix)) return &methods;
  }
  return nullptr;
}

Reply Site::answer(const Request& request) {
  if (!knownMethod(request.method)) return errorPage(501);
  if (request.path == "*") return Response{.status = 204};
  Methods* methods = find(request.path);
  if (!methods) return errorPage(404);
  auto handler = methods->find(request.method);
  if (handler == methods->end() && request.method == "HEAD") handler = methods->find("GET");
  if (handler != methods->end()) return handler->second(request);
  Response refusal = errorPage(405);
  std::string allowed;
  for (const auto& [method, unused] : *methods) {
    allowed.append(allowed.empty() ? "" : ", ").append(method);
    if (method == "GET") allowed.append(", HEAD");
  }
  refusal.headers.addHeader("Allow", allowed);
  return refusal;
}

}  // namespace torsion
