#include <reactor/detail/descriptor_set.hpp>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <deferred/detail/require.hpp>
#include <deferred/detail/take.hpp>
#include <reactor/error.hpp>

namespace torsion::detail {

// One descriptor: the poller knows it once, whoever reads and whoever writes it.
class DescriptorSet::Entry final : public Watcher, public Disconnectable, public std::enable_shared_from_this<Entry> {
 public:
  Entry(DescriptorSet& set, int fd, const std::source_location& where)
      : Disconnectable(set.reactor_, where), set_(set), fd_(fd) {}

  std::string describe() const override {
    const FileDescriptor* one = reader ? static_cast<const FileDescriptor*>(reader.get()) : writer.get();
    return (one ? one->logPrefix() : "descriptor") + " (" + std::to_string(fd_) + ")";
  }

  // To be called when reader or writer has changed.
  void update() {
    if (reader || writer) {
      watch();
      return;
    }
    if (std::exchange(events_, 0) != 0 && !alwaysReady_) set_.reactor_.poller.remove(fd_, *this);
    leave();
    set_.entries_.erase(fd_);  // may destroy this
  }

  // The same, when one was added. Returns 0, or errno. It asks even for what it should have: the descriptor may have
  // been closed and opened again under the same number.
  int watch() {
    const std::uint32_t wanted = (reader ? EPOLLIN : 0U) | (writer ? EPOLLOUT : 0U);
    const bool started = events_ != 0;
    if (!started || !alwaysReady_) {
      Poller& poller = set_.reactor_.poller;
      const int error = started ? poller.change(fd_, wanted, *this) : poller.add(fd_, wanted, *this);
      alwaysReady_ = error == EPERM;  // a file
      if (error && !alwaysReady_) return error;
      if (alwaysReady_) go();
    }
    events_ = wanted;
    return 0;
  }

  void ready(std::uint32_t events) override {
    const auto self = shared_from_this();
    if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN)) {
      const bool read = reader != nullptr;
      return lose(read ? Failure(ConnectionDone()) : Failure(ConnectionLost()));
    }
    if (events & EPOLLIN && reader) call(*reader, &ReadDescriptor::doRead, "doRead");
    if (events & EPOLLOUT && writer) call(*writer, &WriteDescriptor::doWrite, "doWrite");
  }

  void shutdown() override {
    const auto self = shared_from_this();
    lose(ConnectionLost("The reactor was stopped."));
  }

  std::shared_ptr<ReadDescriptor> reader;
  std::shared_ptr<WriteDescriptor> writer;

 private:
  void go() {
    boost::asio::post(set_.reactor_.context, [self = shared_from_this()] {
      if (self->events_ == 0) return;
      self->ready(self->events_);
      if (self->events_ != 0) self->go();
    });
  }

  template <class D>
  void call(D& one, void (D::*method)(), const char* name) {
    const std::shared_ptr<FileDescriptor> keep = kept(one);
    try {
      (one.*method)();
      if (one.fileno() != fd_ && (reader || writer)) {
        lose(one, ConnectionLost("The descriptor was closed and not removed."));
      }
    } catch (const ConnectionClosed&) {
      lose(one, Failure::current());
    } catch (...) {
      const Failure failure = Failure::current();
      ReactorImpl::logCurrentException(name);
      lose(one, failure);
    }
  }
  std::shared_ptr<FileDescriptor> kept(const FileDescriptor& one) const {
    if (static_cast<const FileDescriptor*>(reader.get()) == &one) return reader;
    return writer;
  }

  void lose(const FileDescriptor& one, const Failure& reason) {
    std::shared_ptr<FileDescriptor> lost;
    if (static_cast<const FileDescriptor*>(reader.get()) == &one) lost = take(reader);
    if (static_cast<const FileDescriptor*>(writer.get()) == &one) lost = take(writer);
    if (!lost) return;  // removed meanwhile
    update();
    ReactorImpl::guarded("connectionLost of a descriptor", [&] { lost->connectionLost(reason); });
  }
  void lose(const Failure& reason) {
    if (reader) lose(*reader, reason);
    if (writer) lose(*writer, reason);
  }

  DescriptorSet& set_;
  const int fd_;
  std::uint32_t events_ = 0;  // watched for
  bool alwaysReady_ = false;
};

DescriptorSet::Entry& DescriptorSet::entryFor(int fd, const std::source_location& where) {
  if (fd < 0) throw std::invalid_argument("addReader, addWriter: fileno() gives no descriptor");
  auto& entry = entries_[fd];
  if (!entry) entry = std::make_shared<Entry>(*this, fd, where);
  return *entry;
}

void DescriptorSet::addReader(std::shared_ptr<ReadDescriptor> reader, const std::source_location& where) {
  require(reader, "addReader: there is no reader");
  Entry& entry = entryFor(reader->fileno(), where);
  if (entry.reader && entry.reader != reader) throw std::logic_error("addReader: the descriptor has another reader");
  entry.reader = std::move(reader);
  if (const int error = entry.watch()) {
    const auto refused = take(entry.reader);
    entry.update();
    throw std::system_error(error, std::generic_category(), "addReader");
  }
}

void DescriptorSet::addWriter(std::shared_ptr<WriteDescriptor> writer, const std::source_location& where) {
  require(writer, "addWriter: there is no writer");
  Entry& entry = entryFor(writer->fileno(), where);
  if (entry.writer && entry.writer != writer) throw std::logic_error("addWriter: the descriptor has another writer");
  entry.writer = std::move(writer);
  if (const int error = entry.watch()) {
    const auto refused = take(entry.writer);
    entry.update();
    throw std::system_error(error, std::generic_category(), "addWriter");
  }
}

// By the object: it may have forgotten its descriptor.
void DescriptorSet::removeReader(const ReadDescriptor& reader) {
  for (const auto& [fd, found] : entries_) {
    if (found->reader.get() != &reader) continue;
    const auto entry = found;
    const auto removed = take(entry->reader);
    return entry->update();
  }
}
void DescriptorSet::removeWriter(const WriteDescriptor& writer) {
  for (const auto& [fd, found] : entries_) {
    if (found->writer.get() != &writer) continue;
    const auto entry = found;
    const auto removed = take(entry->writer);
    return entry->update();
  }
}

std::vector<std::shared_ptr<FileDescriptor>> DescriptorSet::removeAll() {
  std::vector<std::shared_ptr<FileDescriptor>> removed;
  for (const auto& [fd, entry] : std::map(entries_)) {
    const std::shared_ptr<FileDescriptor> reader = take(entry->reader);
    const std::shared_ptr<FileDescriptor> writer = take(entry->writer);
    if (reader) removed.push_back(reader);
    if (writer && writer != reader) removed.push_back(writer);
    entry->update();
  }
  return removed;
}

std::vector<std::shared_ptr<ReadDescriptor>> DescriptorSet::readers() const {
  std::vector<std::shared_ptr<ReadDescriptor>> all;
  for (const auto& [fd, entry] : entries_) {
    if (entry->reader) all.push_back(entry->reader);
  }
  return all;
}
std::vector<std::shared_ptr<WriteDescriptor>> DescriptorSet::writers() const {
  std::vector<std::shared_ptr<WriteDescriptor>> all;
  for (const auto& [fd, entry] : entries_) {
    if (entry->writer) all.push_back(entry->writer);
  }
  return all;
}

}  // namespace torsion::detail
