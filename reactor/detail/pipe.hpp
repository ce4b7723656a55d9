// One-way descriptors on the poller: what a reader gets and what a writer queues. For processes and standard I/O, whose
// descriptors may be pipes, terminals, sockets or files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <deferred/failure.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/transport.hpp>

namespace torsion::detail {

/// Who has pipes. `id` is the number that it gave the pipe. All calls come from the loop, and may close any pipe; what
/// they throw is the caller's own business: they must not.
class PipeUser {
 public:
  virtual void pipeData(int id, std::string_view data) = 0;
  /// The pipe is closed: ConnectionDone at end of file or after closeWhenEmpty(), else ConnectionLost.
  virtual void pipeClosed(int id, const Failure& reason) = 0;
  /// Less than PipeWriter::kHighWater is queued.
  virtual void pipeDrained(int id) = 0;

 protected:
  ~PipeUser() = default;
};

/// What PipeReader and PipeWriter share: a descriptor that the poller watches, or that is always ready (a file).
class Pipe : public Watcher, public std::enable_shared_from_this<Pipe> {
 public:
  /// Closes the descriptor; the user is not told.
  void close();
  bool closed() const noexcept { return !fd_; }

 protected:
  Pipe(ReactorImpl& reactor, PipeUser& user, int id, UniqueFd fd);
  ~Pipe() { close(); }
  /// Throws std::system_error.
  void watch(std::uint32_t events);
  /// On a later turn, go(), unless it is closed by then.
  void goSoon();
  virtual void go() = 0;
  /// Closes now and tells the user on a later turn.
  void finish(const Failure& reason);

  ReactorImpl& reactor_;
  PipeUser& user_;
  const int id_;
  UniqueFd fd_;
  bool polled_ = false;

 private:
  bool posted_ = false;
  bool told_ = false;  // or not to be told
};

class PipeReader final : public Pipe {
 public:
  PipeReader(ReactorImpl& reactor, PipeUser& user, int id, UniqueFd fd) : Pipe(reactor, user, id, std::move(fd)) {}
  /// Throws std::system_error.
  void start();
  void pause() { paused_ = true; }
  void resume();
  /// As at the end of file.
  void lose();

 private:
  void ready(std::uint32_t events) override;
  void go() override;
  bool paused_ = false;
};

class PipeWriter final : public Pipe {
 public:
  static constexpr std::size_t kHighWater = 65536;

  PipeWriter(ReactorImpl& reactor, PipeUser& user, int id, UniqueFd fd) : Pipe(reactor, user, id, std::move(fd)) {}
  /// Throws std::system_error.
  void start();
  void write(std::string_view data);
  /// Writes what is queued, waits for the producer, then closes.
  void closeWhenEmpty();
  void lose(const Failure& reason) { finish(reason); }
  void registerProducer(Producer& producer, bool streaming);
  void unregisterProducer();
  /// Calls stopProducing() if there is a producer, which is forgotten.
  void stopProducer();
  std::size_t queued() const noexcept { return queue_.size() - sent_; }

 private:
  void ready(std::uint32_t events) override;
  void go() override;
  void callProducer(void (Producer::*method)());

  std::string queue_;
  std::size_t sent_ = 0;
  Producer* producer_ = nullptr;
  bool streaming_ = false;
  bool producerPaused_ = false;
  bool blocked_ = false;
  bool closing_ = false;
};

}  // namespace torsion::detail
