// A connection as two ends of a stream, for coroutines (asyncio's openConnection, StreamReader and StreamWriter):
//
//   Deferred<std::string> greeting(StreamClientEndpoint& endpoint) {
//     auto [reader, writer] = co_await openConnection(endpoint);
//     writer.write("HELO\r\n");
//     co_await writer.drain();
//     co_return co_await reader.readLine();
//   }
//
// The two are handles of one connection, which closes when both are gone. They work over any transport.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <deferred/deferred.hpp>
#include <reactor/endpoints.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/transport.hpp>

namespace torsion {

namespace detail {
class StreamState;
}

/// The stream ended before what was asked for.
struct IncompleteReadError : std::runtime_error {
  IncompleteReadError(std::string partial, std::optional<std::size_t> expected);
  std::string partial;                  ///< what there was; it has been taken from the stream
  std::optional<std::size_t> expected;  ///< bytes asked for; nothing where it was a separator
};

/// More than the limit of the stream came before a separator. What there is stays in the stream.
struct LimitOverrunError : std::runtime_error {
  LimitOverrunError(const std::string& what, std::size_t consumed) : runtime_error(what), consumed(consumed) {}
  std::size_t consumed;  ///< so many bytes can be read that no separator begins in
};

/// How much a stream keeps for its reader, in bytes: above twice as much the transport is paused until it is read.
inline constexpr std::size_t kStreamLimit = 65536;

/// The bytes that arrive. One read at a time: while one waits, another fails with std::logic_error. cancel() of one
/// that waits (CancelledError) takes no byte: the next read gets all. Each gives what is there at once.
///
/// The stream ends when the peer stops writing or the connection is closed in order (ConnectionDone). If the connection
/// is lost otherwise, reads get what has come before, and then fail with the reason (see reactor/error.hpp); so does a
/// read that needs more than has come. A read that waits when both handles go fails with ConnectionDone.
class StreamReader {
 public:
  StreamReader(StreamReader&&) noexcept = default;
  StreamReader& operator=(StreamReader&&) noexcept = default;

  /// Up to `most` bytes, as soon as there are any; empty at the end of the stream (and for 0).
  Deferred<std::string> read(std::size_t most);
  /// All until the end of the stream, with no limit.
  Deferred<std::string> read();
  /// Exactly `count` bytes, which may be more than the limit. IncompleteReadError if the stream ends before.
  Deferred<std::string> readExactly(std::size_t count);
  /// All up to the end of the first `separator`. IncompleteReadError if the stream ends without one, LimitOverrunError
  /// if more than the limit comes before it; std::invalid_argument for an empty one.
  Deferred<std::string> readUntil(std::string separator);
  /// A line with its "\n"; what is left at the end of the stream, perhaps nothing. LimitOverrunError for one above the
  /// limit, which is dropped as far as it has come.
  Deferred<std::string> readLine();
  /// True if the stream has ended and all of it has been read.
  bool atEof() const noexcept;

 private:
  friend class detail::StreamState;
  explicit StreamReader(std::shared_ptr<detail::StreamState> state) noexcept : state_(std::move(state)) {}
  std::shared_ptr<detail::StreamState> state_;
};

/// Where to write to the same connection.
class StreamWriter {
 public:
  StreamWriter(StreamWriter&&) noexcept = default;
  StreamWriter& operator=(StreamWriter&&) noexcept = default;

  /// Queues `data`; ignored after close(). Follow it by drain(), so that the queue stays small.
  void write(std::string_view data);
  /// Fires when less than 64 KiB is queued, at once if it is so now. Fails with the reason why the connection was lost.
  /// cancel() only stops the wait.
  Deferred<void> drain();
  /// Sends what is queued and closes the connection; the reader comes to its end.
  void close();
  /// Fires when the connection is closed; fails with the reason if it was lost otherwise. cancel() only stops the wait.
  Deferred<void> waitClosed();
  /// For addresses, abortConnection() and the like; inert when the connection is gone.
  Transport& transport() const noexcept;

 private:
  friend class detail::StreamState;
  explicit StreamWriter(std::shared_ptr<detail::StreamState> state) noexcept : state_(std::move(state)) {}
  std::shared_ptr<detail::StreamState> state_;
};

struct StreamPair {
  StreamReader reader;
  StreamWriter writer;
};

/// Connects. Fails and cancels as endpoint.connect(). Over TLS it fires before the handshake: reads fail with
/// VerifyError.
Deferred<StreamPair> openConnection(StreamClientEndpoint& endpoint, std::size_t limit = kStreamLimit,
                                    std::source_location where = std::source_location::current());

/// Serves each connection with a coroutine. What it throws is logged and ends that connection; when it returns the
/// connection closes, unless it has given a handle away. It lives until its last call has ended. Fails as
/// endpoint.listen().
///
///   Deferred<void> echo(StreamReader reader, StreamWriter writer) {
///     for (;;) {
///       std::string line = co_await reader.readLine();
///       if (line.empty()) break;
///       writer.write(line);
///       co_await writer.drain();
///     }
///   }
///   startServer(*serverFromString(reactor(), "tcp:7"), echo);
Deferred<std::shared_ptr<ListeningPort>> startServer(StreamServerEndpoint& endpoint,
                                                     std::function<Deferred<void>(StreamReader, StreamWriter)> handler,
                                                     std::size_t limit = kStreamLimit,
                                                     std::source_location where = std::source_location::current());

}  // namespace torsion
