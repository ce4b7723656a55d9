// AMP, the Asynchronous Messaging Protocol: calls with typed arguments and answers, both ways over one connection, any
// number of them under way (twisted.protocols.amp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <deferred/deferred.hpp>
#include <deferred/function.hpp>
#include <deferred/functions.hpp>
#include <protocols/amp_box.hpp>
#include <protocols/amp_command.hpp>
#include <protocols/amp_types.hpp>
#include <protocols/basic.hpp>
#include <reactor/tls.hpp>
#include <reactor/unix.hpp>

namespace torsion::amp {

/// What answers which command (Twisted's CommandLocator). AMP is one itself; one that many connections share is given
/// to their constructors.
class CommandLocator {
 public:
  /// A responder to boxes as they come: what it gives is the answer, what it fails with the error.
  using Responder = UniqueFunction<Deferred<Box>(const Box& question, const std::shared_ptr<DescriptorExchanger>&)>;

  CommandLocator() = default;
  CommandLocator(const CommandLocator&) = delete;
  CommandLocator& operator=(const CommandLocator&) = delete;
  virtual ~CommandLocator() = default;

  /// `responder` answers C from now on. It takes C's Arguments and gives its Response, or a Deferred of it, and may be
  /// a coroutine. What it fails with is sent to the caller if C declares it. Any other exception is logged, the caller
  /// gets UnknownRemoteError, and the connection ends with that exception as this side's reason. So it does, whatever
  /// the exception, if the caller wants no answer.
  template <class C, class F>
  void respond(F responder) {
    if constexpr (!detail::takesArguments<C, F>()) {
      static_assert(detail::takesArguments<C, F>(),
                    "respond: the responder takes the command's Arguments, or nothing if it has none");
    } else if constexpr (!detail::givesResponse<C, F>()) {
      static_assert(detail::givesResponse<C, F>(),
                    "respond: the responder returns the command's Response, or a Deferred of it (void if it has none)");
    } else {
      respondString(C::commandName, [responder = std::move(responder)](
                                        const Box& box, const std::shared_ptr<DescriptorExchanger>& exchanger) mutable {
        return detail::respondTo<C>(responder, box, exchanger);
      });
    }
  }
  /// The same for raw boxes (Twisted's SimpleStringLocator). The answer must have no key that begins with "_".
  void respondString(std::string_view commandName, Responder responder);

  /// What answers the command, or null. It is kept while it runs.
  virtual std::shared_ptr<Responder> locateResponder(std::string_view commandName);

 private:
  std::map<std::string, std::shared_ptr<Responder>, std::less<>> responders_;
};

/// One connection, of which both ends can ask and answer (Twisted's AMP). A command is a struct that both ends have:
///
///   struct Divide {
///     static constexpr std::string_view commandName = "Divide";
///     struct Arguments { std::int64_t numerator, denominator; };
///     struct Response { double result; };
///     static constexpr auto arguments = amp::fields(amp::field("numerator", &Arguments::numerator),
///                                                   amp::field("denominator", &Arguments::denominator));
///     static constexpr auto response = amp::fields(amp::field("result", &Response::result));
///     static constexpr auto errors = amp::errors(amp::error<ZeroDivisionError>("ZERO_DIVISION"));
///   };
///
/// Arguments with their `arguments`, Response with its `response`, and `errors` are left out by a command that has
/// none. A server answers it, and a client asks:
///
///   struct Math : amp::AMP {
///     Math() {
///       respond<Divide>([](Divide::Arguments a) {
///         if (a.denominator == 0) throw ZeroDivisionError("division by zero");
///         return Divide::Response{double(a.numerator) / double(a.denominator)};
///       });
///     }
///   };
///   reactor().listenTCP(1234, forProtocol<Math>());
///
///   amp->callRemote<Divide>({1, 2})
///       .addCallback([](Divide::Response r) { return r.result; })
///       .addErrback([](const ZeroDivisionError&) { return std::numeric_limits<double>::infinity(); });
///
/// The protocol is kept until all its responders have answered. A class that overrides connectionLost or dataReceived
/// must call AMP's. What breaks the protocol, or a limit, ends the connection with an AmpError as the reason.
class AMP : public MessageReceiver, public CommandLocator, public FileDescriptorReceiver {
 public:
  /// `locator`, if there is one, is asked for what this has no responder for.
  explicit AMP(std::shared_ptr<CommandLocator> locator = nullptr);

  /// Asks the peer. The Deferred fires with C's Response (void if it has none). It fails with an error that C declares,
  /// UnknownRemoteError for any other, UnhandledCommand if the peer has no responder; with TooLong, BadValue or another
  /// AmpError for arguments that cannot be sent (nothing is sent then) or an answer that is none; with the reason if
  /// the connection ends before the answer, and at once if it has ended. cancel() forgets the answer; the peer is not
  /// told. If C::requiresAnswer is false it returns nothing, throws for arguments that cannot be sent, and does nothing
  /// if the connection has ended.
  template <class C>
    requires(!std::is_void_v<detail::Arguments<C>>)
  auto callRemote(detail::Arguments<C> arguments) {
    return call<C>(
        [&](DescriptorExchanger& exchanger) { return detail::objectToBox(arguments, C::arguments, exchanger); });
  }
  template <class C>
    requires(std::is_void_v<detail::Arguments<C>>)
  auto callRemote() {
    return call<C>([](DescriptorExchanger&) { return Box(); });
  }

  /// The same with raw boxes. Fails with RemoteAmpError, or as callRemote.
  Deferred<Box> callRemoteString(std::string_view commandName, Box arguments = {});
  /// The same for a command that wants no answer. Throws TooLong and the like.
  void callRemoteStringNoAnswer(std::string_view commandName, Box arguments = {});

  /// Asks the peer to go on with TLS, with this side using `options`. All that is sent after this call waits for it.
  /// Fires when the peer has agreed and the handshake begins (see TLSTransport for how one fails). If the peer refuses,
  /// the connection ends, so that nothing goes out in clear. Fails with OnlyOneTLS the second time.
  Deferred<void> startTLS(TLSOptions options, Time& time = reactor());
  /// From now on the peer may ask for TLS, this side using `options`.
  void acceptStartTLS(TLSOptions options, Time& time = reactor());

  /// The limits for the peer. Of its questions so many may wait for this side's answers: 1,000 at first.
  void setMaxQuestions(std::size_t count) noexcept { maxQuestions_ = count; }
  /// A box of its may have so many bytes: 1 MiB at first.
  void setMaxBoxLength(std::size_t bytes) noexcept { parser_.maxLength = bytes; }
  /// And so many keys: 1,000 at first.
  void setMaxKeys(std::size_t count) noexcept { parser_.maxKeys = count; }
  /// If it asks, and leaves more than so many bytes unread, the connection ends, with ConnectionLost: 64 MiB at first.
  /// 0: no limit. Counts from the first question on, and calls of this side's, too.
  void setMaxUnsent(std::size_t bytes) noexcept { maxUnsent_ = bytes; }

  /// Sends a box. Throws NoEmptyBoxes, TooLong and the like.
  void sendBox(const Box& box);
  /// A box that came; override it to use boxes without commands.
  virtual void ampBoxReceived(Box box);

  void connectionLost(const Failure& reason) override;
  void fileDescriptorReceived(int fd) override;

 protected:
  bool receive() override;

 private:
  struct StartingTLS {
    std::uint64_t tag;
    TLSOptions options;
    Time* time;
    std::string unsent;
  };
  struct AcceptedTLS {
    TLSOptions options;
    Time* time;
  };

  template <class C, class MakeBox>
  auto call(MakeBox makeBox) {
    descriptors_->clear();
    if constexpr (!detail::requiresAnswer<C>()) {
      callRemoteStringNoAnswer(C::commandName, makeBox(*descriptors_));
    } else {
      using R = detail::Response<C>;
      Box box;
      try {
        box = makeBox(*descriptors_);
      } catch (...) {
        return fail<R>(Failure::current());
      }
      return callRemoteString(C::commandName, std::move(box))
          .addCallbacks([descriptors = descriptors_](
                            const Box& answer) { return detail::parseResponse<C>(answer, *descriptors); },
                        [](const RemoteAmpError& remote) { return detail::toLocalError<C>(remote); });
    }
  }
  void answerReceived(std::string_view tag, Box box);
  void errorReceived(std::string_view tag, const Box& box);
  void commandReceived(Box box);
  Deferred<Box> dispatchCommand(const Box& box);
  void answer(const std::string& tag, Result<Box> result);
  void sendError(const std::string& tag, std::string code, std::string description);
  void startTLSAsked(const std::string& tag);
  void beginTLS(const TLSOptions& options, Time& time);
  std::optional<Resolver<Box>> takeQuestion(std::uint64_t tag);
  void unhandledError(const Failure& failure);

  std::shared_ptr<CommandLocator> locator_;
  detail::BoxParser parser_;
  std::shared_ptr<DescriptorExchanger> descriptors_ = std::make_shared<DescriptorExchanger>();
  std::map<std::uint64_t, Resolver<Box>> questions_;  // ours, by tag
  std::uint64_t lastTag_ = 0;
  std::size_t unanswered_ = 0;  // the peer's
  std::size_t maxQuestions_ = 1000;
  std::size_t maxUnsent_ = std::size_t{64} << 20;
  std::optional<Failure> reason_;  // once the connection is lost
  std::optional<StartingTLS> starting_;
  std::optional<AcceptedTLS> accepted_;
};

}  // namespace torsion::amp
