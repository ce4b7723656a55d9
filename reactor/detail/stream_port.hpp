// A listening stream socket, TCP or UNIX: accepts, sheds load when the system has no descriptor left.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>

#include <deferred/detail/require.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/detail/stream_connection.hpp>
#include <reactor/detail/unique_fd.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>

namespace torsion::detail {

class StreamPort : public ListeningPort,
                   public Disconnectable,
                   public Watcher,
                   public std::enable_shared_from_this<StreamPort> {
 public:
  StreamPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory, const std::source_location& where)
      : Disconnectable(reactor, where),
        reactor_(reactor),
        factory_(required(std::move(factory), "a port was given no factory")) {}

  /// Serves `fd`, a listening socket that does not block, until it is closed. Returns 0, or errno.
  int start(UniqueFd fd);

  Deferred<void> stopListening() override {
    close();
    return succeed();
  }
  Address getHost() const override { return host_; }
  void shutdown() override { close(); }

 protected:
  /// A connection for a socket that was accepted.
  virtual Ref<StreamConnection> makeConnection(ReactorImpl& reactor, UniqueFd fd, Address peer) = 0;
  /// Once, when the socket is closed.
  virtual void closed() {}

 private:
  void close();
  void ready(std::uint32_t events) override;
  int acceptOne(SocketAddress* peer);
  int shedOne();
  void rest(int error);
  void serve(UniqueFd fd, const SocketAddress& peer);

  ReactorImpl& reactor_;
  std::shared_ptr<Factory> factory_;
  std::shared_ptr<StreamPort> self_;  // while it listens
  UniqueFd fd_;
  UniqueFd reserve_;
  DelayedCall pause_;
  bool shedding_ = false;  // and said so
  Address host_;
};

/// For a socket that somebody else has opened.
std::shared_ptr<StreamPort> makeTCPPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory,
                                        const std::source_location& where);
std::shared_ptr<StreamPort> makeUNIXPort(ReactorImpl& reactor, std::shared_ptr<Factory> factory,
                                         const std::source_location& where);

}  // namespace torsion::detail
