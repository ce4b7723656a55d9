"""headers.py DIRECTORY: every header compiles alone, without a warning, and the public ones bring in no library but the standard one.

A header that passed is compiled again when one of the files that it read is newer than its dependency file in DIRECTORY.
"""
import pathlib
import re
import sys

from tree import FLAGS, FOLDERS, ROOT, compile_all, conclude, public_headers, sources

FOREIGN = re.compile(r"/(boost|asio|fmt|spdlog|openssl|nghttp2|brotli|CLI|doctest)/|/(ares\w*|zlib)\.h$")
BRIDGES = {pathlib.Path("reactor/asio.hpp")}  # the one opt-in header

stamps = pathlib.Path(sys.argv[1])
headers = sources(*FOLDERS, suffixes=(".hpp",))
problems = []


def stamp(header):
    return stamps / (str(header).replace("/", "__") + ".d")


def read_by(header):
    return stamp(header).read_text().replace("\\\n", " ").split()[1:]


def is_fresh(header):
    try:
        time = stamp(header).stat().st_mtime
        return all((ROOT / name).stat().st_mtime <= time for name in read_by(header))
    except OSError:
        return False


stamps.mkdir(parents=True, exist_ok=True)
stale = [header for header in headers if not is_fresh(header)]
command = 'echo "#include <$1>" | g++ "${@:3}" -x c++ -MD -MF "$2" -'
commands = [["bash", "-c", command, "check", str(header), str(stamp(header)), *FLAGS, "-Wpedantic"] for header in stale]
for header, (status, output) in zip(stale, compile_all(commands)):
    if status or output:
        problems.append(f"{header} does not compile alone without a warning:\n{output}")
        stamp(header).unlink(missing_ok=True)

for header in public_headers():
    if stamp(header).exists() and header not in BRIDGES:
        foreign = [name for name in read_by(header) if FOREIGN.search(name)]
        if foreign:
            problems.append(f"{header} is public and includes {foreign[0]} ({len(foreign)} files of other libraries)")
conclude(problems)
