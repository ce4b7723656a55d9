#include <reactor/tls.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <deferred/detail/require.hpp>
#include <deferred/detail/take.hpp>
#include <reactor/detail/tls_context.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion {
namespace {

using detail::takeOpenSSLError;

constexpr std::size_t kBufferSize = 64 * 1024;  // a transport's: above it producers are paused
constexpr std::size_t kRecordSize = 17 * 1024;  // no TLS record is larger
constexpr std::size_t kRecordPayload = 16 * 1024;
constexpr Duration kCloseTimeout = std::chrono::seconds(5);

const Logger& logger() {
  static const Logger log("torsion.tls");
  return log;
}

/// Room to decrypt and to encrypt into: the thread's, not the connection's. TLS inside TLS has one out while it takes
/// another.
class Scratch {
 public:
  explicit Scratch(std::size_t size = 0) : size_(std::max(size, kUsualSize)) {
    if (size_ == kUsualSize && !spare().empty()) {
      data_ = std::move(spare().back());
      spare().pop_back();
    } else {
      data_ = std::make_unique_for_overwrite<char[]>(size_);
    }
  }
  ~Scratch() {
    if (size_ == kUsualSize && spare().size() < spare().capacity()) spare().push_back(std::move(data_));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  char* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::size_t kUsualSize = 96 * 1024;  // what a socket gives at once, and a record
  static std::vector<std::unique_ptr<char[]>>& spare() {
    static thread_local auto buffers = [] {
      std::vector<std::unique_ptr<char[]>> made;
      made.reserve(2);
      return made;
    }();
    return buffers;
  }
  std::size_t size_;
  std::unique_ptr<char[]> data_;
};

/// Protocol to the lower transport, transport to the protocol above. OpenSSL reads from the bytes that dataReceived got
/// and writes to the lower transport, without buffers between.
///
/// No method of the protocol above is ever called from inside an SSL_* call: it may call any method of this class.
class TLSProtocol final : public Protocol, public TLSTransport {
 public:
  TLSProtocol(const TLSOptions& options, std::shared_ptr<Protocol> wrapped, Time& time)
      : options_(options),
        time_(time),
        verification_{.hostname = options.hostname()},
        ssl_(options_.context().newConnection(verification_)),
        wrapped_(std::move(wrapped)),
        lowerProducer_(*this) {
    BIO* bio = BIO_new(bioMethod());
    if (!bio) throw std::bad_alloc();
    BIO_set_data(bio, this);
    SSL_set_bio(ssl_.get(), bio, bio);
  }
  ~TLSProtocol() override { stopCalls(); }

  // The protocol below.

  void connectionMade() override {
    limitHandshake();
    std::exchange(wrapped_, nullptr)->makeConnection(*this);
    if (!finished_) continueHandshake();
  }

  /// In place of connectionMade, for a protocol that was connected without TLS.
  void startTLS() {
    limitHandshake();
    std::exchange(wrapped_, nullptr)->attachTransport(*this);
    continueHandshake();
    // On a later turn: this is a call of the protocol above.
    if (!unread_.empty() && !finished_) schedule(resumeCall_, Duration::zero(), [this] { readUnread(); });
  }
  /// For startTLS(): the protocol above had received this of the peer's handshake.
  void setReceived(std::string received) { unread_ = std::move(received); }
  std::string takeUnread() override { return detail::take(unread_); }

  void dataReceived(std::string_view data) override {
    if (finished_) return;
    if (handshakeDone_ && readPaused_) {
      unread_.append(data);
    } else if (!unread_.empty()) {
      unread_.append(data);
      process(detail::take(unread_));
    } else {
      process(data);
    }
  }

  void connectionLost(const Failure& reason) override {
    stopCalls();
    const Failure why = whyLost(reason_ ? *reason_ : reasonFor(reason));
    finished_ = disconnecting_ = lost_ = true;
    pending_.clear();
    producerAtLower_ = false;
    stopProducer();
    for (auto& waiter : std::exchange(waiters_, {})) waiter.errback(why);
    struct Detach {
      TLSProtocol& tls;
      ~Detach() {
        if (tls.protocol()) tls.protocol()->detachTransport();
        tls.ssl_.reset();
      }
    } detach{*this};
    const auto kept = keepProtocol();
    if (protocol()) protocol()->connectionLost(why);
  }

  // The transport above.

  void write(std::string_view data) override {
    if (data.empty() || finished_ || closeSent_ || (disconnecting_ && !producer_)) return;
    if (!open_ || writeBlocked_) return hold(data);
    if (pending_.size() + data.size() < kRecordPayload) {
      hold(data);
      if (inTurn_ == 0 && !finished_ && !flushCall_.active() &&
          !schedule(flushCall_, Duration::zero(), [this] { flushPending(); })) {
        flushPending();
      }
      return;
    }
    if (!pending_.empty()) {  // a full record; of a large rest no copy is made
      std::size_t fits = kRecordPayload - pending_.size();
      pending_.append(data.substr(0, fits));
      data.remove_prefix(fits);
      encryptPending();
      return write(data);
    }
    encrypt(data);
  }

  void writeSequence(std::span<const std::string_view> pieces) override {
    for (std::string_view piece : pieces) write(piece);
  }

  void loseConnection() override {
    if (disconnecting_) return;
    disconnecting_ = true;
    closeWhenWritten();
  }

  void abortConnection() override {
    if (lost_) return;
    finished_ = disconnecting_ = true;
    pending_.clear();
    transport().abortConnection();
  }

  bool disconnecting() const noexcept override { return disconnecting_; }
  Address getPeer() const override { return transport().getPeer(); }
  Address getHost() const override { return transport().getHost(); }

  void registerProducer(Producer& producer, bool streaming) override {
    if (producer_) throw std::logic_error("registerProducer: this transport has a producer; unregister it first");
    if (disconnecting_) return producer.stopProducing();
    producer_ = &producer;
    streaming_ = streaming;
    producerPaused_ = false;
    if (open_) {
      registerAtLower();
    } else if (!streaming) {
      callProducer(&Producer::resumeProducing);
    } else if (pending_.size() > kBufferSize) {
      pauseProducer();
    }
  }

  void unregisterProducer() override {
    if (!producer_) return;
    producer_ = nullptr;
    flushWritten();
    unregisterAtLower();
    if (disconnecting_) closeWhenWritten();
  }

  Deferred<void> drained() override {
    flushWritten();
    if (open_ || lost_ || pending_.size() < kBufferSize) return transport().drained();
    return waiters_.emplace_back().deferred();
  }

  void setWriteLimit(std::size_t bytes) override {
    writeLimit_ = bytes;
    transport().setWriteLimit(bytes);
  }

  void setTcpNoDelay(bool on) override { transport().setTcpNoDelay(on); }
  bool getTcpNoDelay() const override { return transport().getTcpNoDelay(); }
  void setTcpKeepAlive(bool on) override { transport().setTcpKeepAlive(on); }
  bool getTcpKeepAlive() const override { return transport().getTcpKeepAlive(); }
  Transport* lowerTransport() noexcept override { return &transport(); }
  std::source_location where() const noexcept override { return transport().where(); }

  // The handshake goes on while the protocol above reads nothing, so that it can write.
  void pauseProducing() override {
    if (disconnecting_) return;
    if (handshakeDone_) stop(resumeCall_);
    if (std::exchange(readPaused_, true)) return;
    if (open_) transport().pauseProducing();
  }

  void resumeProducing() override {
    if (disconnecting_) return;
    // Before TLS was started somebody may have paused the transport below.
    if (!std::exchange(readPaused_, false) || !open_) return transport().resumeProducing();
    if (unread_.empty()) return transport().resumeProducing();
    readPaused_ = true;  // until a later turn: this may be a call from the protocol above
    if (!resumeCall_.active()) schedule(resumeCall_, Duration::zero(), [this] { readUnread(); });
  }

  std::optional<Certificate> getPeerCertificate() const override {
    X509* certificate = handshakeDone_ && ssl_ ? SSL_get0_peer_certificate(ssl_.get()) : nullptr;
    if (!certificate) return std::nullopt;
    return detail::describeCertificate(certificate);
  }
  std::string negotiatedProtocol() const override {
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    if (handshakeDone_ && ssl_) SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return std::string(reinterpret_cast<const char*>(name), size);
  }
  std::string protocolVersion() const override { return handshakeDone_ && ssl_ ? SSL_get_version(ssl_.get()) : ""; }
  std::string cipherName() const override { return handshakeDone_ && ssl_ ? SSL_get_cipher_name(ssl_.get()) : ""; }
  bool sessionReused() const override { return handshakeDone_ && ssl_ && SSL_session_reused(ssl_.get()) == 1; }

 private:
  /// What the lower transport knows as the producer.
  class LowerProducer final : public Producer {
   public:
    explicit LowerProducer(TLSProtocol& tls) noexcept : tls_(tls) {}
    void pauseProducing() override {
      tls_.lowerFull_ = true;
      if (!tls_.inSSL_) tls_.pauseProducer();
    }
    void resumeProducing() override {
      tls_.lowerFull_ = false;
      Turn turn(tls_);
      if (tls_.streaming_) {
        tls_.resumeProducer();
      } else {
        tls_.callProducer(&Producer::resumeProducing);
      }
    }
    void stopProducing() override {
      tls_.producerAtLower_ = false;
      tls_.stopProducer();
    }

   private:
    TLSProtocol& tls_;
  };

  /// A call from below. What is written in it leaves at its end, and waits for no later turn.
  class Turn {
   public:
    explicit Turn(TLSProtocol& tls) noexcept : tls_(tls) { ++tls_.inTurn_; }
    ~Turn() {
      if (--tls_.inTurn_ == 0) tls_.flushWritten();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    TLSProtocol& tls_;
  };

  /// While it lives, the records that OpenSSL makes of `size` bytes are gathered, if they are more than one: the lower
  /// transport gets them at once, and need not make a system call for each.
  class Gatherer {
   public:
    Gatherer(TLSProtocol& tls, std::size_t size) : tls_(tls) {
      if (size <= kRecordPayload) return;
      room_.emplace();
      tls_.gatherer_ = this;
    }
    ~Gatherer() { tls_.gatherer_ = nullptr; }
    Gatherer(const Gatherer&) = delete;
    Gatherer& operator=(const Gatherer&) = delete;

    void add(std::string_view record) {
      if (room_->size() - used_ < record.size()) send();
      std::memcpy(room_->data() + used_, record.data(), record.size());
      used_ += record.size();
    }
    void send() {
      if (used_ != 0) tls_.transport().write({room_->data(), std::exchange(used_, 0)});
    }

   private:
    TLSProtocol& tls_;
    std::optional<Scratch> room_;
    std::size_t used_ = 0;
  };

  void writeBelow(std::string_view record) {
    if (gatherer_) {
      gatherer_->add(record);
    } else {
      transport().write(record);
    }
  }

  static const BIO_METHOD* bioMethod() {
    static const BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "torsion transport");
      if (!made) throw std::bad_alloc();
      BIO_meth_set_create(made, [](BIO* bio) {
        BIO_set_init(bio, 1);
        return 1;
      });
      BIO_meth_set_read_ex(made, [](BIO* bio, char* out, std::size_t size, std::size_t* got) {
        auto& input = static_cast<TLSProtocol*>(BIO_get_data(bio))->input_;
        BIO_clear_retry_flags(bio);
        if (input.empty()) {
          BIO_set_retry_read(bio);
          return 0;
        }
        *got = std::min(size, input.size());
        std::memcpy(out, input.data(), *got);
        input.remove_prefix(*got);
        return 1;
      });
      BIO_meth_set_write_ex(made, [](BIO* bio, const char* data, std::size_t size, std::size_t* written) {
        BIO_clear_retry_flags(bio);
        try {
          static_cast<TLSProtocol*>(BIO_get_data(bio))->writeBelow({data, size});
        } catch (...) {  // memory; no exception may pass through OpenSSL
          return 0;
        }
        *written = size;
        return 1;
      });
      BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long { return command == BIO_CTRL_FLUSH; });
      return made;
    }();
    return method;
  }

  /// Makes one call of an SSL_* function and returns its result: the error, SSL_ERROR_NONE if it succeeded.
  template <class F>
  int callSSL(F function) {
    if (ERR_peek_error() != 0) ERR_clear_error();  // clearing is slow
    inSSL_ = true;
    int result = function(ssl_.get());
    inSSL_ = false;
    return result > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), result);
  }

  static bool isWaiting(int error) noexcept { return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE; }

  void process(std::string_view data) {
    Turn turn(*this);
    input_ = data;
    struct Forget {
      std::string_view& input;
      ~Forget() { input = {}; }
    } forget{input_};
    if (!handshakeDone_) continueHandshake();
    if (!handshakeDone_ || finished_) return;
    if (readPaused_) {
      unread_.append(input_);
    } else {
      readPlaintext();
    }
  }

  void continueHandshake() {
    int error = callSSL(SSL_do_handshake);
    if (isWaiting(error)) return;
    if (verification_.thrown) return failed("what selects the options of a TLS server", *verification_.thrown);
    if (error != SSL_ERROR_NONE) return fail(handshakeFailure());
    handshakeDone_ = true;
    stop(handshakeTimer_);
    {
      const auto kept = keepProtocol();
      if (auto* listener = dynamic_cast<HandshakeListener*>(protocol())) listener->handshakeCompleted();
    }
    if (finished_) return;
    open();
  }

  /// Sends what waited for the handshake.
  void open() {
    open_ = true;
    if (readPaused_) transport().pauseProducing();
    if (producer_ && streaming_) registerAtLower();
    flushPending();
    if (producer_ && !streaming_ && !finished_) registerAtLower();
    for (auto& waiter : std::exchange(waiters_, {})) transport().drained().chainDeferred(std::move(waiter));
  }

  void limitHandshake() {
    const Duration limit = options_.context().handshakeTimeout();
    if (limit == Duration::zero()) return;
    schedule(handshakeTimer_, limit, [this, limit] {
      if (finished_) return;
      reason_ = ConnectTimeoutError(
          "The TLS handshake was not finished after " +
          std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count()) +
          " ms (handshakeTimeout). Is the peer overloaded, or does it wait for something else than TLS on this port?");
      abortConnection();
    });
  }

  void encryptPending() {
    writeBlocked_ = false;
    stop(flushCall_);
    encrypt(std::exchange(pending_, {}));
  }

  /// Sends now what waits for the end of the turn.
  void flushWritten() {
    if (open_ && !finished_ && !writeBlocked_ && !pending_.empty()) encryptPending();
  }

  void flushPending() {
    encryptPending();
    if (finished_ || writeBlocked_) return;
    if (!lowerFull_) resumeProducer();
    if (disconnecting_) closeWhenWritten();
  }

  void encrypt(std::string_view data) {
    int error = SSL_ERROR_NONE;
    Gatherer gatherer(*this, data.size());
    while (!data.empty() && error == SSL_ERROR_NONE) {
      std::size_t written = 0;
      error = callSSL([&](SSL* ssl) { return SSL_write_ex(ssl, data.data(), data.size(), &written); });
      data.remove_prefix(written);
    }
    inSSL_ = true;  // the producer is paused after this
    gatherer.send();
    inSSL_ = false;
    if (isWaiting(error)) {
      writeBlocked_ = true;
      hold(data);
    } else if (error != SSL_ERROR_NONE) {
      fail(brokenFailure(error));
    }
    if (lowerFull_) pauseProducer();
  }

  void hold(std::string_view data) {
    pending_.append(data);
    if (writeLimit_ != 0 && pending_.size() > writeLimit_) {
      reason_ = ConnectionLost("More than " + std::to_string(writeLimit_) +
                               " bytes waited to be sent (the limit given to setWriteLimit).");
      return abortConnection();
    }
    if (pending_.size() > kBufferSize) pauseProducer();
  }

  void readPlaintext() {
    // No more plaintext can come out than went in, with what OpenSSL has of the record before.
    Scratch plain(input_.size() + kRecordSize);
    std::size_t size = 0;
    int error = SSL_ERROR_NONE;
    // The last call, which would only find that there is no more, is spared.
    while (error == SSL_ERROR_NONE && size < plain.size() && (!input_.empty() || SSL_pending(ssl_.get()) > 0)) {
      std::size_t got = 0;
      error = callSSL([&](SSL* ssl) { return SSL_read_ex(ssl, plain.data() + size, plain.size() - size, &got); });
      if (error == SSL_ERROR_NONE) size += got;
    }
    std::optional<Failure> failure;
    if (error != SSL_ERROR_NONE && error != SSL_ERROR_ZERO_RETURN && !isWaiting(error)) failure = brokenFailure(error);
    if (size > 0) {
      dataSeen_ = true;
      if (!disconnecting_) deliver({plain.data(), size});
    }
    if (finished_) return;
    if (failure) return fail(*failure);
    if (error == SSL_ERROR_ZERO_RETURN) return answerCloseNotify();
    if (writeBlocked_) flushPending();
  }

  void readUnread() {
    readPaused_ = false;
    try {
      process(std::exchange(unread_, {}));
    } catch (...) {
      failed("a protocol");
    }
    if (!readPaused_ && !finished_) transport().resumeProducing();
  }

  void closeWhenWritten() {
    if (producer_ || finished_ || closeSent_) return;
    if (!handshakeDone_ && pending_.empty()) return closeLower();
    if (!open_ || writeBlocked_) return;
    flushWritten();
    if (finished_ || writeBlocked_) return;
    closeSent_ = true;
    int error = callSSL(SSL_shutdown);
    if (error == SSL_ERROR_NONE) return closeLower();  // the peer's has come already
    // What the peer has sent until it sees our close_notify is dropped, and its own is waited for.
    if (!schedule(closeTimer_, kCloseTimeout, [this] { closeLower(); })) closeLower();
    if (finished_ || !std::exchange(readPaused_, false)) return;
    stop(resumeCall_);
    process(std::exchange(unread_, {}));
    if (!finished_) transport().resumeProducing();
  }

  void answerCloseNotify() {
    flushWritten();
    if (finished_) return;
    disconnecting_ = true;
    if (!std::exchange(closeSent_, true)) callSSL(SSL_shutdown);
    closeLower();
  }

  /// Closes the lower transport, which sends first what it has.
  void closeLower() {
    if (std::exchange(finished_, true)) return;
    stopCalls();
    unregisterAtLower();
    transport().loseConnection();
  }

  /// Ends the connection for this reason. OpenSSL has written an alert, which gets a little time to leave.
  void fail(Failure failure) {
    if (finished_) return;
    reason_ = std::move(failure);
    disconnecting_ = true;
    pending_.clear();
    closeLower();
    if (!lost_) schedule(closeTimer_, kCloseTimeout, [this] { transport().abortConnection(); });
  }

  /// False if the reactor is being destroyed, and calls nothing any more.
  template <class F>
  bool schedule(DelayedCall& call, Duration delay, F f) {
    stop(call);
    try {
      const auto kept = [this, f] {
        const auto self = weak_from_this().lock();
        f();
      };
      call = time_.callLater(delay, kept, transport().where());
      return true;
    } catch (const ReactorNotRunning&) {
      return false;
    }
  }
  static void stop(DelayedCall& call) {
    if (call.active()) call.cancel();
  }
  void stopCalls() {
    for (DelayedCall* call : {&closeTimer_, &handshakeTimer_, &resumeCall_, &flushCall_}) stop(*call);
  }

  void registerAtLower() {
    producerAtLower_ = true;
    lowerFull_ = false;
    transport().registerProducer(lowerProducer_, streaming_);
  }
  void unregisterAtLower() {
    if (std::exchange(producerAtLower_, false)) transport().unregisterProducer();
    lowerFull_ = false;
  }
  void pauseProducer() {
    if (producer_ && streaming_ && !std::exchange(producerPaused_, true)) callProducer(&Producer::pauseProducing);
  }
  void resumeProducer() {
    if (std::exchange(producerPaused_, false)) callProducer(&Producer::resumeProducing);
  }
  void stopProducer() {
    callProducer(&Producer::stopProducing);
    producer_ = nullptr;
  }
  void callProducer(void (Producer::*method)()) {
    if (!producer_) return;
    try {
      (producer_->*method)();
    } catch (...) {
      failed("a producer");
    }
  }
  /// What the protocol above or its producer throws ends the connection.
  void failed(const char* what) { failed(what, Failure::current()); }
  void failed(const char* what, const Failure& failure) {
    logger().failure("Unhandled error in {what}; the connection with {peer} ends", failure,
                     {{"what", what}, {"peer", describe(getPeer())}});
    fail(failure);
  }

  Failure handshakeFailure() const {
    unsigned long error = ERR_peek_last_error();
    int code = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    std::string text = takeOpenSSLError();
    if (!verification_.problem.empty()) return VerifyError(verification_.problem);
    switch (code) {
      case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return VerifyError("The peer's certificate is refused.");
      case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return VerifyError("The client showed no certificate, and this server requires one.");
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_HTTP_REQUEST:
      case SSL_R_HTTPS_PROXY_REQUEST:
      case SSL_R_UNEXPECTED_MESSAGE:
        text += "; does the peer speak TLS on this port?";
    }
    return code > SSL_AD_REASON_OFFSET ? alertFailure(code - SSL_AD_REASON_OFFSET)
                                       : Failure(SSLError("The TLS handshake failed: " + text));
  }

  static Failure alertFailure(int alert) {
    std::string text = "The peer refused the TLS connection: " + std::string(SSL_alert_desc_string_long(alert));
    switch (alert) {
      case SSL_AD_BAD_CERTIFICATE:
      case SSL_AD_UNSUPPORTED_CERTIFICATE:
      case SSL_AD_CERTIFICATE_REVOKED:
      case SSL_AD_CERTIFICATE_EXPIRED:
      case SSL_AD_CERTIFICATE_UNKNOWN:
      case SSL_AD_UNKNOWN_CA:
        text += " (it does not accept the certificate of this side)";
        break;
      case TLS13_AD_CERTIFICATE_REQUIRED:
        text += " (it wants a certificate of this side)";
        break;
    }
    return SSLError(text);
  }

  /// Why a call failed after the handshake. A TLS 1.3 client has finished its handshake before the server judges its
  /// certificate, so an alert that comes first of all is still a refusal.
  Failure brokenFailure(int error) const {
    unsigned long last = ERR_peek_last_error();
    int code = ERR_GET_LIB(last) == ERR_LIB_SSL ? ERR_GET_REASON(last) : 0;
    std::string text = error == SSL_ERROR_SSL ? takeOpenSSLError() : "out of memory";
    if (code > SSL_AD_REASON_OFFSET && !dataSeen_) return alertFailure(code - SSL_AD_REASON_OFFSET);
    return ConnectionLost("The TLS connection broke: " + text);
  }

  /// What the end of the lower connection means.
  Failure reasonFor(const Failure& lower) const {
    if (finished_ || closeSent_ || !lower.check<ConnectionDone>()) return lower;
    if (!handshakeDone_) {
      return SSLError(
          "The peer closed the connection in the middle of the TLS handshake; does it speak TLS on this port?");
    }
    return ConnectionLost(
        "The connection was truncated: it was closed without TLS's close_notify, so data may be missing.");
  }

  TLSOptions options_;
  Time& time_;
  detail::Verification verification_;
  detail::SSLPointer ssl_;
  std::shared_ptr<Protocol> wrapped_;  // until connectionMade: then it is protocol(), which the base keeps
  LowerProducer lowerProducer_;

  std::string_view input_;               // of what dataReceived got, what OpenSSL has not read
  std::string unread_;                   // ciphertext that came while reading was paused
  std::string pending_;                  // plaintext that waits for the handshake, or for the end of the turn
  std::size_t writeLimit_ = 0;           // of pending_; the lower transport minds its own
  std::optional<Failure> reason_;        // for connectionLost, where this side knows better than the lower transport
  std::vector<Resolver<void>> waiters_;  // of drained()
  DelayedCall closeTimer_;
  DelayedCall handshakeTimer_;
  DelayedCall resumeCall_;
  DelayedCall flushCall_;  // for small writes, at the end of the turn
  Producer* producer_ = nullptr;
  Gatherer* gatherer_ = nullptr;  // while one lives that gathers

  bool handshakeDone_ = false;
  bool open_ = false;           // the handshake is done and its listener has returned: writes go out
  bool disconnecting_ = false;  // loseConnection or the like: the protocol above gets no more data
  bool closeSent_ = false;      // our close_notify
  bool finished_ = false;       // the lower transport is closing: nothing more is read or written
  bool lost_ = false;           // connectionLost has come
  bool readPaused_ = false;
  bool dataSeen_ = false;
  bool writeBlocked_ = false;  // OpenSSL must read before it can write
  int inTurn_ = 0;
  bool inSSL_ = false;
  bool streaming_ = false;
  bool producerPaused_ = false;
  bool producerAtLower_ = false;
  bool lowerFull_ = false;
};

template <class Base>
class TLSFactory : public Base {
 public:
  TLSFactory(TLSOptions options, std::shared_ptr<Base> factory, Time& time)
      : factory_(detail::required(std::move(factory), "tlsFactory: there is no factory")),
        options_(std::move(options)),
        time_(time) {}

  std::shared_ptr<Protocol> buildProtocol(const Address& peer) override {
    std::shared_ptr<Protocol> wrapped = factory_->buildProtocol(peer);
    return wrapped ? wrap(std::move(wrapped)) : nullptr;
  }
  bool clientSpeaksFirst() const noexcept override { return true; }
  void startFactory() override { factory_->doStart(); }
  void stopFactory() override { factory_->doStop(); }

 protected:
  std::shared_ptr<Protocol> wrap(std::shared_ptr<Protocol> wrapped) const {
    return std::make_shared<TLSProtocol>(options_, std::move(wrapped), time_);
  }
  std::shared_ptr<Base> factory_;

 private:
  TLSOptions options_;
  Time& time_;
};

class TLSClientFactory final : public TLSFactory<ClientFactory> {
 public:
  using TLSFactory::TLSFactory;
  void startedConnecting(Connector& connector) override { factory_->startedConnecting(connector); }
  void clientConnectionFailed(Connector& connector, const Failure& reason) override {
    factory_->clientConnectionFailed(connector, reason);
  }
  void clientConnectionLost(Connector& connector, const Failure& reason) override {
    factory_->clientConnectionLost(connector, reason);
  }
};

class TLSClientEndpoint final : public StreamClientEndpoint {
 public:
  TLSClientEndpoint(TLSOptions options, std::shared_ptr<StreamClientEndpoint> endpoint, Time& time)
      : options_(std::move(options)), endpoint_(std::move(endpoint)), time_(time) {}

  Deferred<std::shared_ptr<Protocol>> connect(std::shared_ptr<Factory> factory,
                                              std::source_location where = std::source_location::current()) override {
    /// Remembers what is below TLS, which has let go of it if the connection is gone already.
    struct Remembering final : TLSFactory<Factory> {
      using TLSFactory::TLSFactory;
      std::shared_ptr<Protocol> buildProtocol(const Address& peer) override {
        built = factory_->buildProtocol(peer);
        return built ? wrap(built) : nullptr;
      }
      std::shared_ptr<Protocol> built;
    };
    auto wrapping = std::make_shared<Remembering>(options_, std::move(factory), time_);
    return endpoint_->connect(wrapping, where).addCallback([wrapping](std::shared_ptr<Protocol>) {
      return std::move(wrapping->built);
    });
  }

 private:
  TLSOptions options_;
  std::shared_ptr<StreamClientEndpoint> endpoint_;
  Time& time_;
};

}  // namespace

TLSOptions TLSOptions::forHostname(const std::string& hostname) const {
  return detail::TLSContext::withHostname(context_, hostname);
}

TLSOptions optionsForClientTLS(const std::string& hostname, const ClientTLS& options) {
  return detail::TLSContext::client(hostname, options);
}

TLSOptions optionsForServerTLS(const CertificateOptions& options) {
  return detail::TLSContext::server(options);
}

TLSOptions selectServerTLS(std::function<TLSOptions(const std::string& name)> select) {
  return detail::TLSContext::selecting(std::move(select));
}

TLSOptions selectServerTLS(TLSOptions otherwise, std::map<std::string, TLSOptions> byName) {
  auto check = [](const TLSOptions& options) {
    if (options.isClient()) throw std::invalid_argument("selectServerTLS: these are options of a client");
  };
  check(otherwise);
  std::map<std::string, TLSOptions> table;
  for (auto& [name, options] : byName) {
    check(options);
    std::string lower = name;
    for (char& c : lower) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    table.emplace(std::move(lower), options);
  }
  return selectServerTLS([otherwise = std::move(otherwise), table = std::move(table)](const std::string& name) {
    auto found = table.find(name);
    if (found == table.end()) found = table.find("*" + name.substr(std::min(name.find('.'), name.size())));
    return found == table.end() ? otherwise : found->second;
  });
}

std::shared_ptr<ListeningPort> Reactor::listenSSL(PortNumber port, std::shared_ptr<Factory> factory,
                                                  const TLSOptions& options, int backlog, const std::string& interface,
                                                  std::source_location where) {
  return listenTCP(port, tlsFactory(options, std::move(factory), *this), backlog, interface, where);
}

std::shared_ptr<Connector> Reactor::connectSSL(const std::string& host, PortNumber port,
                                               std::shared_ptr<ClientFactory> factory, const TLSOptions& options,
                                               Duration timeout, const std::string& bindAddress,
                                               std::source_location where) {
  return connectTCP(host, port, tlsFactory(options, std::move(factory), *this), timeout, bindAddress, where);
}

void startTLS(Protocol& protocol, const TLSOptions& options, Time& time) {
  Transport& lower = protocol.transport();
  // Owns nothing if nobody owns the protocol: a test's may be on the stack.
  std::shared_ptr<Protocol> wrapped(protocol.weak_from_this().lock(), &protocol);
  auto tls = std::make_shared<TLSProtocol>(options, std::move(wrapped), time);
  if (!lower.delivering()) tls->setReceived(protocol.takeUnread());
  // Else the transport gives it, when its call has returned.
  tls->attachTransport(lower);
  tls->startTLS();
}

std::shared_ptr<Factory> tlsFactory(TLSOptions options, std::shared_ptr<Factory> factory, Time& time) {
  return std::make_shared<TLSFactory<Factory>>(std::move(options), std::move(factory), time);
}

std::shared_ptr<ClientFactory> tlsFactory(TLSOptions options, std::shared_ptr<ClientFactory> factory, Time& time) {
  return std::make_shared<TLSClientFactory>(std::move(options), std::move(factory), time);
}

std::shared_ptr<StreamClientEndpoint> wrapClientTLS(TLSOptions options, std::shared_ptr<StreamClientEndpoint> endpoint,
                                                    Time& time) {
  return std::make_shared<TLSClientEndpoint>(std::move(options), std::move(endpoint), time);
}

}  // namespace torsion
