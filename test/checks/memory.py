"""The tests of protocols/ use the testing kit: no socket, no reactor but in memory, no sleep."""
import re

from tree import ROOT, conclude, sources

REAL = re.compile(r"(?<!Memory)\bReactor [a-z]|\bReactorFixture\b|\bsleep\w*\(|::socket\(|\breactor\(\)|test/interop/|loopback(TCP|UNIX)")

problems = []
for path in sources("test/protocols"):
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        if REAL.search(line):
            problems.append(f"{path}:{number}: test/interop/ is the place for real sockets: {line.strip()}")
conclude(problems)
