// What addReader and addWriter have added.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include <reactor/descriptor.hpp>
#include <reactor/detail/poller.hpp>
#include <reactor/detail/reactor_impl.hpp>

namespace torsion::detail {

class DescriptorSet {
 public:
  explicit DescriptorSet(ReactorImpl& reactor) noexcept : reactor_(reactor) {}

  void addReader(std::shared_ptr<ReadDescriptor> reader, const std::source_location& where);
  void addWriter(std::shared_ptr<WriteDescriptor> writer, const std::source_location& where);
  void removeReader(const ReadDescriptor& reader);
  void removeWriter(const WriteDescriptor& writer);
  std::vector<std::shared_ptr<FileDescriptor>> removeAll();
  std::vector<std::shared_ptr<ReadDescriptor>> readers() const;
  std::vector<std::shared_ptr<WriteDescriptor>> writers() const;

 private:
  class Entry;
  Entry& entryFor(int fd, const std::source_location& where);

  ReactorImpl& reactor_;
  std::map<int, std::shared_ptr<Entry>> entries_;  // by descriptor
};

}  // namespace torsion::detail
