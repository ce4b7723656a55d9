// Questions to name servers, by c-ares, on a reactor's sockets and timers.
#pragma once

#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/time.hpp>
#include <reactor/detail/name_files.hpp>
#include <reactor/detail/name_search.hpp>
#include <reactor/detail/reactor_impl.hpp>

struct ares_channeldata;

namespace torsion::detail {

/// Serves one look-up: it has sockets of its own, so that ends leave nothing behind, which c-ares cannot do for a
/// single question, and that each look-up comes from ports that nobody can guess.
class DNSChannel {
 public:
  class Listener {
   public:
    /// answers() are there. Called last by the channel, which it may destroy.
    virtual void answersAreThere() = 0;

   protected:
    ~Listener() = default;
  };
  using Answers = std::vector<std::pair<std::size_t, DNSAnswer>>;

  /// Throws std::invalid_argument for text that is no list of servers.
  static void checkServers(const std::string& servers);

  DNSChannel(ReactorImpl& reactor, const ResolvConf& conf, Listener& listener, const std::source_location& where);
  /// Closes its sockets. Questions that are open are forgotten.
  ~DNSChannel();
  DNSChannel(const DNSChannel&) = delete;
  DNSChannel& operator=(const DNSChannel&) = delete;

  /// For the addresses of `name` in a family. The answer may be there at once; the listener is not told of that.
  void ask(const std::string& name, int family, std::size_t question);
  /// Those that have come, with the numbers of their questions; once.
  Answers answers() { return std::exchange(answers_, {}); }

 private:
  struct Socket;
  struct Question;
  static void answered(void* question, int status, int timeouts, unsigned char* data, int size);
  void watch(int fd, bool read, bool write);
  void process(int readable, int writable);
  void updateTimer();

  ReactorImpl& reactor_;
  Listener& listener_;
  const std::source_location where_;
  ares_channeldata* channel_ = nullptr;
  std::vector<std::unique_ptr<Socket>> sockets_;
  std::size_t open_ = 0;  // questions
  Answers answers_;
  DelayedCall timer_;
};

}  // namespace torsion::detail
