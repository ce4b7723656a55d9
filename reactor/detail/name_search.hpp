// The course of a look-up in the DNS, without the asking: which names are asked for, and when an answer is one.
#pragma once

#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <deferred/time.hpp>
#include <reactor/address.hpp>

namespace torsion::detail {

/// What came of the question for the addresses of a name in one family.
struct DNSAnswer {
  enum class Kind { addresses, noSuchName, none, failed, timedOut };  ///< the worse the later
  Kind kind = Kind::addresses;
  std::vector<Address> addresses;
  std::string error;  ///< why there are none
};

/// Asks for both families at once, for one name after another until one has an address. As soon as it is clear that the
/// name is there, or is not, the family that is silent gets no more than 50 ms to be waited for (RFC 8305, 3).
class NameSearch {
 public:
  class Listener {
   public:
    /// For the addresses of AF_INET or AF_INET6. answered() tells them, with that number, after this has returned.
    virtual void ask(const std::string& name, int family, std::size_t question) = 0;
    /// Some addresses. Those of IPv6 come at once, those of IPv4 when IPv6 has had its time; others may follow.
    virtual void found(std::vector<Address> addresses) = 0;
    /// What is there by now is worth taking, without the rest.
    virtual void settled() = 0;
    /// No more will be found; `error` says why, if nothing was.
    virtual void ended(const std::string& error) = 0;

    /// Keeps it and the search for as long as they are called.
    virtual std::shared_ptr<void> self() = 0;

   protected:
    ~Listener() = default;
  };

  /// `names` is not empty.
  NameSearch(Time& time, std::vector<std::string> names, Listener& listener, std::source_location where)
      : time_(time), names_(std::move(names)), listener_(listener), where_(where) {}
  ~NameSearch() { stop(); }
  NameSearch(const NameSearch&) = delete;
  NameSearch& operator=(const NameSearch&) = delete;

  void start() { askForNext(); }
  void answered(std::size_t question, DNSAnswer answer);
  /// Nothing more is told.
  void stop();

 private:
  void askForNext();
  void giveHeld();
  void graceIsOver();
  void nameIsDone();

  Time& time_;
  const std::vector<std::string> names_;
  Listener& listener_;
  const std::source_location where_;
  std::size_t next_ = 0;  // of names_
  int awaited_ = 0;       // answers
  bool awaitsIPv6_ = false;
  bool graceOver_ = false;
  bool found_ = false;
  bool stopped_ = false;
  std::vector<Address> held_;  // of IPv4, until IPv6 has had its time
  DNSAnswer worst_;            // of those that gave no address
  DelayedCall grace_;
};

}  // namespace torsion::detail
