#include <protocols/amp.hpp>

#include <charconv>
#include <system_error>

#include <reactor/error.hpp>
#include <reactor/logger.hpp>

namespace torsion::amp {
namespace {

const Logger kLog("torsion.amp");

constexpr std::string_view kAsk = "_ask", kAnswer = "_answer", kCommand = "_command", kError = "_error",
                           kErrorCode = "_error_code", kErrorDescription = "_error_description";
constexpr std::string_view kUnhandled = "UNHANDLED", kUnknown = "UNKNOWN", kTLSError = "TLS_ERROR";
constexpr std::string_view kStartTLS = "StartTLS";

std::string hex(std::uint64_t tag) {
  char text[16];
  return {text, std::to_chars(text, text + sizeof text, tag, 16).ptr};
}
// 0, which is no question's tag, if `text` is not what hex() gives.
std::uint64_t tagOf(std::string_view text) {
  std::uint64_t tag = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), tag, 16);
  return error == std::errc() && hex(tag) == text ? tag : 0;
}

const std::string* find(const Box& box, std::string_view key) {
  const auto found = box.find(key);
  return found == box.end() ? nullptr : &found->second;
}

}  // namespace

// ---- CommandLocator

void CommandLocator::respondString(std::string_view commandName, Responder responder) {
  responders_.insert_or_assign(std::string(commandName), std::make_shared<Responder>(std::move(responder)));
}

std::shared_ptr<CommandLocator::Responder> CommandLocator::locateResponder(std::string_view commandName) {
  const auto found = responders_.find(commandName);
  return found == responders_.end() ? nullptr : found->second;
}

// ---- AMP: asking

AMP::AMP(std::shared_ptr<CommandLocator> locator) : locator_(std::move(locator)) {
  parser_.maxLength = std::size_t{1} << 20;
  parser_.maxKeys = 1000;
}

Deferred<Box> AMP::callRemoteString(std::string_view commandName, Box arguments) {
  if (reason_) return fail<Box>(*reason_);
  if (!connected()) return fail<Box>(ConnectionLost("callRemote: there is no connection yet"));
  const std::uint64_t tag = ++lastTag_;
  const Resolver<Box> question;
  arguments.insert_or_assign(std::string(kCommand), commandName);
  arguments.insert_or_assign(std::string(kAsk), hex(tag));
  try {
    sendBox(arguments);
  } catch (...) {
    return fail<Box>(Failure::current());
  }
  questions_.emplace(tag, question);
  return question.deferred();
}

void AMP::callRemoteStringNoAnswer(std::string_view commandName, Box arguments) {
  arguments.insert_or_assign(std::string(kCommand), commandName);
  sendBox(arguments);
}

void AMP::sendBox(const Box& box) {
  // Those that go with this box, or would have gone.
  struct Clear {
    DescriptorExchanger& descriptors;
    ~Clear() { descriptors.clear(); }
  } clear{*descriptors_};
  if (box.empty()) throw NoEmptyBoxes("an empty box cannot be sent");
  const std::string text = serialize(box);
  if (!descriptors_->outgoing().empty() && connected()) {
    UNIXTransport* transport = UNIXTransport::from(this->transport());
    if (!transport) throw BadValue("descriptors can be sent over UNIX sockets alone");
    for (const Descriptor& descriptor : descriptors_->outgoing()) transport->sendFileDescriptor(descriptor.fileno());
    descriptors_->sent();
  }
  if (starting_) {
    starting_->unsent += text;
  } else {
    transport().write(text);
  }
}

std::optional<Resolver<Box>> AMP::takeQuestion(std::uint64_t tag) {
  const auto found = questions_.find(tag);
  if (found == questions_.end()) {
    transport().loseConnection(MalformedAmpBox("the peer answered a question that was not asked"));
    return std::nullopt;
  }
  std::optional<Resolver<Box>> question(std::move(found->second));
  questions_.erase(found);
  return question;
}

void AMP::connectionLost(const Failure& reason) {
  reason_ = reason;
  starting_.reset();
  for (auto& [tag, question] : std::exchange(questions_, {})) question.errback(reason);
}

// ---- AMP: receiving

bool AMP::receive() {
  std::string_view rest = input();
  bool complete = false;
  try {
    complete = parser_.parse(rest);
  } catch (const AmpError&) {
    transport().loseConnection(Failure::current());
    return false;
  }
  take(input().size() - rest.size());
  if (complete) ampBoxReceived(parser_.take());
  return complete;
}

void AMP::ampBoxReceived(Box box) {
  if (const std::string* answered = find(box, kAnswer)) {
    answerReceived(std::string(*answered), std::move(box));
  } else if (const std::string* failed = find(box, kError)) {
    errorReceived(*failed, box);
  } else if (box.contains(kCommand)) {
    commandReceived(std::move(box));
  } else {
    transport().loseConnection(NoEmptyBoxes("the peer sent a box that neither asks nor answers"));
  }
}

void AMP::answerReceived(std::string_view tag, Box box) {
  const auto question = takeQuestion(tagOf(tag));
  if (!question) return;
  if (starting_ && starting_->tag == tagOf(tag)) {
    const StartingTLS starting = *std::exchange(starting_, std::nullopt);
    beginTLS(starting.options, *starting.time);
    transport().write(starting.unsent);
  }
  question->callback(std::move(box));
}

void AMP::errorReceived(std::string_view tag, const Box& box) {
  const std::string* code = find(box, kErrorCode);
  const std::string* description = find(box, kErrorDescription);
  if (!code || !description) {
    return transport().loseConnection(MalformedAmpBox("the peer sent an error without a code or a description"));
  }
  const auto question = takeQuestion(tagOf(tag));
  if (!question) return;
  const Failure failure =
      *code == kUnhandled ? Failure(UnhandledCommand(*description)) : Failure(RemoteAmpError(*code, *description));
  if (starting_ && starting_->tag == tagOf(tag)) transport().loseConnection(failure);
  question->errback(failure);
}

void AMP::fileDescriptorReceived(int fd) {
  if (!descriptors_->fileDescriptorReceived(Descriptor(fd))) {
    transport().loseConnection(AmpLimitError("the peer sent more than " +
                                             std::to_string(DescriptorExchanger::kMaxReceived) +
                                             " descriptors that no box of its names"));
  }
}

// ---- AMP: answering

void AMP::commandReceived(Box box) {
  if (unanswered_ == maxQuestions_) {
    return transport().loseConnection(AmpLimitError("more than " + std::to_string(maxQuestions_) +
                                                    " questions of the peer's wait for an answer "
                                                    "(see setMaxQuestions)"));
  }
  if (unanswered_ == 0) transport().setWriteLimit(maxUnsent_);
  const std::string* ask = find(box, kAsk);
  if (ask && accepted_ && *find(box, kCommand) == kStartTLS) return startTLSAsked(*ask);
  ++unanswered_;
  dispatchCommand(box).addBoth(hold([this, tag = ask ? std::optional(*ask) : std::nullopt](Result<Box> result) {
    --unanswered_;
    if (tag) {
      answer(*tag, std::move(result));
    } else if (!result.ok()) {
      unhandledError(result.failure());
    }
  }));
}

Deferred<Box> AMP::dispatchCommand(const Box& box) {
  const std::string& name = *find(box, kCommand);
  std::shared_ptr<Responder> responder = locateResponder(name);
  if (!responder && locator_) responder = locator_->locateResponder(name);
  if (!responder) {
    return fail<Box>(RemoteAmpError(std::string(kUnhandled), "Unhandled Command: '" + name.substr(0, 255) + "'"));
  }
  // It is kept until it has answered: a coroutine's captures are in it.
  return maybeDeferred(*responder, box, descriptors_).addBoth([responder](Result<Box> result) { return result; });
}

void AMP::answer(const std::string& tag, Result<Box> result) {
  if (result.ok()) {
    Box box = std::move(result).value();
    box.insert_or_assign(std::string(kAnswer), tag);
    try {
      return sendBox(box);
    } catch (...) {
      result = Failure(BadLocalReturn(Failure::current()));
    }
  }
  const Failure& failure = result.failure();
  const auto* known = failure.get<RemoteAmpError>();
  if (!known) kLog.failure("Unhandled error in a responder of AMP", failure);
  try {
    sendError(tag, known ? known->errorCode : std::string(kUnknown), known ? known->description : "Unknown Error");
  } catch (const AmpError&) {
    sendError(tag, std::string(kUnknown), "Unknown Error");
  }
  if (!known || known->fatal) transport().loseConnection(failure);
}

void AMP::sendError(const std::string& tag, std::string code, std::string description) {
  sendBox({{std::string(kError), tag},
           {std::string(kErrorCode), std::move(code)},
           {std::string(kErrorDescription), std::move(description)}});
}

void AMP::unhandledError(const Failure& failure) {
  kLog.failure("A command that wants no answer has failed. Dropping the connection.", failure);
  transport().loseConnection(failure);
}

// ---- AMP: TLS

Deferred<void> AMP::startTLS(TLSOptions options, Time& time) {
  if (reason_) return fail<void>(*reason_);
  if (starting_ || TLSTransport::from(transport())) return fail<void>(OnlyOneTLS("TLS was started before"));
  auto asked = callRemoteString(kStartTLS);
  if (questions_.contains(lastTag_)) starting_ = StartingTLS{lastTag_, std::move(options), &time, {}};
  return std::move(asked).addCallbacks(
      [](const Box&) {},
      [](const RemoteAmpError& error) { return Failure(UnknownRemoteError(error.errorCode, error.description)); });
}

void AMP::acceptStartTLS(TLSOptions options, Time& time) {
  accepted_ = AcceptedTLS{std::move(options), &time};
}

void AMP::startTLSAsked(const std::string& tag) {
  if (starting_) return transport().loseConnection(OnlyOneTLS("both ends have asked for TLS at the same time"));
  if (TLSTransport::from(transport())) return sendError(tag, std::string(kTLSError), "TLS was started before");
  sendBox({{std::string(kAnswer), tag}});
  beginTLS(accepted_->options, *accepted_->time);
}

void AMP::beginTLS(const TLSOptions& options, Time& time) {
  torsion::startTLS(*this, options, time);
}

}  // namespace torsion::amp
