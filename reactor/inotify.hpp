// Watching files and directories (twisted.internet.inotify).
#pragma once

#include <sys/inotify.h>  // the IN_* masks, which have Twisted's names

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <system_error>
#include <vector>

#include <reactor/reactor.hpp>

namespace torsion {

inline constexpr std::uint32_t IN_CHANGED = IN_MODIFY | IN_ATTRIB;
/// What watch() asks for unless told otherwise.
inline constexpr std::uint32_t IN_WATCH_MASK = IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_DELETE_SELF |
                                               IN_MOVE_SELF | IN_UNMOUNT | IN_MOVED_FROM | IN_MOVED_TO;

/// {"create", "is_dir"} for IN_CREATE | IN_ISDIR, and so on.
std::vector<std::string> humanReadableMask(std::uint32_t mask);

/// A path cannot be watched; the code says why (ENOENT; ENOSPC: more watches than fs.inotify.max_user_watches).
struct INotifyError : std::system_error {
  using system_error::system_error;
};

/// Calls back when something happens to files (Twisted's INotify). Paths are absolute.
///
///   INotify notifier;
///   notifier.watch("/var/spool", IN_CREATE, false,
///                  {[](const INotify::Watch&, const std::string& path, std::uint32_t) { created(path); }});
///
/// It reads from the start (Twisted's waits for startReading) until it is destroyed, by a callback too, or the reactor
/// stops.
class INotify {
 public:
  struct Watch;
  /// Gets the watch, the path of what it happened to (a watched directory's file, or the watched path itself) and the
  /// mask: IN_ISDIR for a directory, IN_IGNORED when the watch is over and the path is not deleted, IN_Q_OVERFLOW with
  /// the watch's own path, for each watch, when events were lost because they came too fast. What it throws is logged.
  using Callback = std::function<void(const Watch& watch, const std::string& path, std::uint32_t mask)>;
  struct Watch {
    std::string path;
    std::uint32_t mask;
    bool autoAdd;
    std::vector<Callback> callbacks;
  };

  /// Throws std::system_error if the system gives no more of them (fs.inotify.max_user_instances).
  explicit INotify(Reactor& reactor = torsion::reactor(), std::source_location where = std::source_location::current());
  ~INotify();
  INotify(const INotify&) = delete;
  INotify& operator=(const INotify&) = delete;

  /// Watches a file or directory for `mask`, and IN_DELETE_SELF, with which the watch ends. Changes nothing if `path`
  /// is watched already. Throws INotifyError, ReactorNotRunning when the reactor has stopped it.
  ///
  /// `autoAdd`: directories made in it later are watched likewise, if `mask` has IN_CREATE; what is in one by then is
  /// told as IN_CREATE | IN_CLOSE_WRITE, perhaps a second time. One that is moved in is not watched.
  /// `recursive`: so are the directories in it now. Links to directories are not followed.
  /// A path that is moved stays watched, under the name it had.
  void watch(const std::string& path, std::uint32_t mask = IN_WATCH_MASK, bool autoAdd = false,
             std::vector<Callback> callbacks = {}, bool recursive = false);
  /// Ends a watch: nothing more is told, not even what has happened already. Throws std::out_of_range if there is none.
  void ignore(const std::string& path);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace torsion
