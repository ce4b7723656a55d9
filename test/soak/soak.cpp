// Random work on many connections over TCP, UNIX sockets and TLS, from both sides, by a seed: `soak OPERATIONS [SEED]`.
// Without SEED it runs with a fixed seed, then with a fresh one, which it prints. At the end there must be no
// connection, timer, descriptor or memory left; every byte that arrived was the right one; and a side that was closed
// by the other, cleanly, has got all that was written.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <reactor/error.hpp>
#include <reactor/interfaces.hpp>
#include <reactor/protocol.hpp>
#include <reactor/task.hpp>
#include <reactor/testing/reactor_fixture.hpp>
#include <reactor/tls.hpp>
#include <test/support/certificates.hpp>
#include <test/support/process.hpp>
#include <test/support/resources.hpp>

using namespace torsion;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMostConnections = 60;
constexpr std::size_t kMostQueued = 4 << 20;  // by one side; a random program that writes on would fill the memory
constexpr auto kLimit = 60s;
// What caches and tables may have grown by, whatever the number of operations.
constexpr std::size_t kTables = 512 * 1024;

enum class Kind { tcp, unixSocket, tls, tlsOverUnix };

bool isTLS(Kind kind) {
  return kind == Kind::tls || kind == Kind::tlsOverUnix;
}

struct Problem : std::runtime_error {
  using runtime_error::runtime_error;
};

class Side;

struct Counters {
  long connections = 0, bytes = 0, clean = 0, lost = 0, aborted = 0, failed = 0, refused = 0, thrown = 0;
};

/// What a run shares.
struct World {
  explicit World(std::uint64_t seed) : random(seed) {}
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); }
  bool chance(double p) { return std::uniform_real_distribution<>()(random) < p; }

  std::mt19937_64 random;
  std::vector<Side*> sides;  // those that are connected
  Counters counters;
  long lastId = 0;
  bool ending = false;
};

/// One end of a connection. What it writes is a sequence of bytes that its peer knows.
class Side : public Protocol {
 public:
  Side(World& world, Reactor& reactor, Kind kind, bool client)
      : world_(world), reactor_(reactor), kind_(kind), client_(client), id_(++world.lastId), producer_(*this) {}
  ~Side() override {
    if (peer_) peer_->peer_ = nullptr;
  }

  void connectionMade() override {
    world_.sides.push_back(this);
    ++world_.counters.connections;
    // Who belongs to whom is what the first bytes of a client say.
    if (client_) transport().write({reinterpret_cast<const char*>(&id_), sizeof id_});
  }

  void dataReceived(std::string_view data) override {
    if (!client_ && greeting_.size() < sizeof id_) {
      const std::size_t n = std::min(sizeof id_ - greeting_.size(), data.size());
      greeting_ += data.substr(0, n);
      data.remove_prefix(n);
      if (greeting_.size() == sizeof id_) meet();
    }
    for (const char c : data) {
      if (c != byteAt(received_++)) throw Problem("a wrong byte arrived");
    }
    world_.counters.bytes += static_cast<long>(data.size());
    if (paused_ || closed_) throw Problem("dataReceived was called while reading was paused, or after the end");
    if (!world_.ending && world_.chance(0.05)) act();
    if (!world_.ending && world_.chance(0.0005)) {
      ++world_.counters.thrown;
      ours_ = closed_ = aborted_ = true;  // what is queued is dropped
      if (peer_) peer_->peerAborted_ = true;
      throw std::domain_error("thrown by the soak test");
    }
  }

  void connectionLost(const Failure& reason) override {
    if (over_) world_.counters.failed = -1;
    over_ = true;
    std::erase(world_.sides, this);
    if (timer_.active()) timer_.cancel();
    if (reason.check<ConnectionAborted>()) {
      ++world_.counters.aborted;
      if (!ours_) problem("ConnectionAborted, and nobody called abortConnection");
    } else if (reason.check<ConnectionDone>()) {
      ++world_.counters.clean;
      if (!ours_ && !peerAborted_) checkAll("the connection");
    } else {
      ++world_.counters.lost;
    }
    // The bytes that its peer has still to get count when this side is gone.
    if (peer_) {
      peer_->peerSent_ = sent_;
      peer_->peerAborted_ = aborted_ || peer_->peerAborted_;
    }
  }

  /// One random thing.
  void act() {
    if (over_) return;
    switch (world_.below(20)) {
      case 0:
        return lose();
      case 1:
        if (world_.chance(0.3)) return abort();
        return;
      case 2:
        if (world_.chance(0.3)) return loseWriting();
        return;
      case 3:
        return pause();
      case 4:
      case 5:
        return resume();
      case 6:
        return stall();
      case 7:
        return produce(true);
      case 8:
        return produce(false);
      case 9:
        transport().drained().addBoth([] {});
        return;
      case 10:
        transport().drained().addBoth([] {}).cancel();
        return;
      case 11:
        return writePieces();
      case 12:
        return write(world_.chance(0.1) ? 300'000 : 20'000);
      default:
        return write(500);
    }
  }

  /// Brings the connection to its end. Two sides that have both called loseConnection with much to send wait for each
  /// other, as in Twisted: they stopped reading.
  void end() {
    resume();
    producer_.finish();
    lose();
    if (++endings_ > 100) abort();
  }

  std::string describe() const {
    return std::string(client_ ? "client" : "server") + " of kind " + std::to_string(static_cast<int>(kind_)) +
           ", sent " + std::to_string(sent_) + ", received " + std::to_string(received_) + (closed_ ? ", closed" : "") +
           (paused_ ? ", paused" : "");
  }

 protected:
  void readEnded() {
    if (!peerAborted_) checkAll("the peer's half of the connection");
    // The other half is closed now or later.
    if (world_.chance(0.5)) lose();
  }

 private:
  class Filler final : public Producer {
   public:
    explicit Filler(Side& side) : side_(side) {}
    void start(bool streaming, std::size_t bytes) {
      if (registered_) return;
      registered_ = true;
      streaming_ = streaming;
      left_ = bytes;
      side_.transport().registerProducer(*this, streaming);
      if (streaming_) go();
    }
    void pauseProducing() override { paused_ = true; }
    void resumeProducing() override {
      paused_ = false;
      if (!registered_) return;
      if (streaming_) return go();
      step();
    }
    void stopProducing() override { registered_ = false; }
    void finish() {
      if (registered_) left_ = 0, done();
    }
    bool registered() const noexcept { return registered_; }

   private:
    void go() {
      while (registered_ && !paused_) step();
    }
    void step() {
      const std::size_t n = std::min<std::size_t>(left_, 9000);
      left_ -= n;
      if (n == 0) return done();
      side_.put(n);
    }
    void done() {
      registered_ = false;
      side_.transport().unregisterProducer();
    }
    Side& side_;
    std::size_t left_ = 0;
    bool registered_ = false, streaming_ = false, paused_ = false;
  };

  static char byteAt(std::size_t offset) { return static_cast<char>(offset * 7 + offset / 251); }

  void meet() {
    long other;
    std::copy(greeting_.begin(), greeting_.end(), reinterpret_cast<char*>(&other));
    // A client that has gone already is no peer to ask.
    for (Side* side : world_.sides) {
      if (side->id_ != other) continue;
      peer_ = side;
      side->peer_ = this;
      peerAborted_ = side->aborted_;
      side->peerAborted_ = aborted_;
      peerKeepsHalf_ = side->keepsHalf();
      side->peerKeepsHalf_ = keepsHalf();
    }
  }

  void write(std::size_t most) {
    if (refuses() || sent_ - (peer_ ? peer_->received_ : 0) > kMostQueued) return;
    put(1 + world_.below(most));
  }
  void writePieces() {
    if (refuses()) return;
    const std::string a = take(1 + world_.below(100)), b = take(1 + world_.below(3000));
    const std::string_view pieces[] = {a, b};
    transport().writeSequence(pieces);
  }
  bool refuses() const { return over_ || ((closed_ || writeClosed_) && !producer_.registered()); }
  void put(std::size_t n) { transport().write(take(n)); }
  std::string take(std::size_t n) {
    std::string text(n, 0);
    for (char& c : text) c = byteAt(sent_++);
    return text;
  }

  void produce(bool streaming) {
    if (closed_ || writeClosed_ || over_) return;
    producer_.start(streaming, world_.below(400'000));
  }
  void pause() {
    if (closed_ || over_) return;
    paused_ = true;
    transport().pauseProducing();
  }
  void resume() {
    if (closed_ || over_) return;
    paused_ = false;
    transport().resumeProducing();
  }
  void stall() {
    if (timer_.active()) return timer_.reset(std::chrono::milliseconds(world_.below(50)));
    pause();
    timer_ = reactor_.callLater(std::chrono::milliseconds(world_.below(50)), hold([this] { resume(); }));
  }
  void lose() {
    if (over_) return;
    ours_ = closed_ = true;
    transport().loseConnection();
  }
  void loseWriting() {
    if (isTLS(kind_)) return lose();
    writeClosed_ = true;
    transport().loseWriteConnection();
  }
  void abort() {
    if (over_) return;
    ours_ = closed_ = aborted_ = true;
    if (peer_) peer_->peerAborted_ = true;
    transport().abortConnection();
  }

  void checkAll(const char* what) {
    const std::size_t wanted = peer_ ? peer_->sent_ : peerSent_;
    if (wanted == kUnknown) return;  // they have never met
    // A peer without HalfCloseableProtocol drops what it has queued when it sees the end of this side's half.
    if (writeClosed_ && !peerKeepsHalf_) return;
    if (received_ != wanted) {
      problem(std::string(what) + " ended cleanly, and " + std::to_string(wanted - received_) + " of " +
              std::to_string(wanted) + " bytes are missing");
    }
  }
  void problem(const std::string& text) {
    std::printf("%s: %s\n", describe().c_str(), text.c_str());
    ++world_.counters.failed;
  }

  bool keepsHalf() const { return dynamic_cast<const HalfCloseableProtocol*>(this) != nullptr; }

  static constexpr std::size_t kUnknown = static_cast<std::size_t>(-1);

  World& world_;
  Reactor& reactor_;
  const Kind kind_;
  const bool client_;
  const long id_;
  Filler producer_;
  Side* peer_ = nullptr;
  std::string greeting_;
  std::size_t sent_ = 0, received_ = 0, peerSent_ = kUnknown;
  DelayedCall timer_;
  int endings_ = 0;
  bool paused_ = false, closed_ = false, writeClosed_ = false, over_ = false;
  bool ours_ = false;  // this side has ended the connection
  bool aborted_ = false, peerAborted_ = false, peerKeepsHalf_ = false;
};

struct HalfSide final : Side, HalfCloseableProtocol {
  using Side::Side;
  void readConnectionLost() override { readEnded(); }
  void writeConnectionLost() override {}
};

std::shared_ptr<Side> makeSide(World& world, Reactor& reactor, Kind kind, bool client) {
  if (!isTLS(kind) && world.chance(0.5)) return std::make_shared<HalfSide>(world, reactor, kind, client);
  return std::make_shared<Side>(world, reactor, kind, client);
}

struct Connecting : ClientFactory {
  Connecting(World& world, Reactor& reactor, Kind kind) : world(world), reactor(reactor), kind(kind) {}
  std::shared_ptr<Protocol> buildProtocol(const Address&) override {
    if (!world.ending && !world.chance(0.01)) return makeSide(world, reactor, kind, true);
    ++world.counters.refused;
    return nullptr;
  }
  World& world;
  Reactor& reactor;
  Kind kind;
};

class Soak {
 public:
  Soak(ReactorFixture& fixture, std::uint64_t seed)
      : fixture_(fixture), reactor_(fixture.reactor), world_(seed), path_(folder_.path() + "/socket") {
    const auto server = [this](Kind kind) {
      return makeFactory([this, kind]() -> std::shared_ptr<Protocol> {
        if (world_.chance(0.01)) {
          ++world_.counters.refused;
          return nullptr;
        }
        return makeSide(world_, reactor_, kind, false);
      });
    };
    ports_ = {reactor_.listenTCP(0, server(Kind::tcp), 500, "127.0.0.1"),
              reactor_.listenUNIX(path_, server(Kind::unixSocket), 500),
              reactor_.listenSSL(0, server(Kind::tls), serverTLS_, 500, "127.0.0.1"),
              reactor_.listenUNIX(path_ + "-tls", tlsFactory(serverTLS_, server(Kind::tlsOverUnix), reactor_), 500)};
  }

  void run(long operations) {
    for (long i = 0; i < operations; ++i) {
      step();
      if (world_.chance(0.7)) reactor_.iterate();
      if (i % 64 == 0) forgetThrown();
    }
    finish();
  }

  const Counters& counters() const noexcept { return world_.counters; }

 private:
  void step() {
    auto& sides = world_.sides;
    if (sides.size() < 2 * kMostConnections && world_.chance(sides.size() < kMostConnections ? 0.1 : 0.01)) connect();
    if (sides.empty()) return reactor_.iterate(1ms);
    sides[world_.below(sides.size())]->act();
  }

  void connect() {
    // Handshakes take much time: there are fewer.
    constexpr Kind kinds[] = {Kind::tcp,        Kind::tcp,        Kind::tcp, Kind::unixSocket,
                              Kind::unixSocket, Kind::unixSocket, Kind::tls, Kind::tlsOverUnix};
    const Kind kind = kinds[world_.below(8)];
    std::shared_ptr<ClientFactory> factory = std::make_shared<Connecting>(world_, reactor_, kind);
    if (isTLS(kind)) factory = tlsFactory(clientTLS_, factory, reactor_);
    const auto& port = *ports_[static_cast<std::size_t>(kind)];
    std::shared_ptr<Connector> connector;
    if (kind == Kind::tcp || kind == Kind::tls) {
      connector = reactor_.connectTCP("127.0.0.1", std::get<IPv4Address>(port.getHost()).port, factory, 30s);
    } else {
      connector = reactor_.connectUNIX(kind == Kind::unixSocket ? path_ : path_ + "-tls", factory, 30s);
    }
    if (world_.chance(0.03)) connector->stopConnecting();
  }

  void finish() {
    world_.ending = true;
    const Duration limit = reactor_.seconds() + kLimit;
    // Once more for those that are accepted meanwhile.
    for (int quiet = 0; quiet < 50;) {
      const auto sides = world_.sides;
      for (Side* side : sides) side->end();
      reactor_.iterate(sides.empty() ? 0ms : 10ms);
      quiet = sides.empty() ? quiet + 1 : 0;
      if (reactor_.seconds() > limit) {
        for (Side* side : world_.sides) std::printf("does not end: %s\n", side->describe().c_str());
        throw Problem("connections do not end");
      }
    }
    for (const auto& port : ports_) port->stopListening();
    ports_.clear();
    reactor_.iterate();
    forgetThrown();
  }

  /// What the test threw itself has been logged.
  void forgetThrown() { fixture_.flushLoggedErrors<std::domain_error>(); }

  ReactorFixture& fixture_;
  Reactor& reactor_;
  World world_;
  test::TemporaryDirectory folder_;
  const std::string path_;
  TLSOptions serverTLS_ = optionsForServerTLS(
      {.privateKey = test::testPKI().localhost.privateKey, .certificate = test::testPKI().localhost.certificate});
  TLSOptions clientTLS_ = optionsForClientTLS("localhost", {.trustRoots = test::testPKI().authority.certificate});
  std::vector<std::shared_ptr<ListeningPort>> ports_;  // by Kind
};

/// What is left of a run on a reactor that lives on.
std::string soak(ReactorFixture& fixture, long operations, std::uint64_t seed, Counters& counters) {
  {
    Soak soak(fixture, seed);
    soak.run(operations);
    counters = soak.counters();
  }
  std::string problems = counters.failed ? "; a side saw what it must not see" : "";
  for (const std::string& problem : fixture.finish()) problems += "; " + problem;
  return problems;
}

bool passes(long operations, std::uint64_t seed) {
  std::printf("seed %llu: ", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const auto start = std::chrono::steady_clock::now();
  std::string problems;
  Counters counters;
  try {
    ReactorFixture fixture;
    // A tenth first, which fills tables and caches.
    problems = soak(fixture, operations / 10, seed + 1, counters);
    const std::size_t descriptors = test::openDescriptors(), memory = test::memoryInUse();
    problems += soak(fixture, operations, seed, counters);
    if (const std::size_t now = test::openDescriptors(); now != descriptors) {
      problems += "; " + std::to_string(now) + " descriptors in place of " + std::to_string(descriptors);
    }
    if (const std::size_t now = test::memoryInUse(); now > memory + kTables) {
      problems += "; " + std::to_string(now - memory) + " bytes more in use than before";
    }
  } catch (const std::exception& e) {
    problems += std::string("; ") + e.what();
  }
  const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf(
      "%ld operations, %ld ends of connections, %ld MB; ended cleanly %ld, lost %ld, aborted %ld, refused %ld, "
      "thrown %ld; %.1f s%s\n",
      operations, counters.connections, counters.bytes / 1'000'000, counters.clean, counters.lost, counters.aborted,
      counters.refused, counters.thrown, seconds, problems.c_str());
  return problems.empty();
}

}  // namespace

int main(int argc, char** argv) {
  const long operations = argc > 1 ? std::atol(argv[1]) : 100'000;
  std::vector<std::uint64_t> seeds{1, std::random_device()()};
  if (argc > 2) seeds = {std::strtoull(argv[2], nullptr, 10)};
  int passed = 0, failed = 0;
  for (const std::uint64_t seed : seeds) ++(passes(operations, seed) ? passed : failed);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
