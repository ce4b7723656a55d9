// A C library that knows nothing of Torsion, driven by the reactor: hiredis says for what its descriptor is to be
// watched, the reactor tells when it is ready, and each command is a Deferred.
//
//   redis 127.0.0.1 6379
#include <hiredis/async.h>

#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <deferred/functions.hpp>
#include <deferred/list.hpp>
#include <reactor/descriptor.hpp>
#include <reactor/reactor.hpp>
#include <reactor/task.hpp>

using namespace torsion;

/// The server refused a command.
struct RedisError : std::runtime_error {
  using runtime_error::runtime_error;
};
/// There is no connection with the server, or it was lost before the reply.
struct RedisConnectionError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// A connection to a Redis server. It lives as long as it is connected.
class Redis final : public ReadDescriptor, public WriteDescriptor, public std::enable_shared_from_this<Redis> {
 public:
  /// Commands may be given at once; they wait for the connection. `host` is an address: hiredis would block the loop to
  /// look a name up, which Reactor::resolve does not.
  static std::shared_ptr<Redis> connect(const std::string& host, int port) {
    const auto redis = std::make_shared<Redis>();
    redisAsyncContext* context = redisAsyncConnect(host.c_str(), port);
    if (!context) throw std::bad_alloc();
    redis->context_ = context;
    redis->fd_ = context->c.fd;
    if (context->err != 0) throw RedisConnectionError(context->errstr);
    context->ev.data = redis.get();
    context->ev.addRead = [](void* self) { reactor().addReader(of(self)); };
    context->ev.delRead = [](void* self) { reactor().removeReader(*of(self)); };
    context->ev.addWrite = [](void* self) { reactor().addWriter(of(self)); };
    context->ev.delWrite = [](void* self) { reactor().removeWriter(*of(self)); };
    context->ev.cleanup = [](void* self) {
      const auto redis = of(self);
      redis->context_ = nullptr;  // hiredis is about to free it
      reactor().removeReader(*redis);
      reactor().removeWriter(*redis);
    };
    reactor().addWriter(redis);  // to hear of the connection
    return redis;
  }
  ~Redis() override {
    if (!context_) return;
    context_->ev = {};
    redisAsyncFree(context_);
  }

  /// Fires with the reply as text. Fails with RedisError or RedisConnectionError. cancel() gives up the wait alone.
  Deferred<std::string> command(const std::vector<std::string>& words) {
    if (!context_) return fail<std::string>(RedisConnectionError("the connection is closed"));
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto waiting = std::make_unique<Resolver<std::string>>();
    auto deferred = waiting->deferred();
    if (redisAsyncCommandArgv(context_, &replied, waiting.get(), static_cast<int>(words.size()), texts.data(),
                              sizes.data()) == REDIS_OK) {
      waiting.release();  // replied() has it, which is called in any case
    } else {
      waiting->errback(RedisConnectionError("the connection is being closed"));
    }
    return deferred;
  }

  int fileno() const override { return fd_; }
  void doRead() override { redisAsyncHandleRead(context_); }
  void doWrite() override { redisAsyncHandleWrite(context_); }
  void connectionLost(const Failure&) override {
    if (!context_) return;
    if (!(context_->c.flags & REDIS_CONNECTED)) redisAsyncHandleWrite(context_);  // finds out what went wrong
    if (context_) redisAsyncFree(context_);
  }
  std::string logPrefix() const override { return "redis"; }

 private:
  static std::shared_ptr<Redis> of(void* self) { return static_cast<Redis*>(self)->shared_from_this(); }

  static void replied(redisAsyncContext* context, void* answer, void* resolver) {
    const std::unique_ptr<Resolver<std::string>> waiting(static_cast<Resolver<std::string>*>(resolver));
    const auto* reply = static_cast<const redisReply*>(answer);
    if (!reply) {
      waiting->errback(RedisConnectionError(context->err != 0 ? context->errstr : "the connection was lost"));
    } else if (reply->type == REDIS_REPLY_ERROR) {
      waiting->errback(RedisError(std::string(reply->str, reply->len)));
    } else if (reply->type == REDIS_REPLY_INTEGER) {
      waiting->callback(std::to_string(reply->integer));
    } else {
      waiting->callback(reply->str ? std::string(reply->str, reply->len) : "(nil)");
    }
  }

  redisAsyncContext* context_ = nullptr;  // until hiredis frees it
  int fd_ = -1;
};

/// A hundred commands at once; gives the last reply.
Deferred<std::string> countToHundred(const std::shared_ptr<Redis>& redis) {
  std::vector<Deferred<std::string>> replies;
  for (int i = 0; i < 100; ++i) replies.push_back(redis->command({"INCR", "torsion:count"}));
  return gatherResults(std::move(replies)).addCallback([](std::vector<std::string> all) { return all.back(); });
}

Deferred<void> tour(const std::shared_ptr<Redis>& redis) {
  return redis->command({"SET", "torsion:greeting", "hello"})
      .addCallback([redis](const std::string&) { return redis->command({"GET", "torsion:greeting"}); })
      .addCallback([redis](const std::string& greeting) {
        std::cout << "greeting: " << greeting << '\n';
        return redis->command({"DEL", "torsion:greeting", "torsion:count"});
      })
      .addCallback([redis](const std::string&) { return countToHundred(redis); })
      .addCallback([redis](const std::string& count) {
        std::cout << "count: " << count << '\n';
        return redis->command({"LPUSH", "torsion:count", "not a list"});
      })
      .addCallback([](const std::string&) { std::cout << "that was a list\n"; })
      .addErrback([](const RedisError& error) { std::cout << "refused: " << error.what() << '\n'; });
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: redis ADDRESS PORT\n";
    return 2;
  }
  return react([&](Reactor&) {
    return execute(&Redis::connect, argv[1], std::atoi(argv[2]))
        .addCallback([](const std::shared_ptr<Redis>& redis) { return tour(redis); })
        .addCallback([] { return 0; })
        .addErrback([](const RedisConnectionError& error) {
          std::cerr << error.what() << '\n';
          return 1;
        });
  });
}
