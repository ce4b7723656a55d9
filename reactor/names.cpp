#include <reactor/names.hpp>

#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <deferred/detail/take.hpp>
#include <deferred/functions.hpp>
#include <reactor/detail/address_order.hpp>
#include <reactor/detail/dns_channel.hpp>
#include <reactor/detail/name_files.hpp>
#include <reactor/detail/name_search.hpp>
#include <reactor/detail/reactor_impl.hpp>
#include <reactor/detail/socket_address.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>

namespace torsion {
namespace {

using Addresses = std::vector<Address>;

// Why it cannot be a host name; empty if it can.
std::string objection(const std::string& name) {
  if (name.empty()) return "a host name is empty";
  if (name.size() > 254) return "a host name is longer than 254 characters: " + name.substr(0, 40) + "...";
  for (const unsigned char c : name) {
    if (c >= 0x80) return "the host name " + name + " is not ASCII: write it in its xn-- form";
    if (c <= ' ' || c == 0x7f) return "a host name contains a space or control character";
  }
  return {};
}

}  // namespace

class DNSResolver::Impl {
 public:
  Impl(Reactor& reactor, const std::string& servers, const std::string& resolvConf, const std::string& hosts)
      : core_(detail::implOf(reactor)), servers_(servers), resolvConf_(resolvConf), hosts_(hosts) {}
  ~Impl() {
    for (const auto& lookup : detail::take(lookups_)) lookup->end("the resolver was destroyed");
  }

  // What needs no server: addresses, or why there are none.
  std::optional<Result<Addresses>> known(const std::string& name) {
    if (const auto literal = detail::socketAddress(name, 0)) return Addresses{detail::toAddress(*literal)};
    if (auto addresses = detail::localhostAddresses(name); !addresses.empty()) return addresses;
    if (detail::isUnder(name, "invalid")) return Failure(DNSLookupError("the name " + name + " does not exist"));
    if (const std::string why = objection(name); !why.empty()) return Failure(DNSLookupError(why));
    if (auto addresses = hosts_.addressesOf(name); !addresses.empty()) {
      detail::orderAddresses(addresses);
      return addresses;
    }
    return std::nullopt;
  }

  const detail::ResolvConf& conf() {
    if (const auto text = resolvConf_.changed()) {
      conf_ = detail::ResolvConf::parse(*text);
      if (!servers_.empty()) conf_.servers = servers_;
    }
    return conf_;
  }

  // One look-up by way of servers. Kept by its resolver until it ends.
  class Lookup : public detail::Disconnectable,
                 private detail::NameSearch::Listener,
                 private detail::DNSChannel::Listener,
                 public std::enable_shared_from_this<Lookup> {
   public:
    Lookup(Impl& owner, const std::string& name, const std::source_location& where)
        : Disconnectable(owner.core_, where),
          owner_(owner),
          name_(name),
          search_(owner.core_.reactor, owner.conf().candidates(name), *this, where),
          channel_(std::in_place, owner.core_, owner.conf(), static_cast<detail::DNSChannel::Listener&>(*this), where) {
    }
    virtual ~Lookup() = default;

    void start() {
      const auto self = shared_from_this();
      owner_.lookups_.insert(self);
      search_.start();
      answersAreThere();
    }
    // All is over; what it has to tell it tells after this.
    void leave() {
      Disconnectable::leave();
      search_.stop();
      channel_.reset();
      owner_.lookups_.erase(shared_from_this());
    }
    // With a failure.
    void end(const std::string& why) {
      if (isOver()) return;
      const auto self = shared_from_this();
      leave();
      fail(DNSLookupError("looking up " + name_ + ": " + why));
    }
    void shutdown() override { end("the reactor was stopped"); }
    std::string describe() const override { return "look-up of " + name_; }

   protected:
    bool isOver() const { return !channel_; }
    virtual void fail(Failure failure) = 0;

   private:
    void ask(const std::string& name, int family, std::size_t question) override {
      channel_->ask(name, family, question);
    }
    std::shared_ptr<void> self() override { return shared_from_this(); }
    void answersAreThere() override {
      const auto self = shared_from_this();
      // An answer may lead to the next questions, which are answered at once, perhaps.
      for (auto answers = channel_->answers(); !answers.empty();) {
        for (auto& [question, answer] : answers) {
          search_.answered(question, std::move(answer));
          if (isOver()) return;
        }
        answers = channel_->answers();
      }
    }

    Impl& owner_;
    const std::string name_;
    detail::NameSearch search_;
    std::optional<detail::DNSChannel> channel_;
  };

  // Of resolve().
  class Collecting final : public Lookup {
   public:
    Collecting(Impl& owner, const std::string& name, const std::source_location& where)
        : Lookup(owner, name, where), result_(where) {}
    const Resolver<Addresses>& result() const { return result_; }

   private:
    void found(Addresses addresses) override {
      addresses_.insert(addresses_.end(), addresses.begin(), addresses.end());
    }
    void settled() override {
      leave();
      detail::orderAddresses(addresses_);
      result_.callback(std::move(addresses_));
    }
    void ended(const std::string& error) override {
      if (addresses_.empty()) return end(error);
      settled();
    }
    void fail(Failure failure) override { result_.errback(std::move(failure)); }

    Addresses addresses_;
    Resolver<Addresses> result_;
  };

  // Of resolveHostName().
  class Streaming final : public Lookup {
   public:
    Streaming(Impl& owner, const std::string& name, UniqueFunction<void(Addresses)> found,
              const std::source_location& where)
        : Lookup(owner, name, where), found_(std::move(found)), result_(where) {}
    const Resolver<void>& result() const { return result_; }

   private:
    void found(Addresses addresses) override {
      detail::orderAddresses(addresses);
      try {
        found_(std::move(addresses));
      } catch (...) {
        if (isOver()) return;
        leave();
        result_.errback(Failure::current());
      }
    }
    void settled() override {}
    void ended(const std::string& error) override {
      if (!error.empty()) return end(error);
      leave();
      result_.callback();
    }
    void fail(Failure failure) override { result_.errback(std::move(failure)); }

    UniqueFunction<void(Addresses)> found_;
    Resolver<void> result_;
  };

  template <class T>
  static auto begin(std::shared_ptr<T> lookup) {
    auto deferred = lookup->result().deferred();
    lookup->result().onCancel([weak = std::weak_ptr<T>(lookup)](const auto&) {
      if (const auto lookup = weak.lock()) lookup->leave();
    });
    lookup->start();
    return deferred;
  }

 private:
  detail::ReactorImpl& core_;
  const std::string servers_;
  detail::WatchedFile resolvConf_;
  detail::ResolvConf conf_;
  detail::HostsFile hosts_;
  std::set<std::shared_ptr<Lookup>> lookups_;
};

DNSResolver::DNSResolver(Reactor& reactor, const std::string& servers, const std::string& resolvConf,
                         const std::string& hosts)
    : impl_(std::make_unique<Impl>(reactor, servers, resolvConf, hosts)) {
  detail::DNSChannel::checkServers(servers);
}
DNSResolver::~DNSResolver() = default;

Deferred<Addresses> DNSResolver::resolve(const std::string& name, std::source_location where) {
  if (auto known = impl_->known(name)) {
    Resolver<Addresses> result(where);
    result.resolve(std::move(*known));
    return result.deferred();
  }
  return Impl::begin(std::make_shared<Impl::Collecting>(*impl_, name, where));
}

Deferred<void> DNSResolver::resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                            std::source_location where) {
  if (impl_->known(name)) return NameResolver::resolveHostName(name, std::move(found), where);
  return Impl::begin(std::make_shared<Impl::Streaming>(*impl_, name, std::move(found), where));
}

Deferred<void> NameResolver::resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                             std::source_location where) {
  return resolve(name, where)
      .addCallback([found = std::move(found)](Addresses addresses) mutable { found(std::move(addresses)); }, where);
}

Deferred<Addresses> Reactor::resolve(const std::string& name, std::source_location where) {
  const auto names = impl_->nameResolver();
  return names->resolve(name, where);
}

Deferred<void> Reactor::resolveHostName(const std::string& name, UniqueFunction<void(Addresses)> found,
                                        std::source_location where) {
  const auto names = impl_->nameResolver();
  return names->resolveHostName(name, std::move(found), where);
}

void Reactor::installNameResolver(std::shared_ptr<NameResolver> resolver) {
  impl_->checkUsable();
  std::swap(impl_->names, resolver);
}

std::shared_ptr<NameResolver> detail::ReactorImpl::nameResolver() {
  checkUsable();
  if (!names) names = std::make_shared<DNSResolver>(reactor);
  return names;
}

}  // namespace torsion
