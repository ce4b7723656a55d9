#!/usr/bin/python3
"""Plants one bug at a time in a copy of the library, and sees that the fixed programs find it.

    mutants.py BUILD [WORD...]    all of them, or those with a WORD in their name; BUILD is a directory that is built

Prints for each which program caught it; the last line is `N passed, N failed`. A bug that can no longer be planted,
since its source has changed, has failed: plant it anew below.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import conformance
import generate

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = 1000
SOURCES = ["test/conformance/deferred_trace.cpp", "deferred/*.cpp", "deferred/detail/*.cpp", "reactor/task.cpp"]
LIBRARIES = ["-lboost_json", "-lboost_url", "-lssl", "-lcrypto", "-lcares", "-lspdlog", "-lfmt", "-pthread"]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
COMPILE = (["ccache"] if shutil.which("ccache") else []) + ["g++", "-std=c++20", "-O0", "-I."]

CHAIN, JOIN = "deferred/detail/chain.cpp", "deferred/detail/join.cpp"
TOKENS, LOOP = "deferred/detail/tokens.cpp", "reactor/task.cpp"

# (what is wrong, file, the source's text, the text in its place)
MUTANTS = [
    ("cancel: a late result after it is an error", CHAIN, "swallowNext_ = true;", "swallowNext_ = false;"),
    ("cancel: all late results are dropped, not one", CHAIN, "    swallowNext_ = false;\n    return;", "    return;"),
    ("cancel: fails a Deferred that its canceller has fired", CHAIN,
     "  if (chain->called_) return {};\n  chain->putFailure(CancelledError());", "  chain->putFailure(CancelledError());"),
    ("pause: a paused Deferred that a callback returned is not waited for", CHAIN,
     "if (inner->idle() || (", "if (inner->called_ || ("),
    ("pause: a paused chain runs on once it has begun", CHAIN, "while (head_ && !paused_)", "while (head_)"),
    ("chaining: cancel does not reach the Deferred that is waited for", CHAIN, "chain = chain->waitsFor_;",
     "return {};"),
    ("chaining: a Deferred whose value another took keeps it", CHAIN, "  other.state_ = state_;\n  state_ = State::taken;",
     "  other.state_ = state_;"),
    ("chaining: chainDeferred leaves a failure unhandled", CHAIN, "        chain.moveResultTo(target);\n",
     "        if (chain.failed()) target.putFailure(chain.failure()); else chain.moveResultTo(target);\n"),
    ("list: consumeErrors consumes nothing", JOIN, "if (consumeErrors_ && input.failed()) input.markTaken();", ""),
    ("list: cancel reaches the first input alone", JOIN, "return index < inputs_.size() ? inputs_[index].chain", "return index < 1 ? inputs_[index].chain"),
    ("list: FirstError names the wrong input", "deferred/list.hpp", "FirstError(input.failure(), index));\n      return;",
     "FirstError(input.failure(), 0));\n      return;"),
    ("lock: the last to wait is served first", TOKENS,
     "Waiter first = takeFront(waiting);", "Waiter first = takeAt(waiting, std::prev(waiting.end()));"),
    ("lock: a cancelled acquire() stays in the queue", TOKENS, "static_cast<void>(takeAt(tokens->waiting, at));", "(void)at;"),
    ("queue: takes one value more than its size", "deferred/sync.hpp", ">= *size_", "> *size_"),
    ("timeout: its timer outlives the result", "deferred/deferred.hpp",
     "if (state->timer.active()) state->timer.cancel();", ""),
    ("coroutine: a failure that it has seen stays unhandled", "deferred/detail/coroutine.hpp",
     "awaited_->markHandled();", ""),
    ("coroutine: cancel does not go through its own Deferred first", CHAIN, "  prepend(*make<CancelNode>(sure));",
     "  append(*make<CancelNode>(sure));"),
    ("LoopingCall: drifts off its grid", LOOP, "interval - (time.seconds() - startTime) % interval", "interval"),
    ("LoopingCall: reset() keeps the old grid", LOOP,
     "  state.startTime = state.time.seconds();\n  state.schedule();", "  state.schedule();"),
    ("LoopingCall: the first count is one too few", LOOP, "calledAtStart ? startTime - interval : startTime", "startTime"),
]


def units():
    """The sources to compile, each with all the files of the tree that it includes."""
    found = {}
    for unit in (p.relative_to(ROOT) for pattern in SOURCES for p in sorted(ROOT.glob(pattern))):
        reached = [unit]
        for path in reached:
            names = map(pathlib.Path, INCLUDE.findall((ROOT / path).read_text()))
            reached += [n for n in names if n not in reached and (ROOT / n).is_file()]
        found[unit] = reached
    return found


def compile_unit(where, unit):
    out = where / (str(unit).replace("/", "_") + ".o")
    done = subprocess.run(COMPILE + ["-c", str(unit), "-o", str(out)], cwd=where, capture_output=True, text=True,
                          env=dict(os.environ, CCACHE_BASEDIR=str(where), CCACHE_NOHASHDIR="1"))
    if done.returncode:
        raise RuntimeError("does not compile:\n" + done.stderr[:2000])
    return out


class Plant:
    """The library as it is, compiled, and what the programs give with Twisted."""

    def __init__(self, build, top):
        self.library, self.top = pathlib.Path(build) / "libtorsion.a", top
        conformance.watch_corners()
        self.programs, _ = conformance.expected(generate.generate(seed) for seed in range(PROGRAMS))
        self.units = units()
        self.base = self.copy()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            self.objects = dict(zip(self.units, pool.map(lambda u: compile_unit(self.base, u), self.units)))

    def copy(self):
        where = pathlib.Path(tempfile.mkdtemp(dir=self.top))
        for path in set().union(*self.units.values()):
            (where / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, where / path)
        return where

    def differing(self, where, objects):
        """The first program that does not do as with Twisted, or None."""
        driver = where / "deferred_trace"
        # What is compiled here comes first, so that nothing of the same name is taken from the library.
        subprocess.run(["g++", "-o", str(driver), *map(str, objects), str(self.library), *LIBRARIES], check=True)
        bad = conformance.compare(["prlimit", "--as=4000000000", "--cpu=30", str(driver)], self.programs, most=1)
        return json.loads(bad[0]) if bad else None

    def attempt(self, mutant):
        """Returns (caught, what to say)."""
        _, file, old, new = mutant
        times = (ROOT / file).read_text().count(old)
        if times != 1:
            return False, "cannot be planted: its text is there %d times" % times
        where = self.copy()
        (where / file).write_text((where / file).read_text().replace(old, new))
        objects = [compile_unit(where, unit) if pathlib.Path(file) in files else self.objects[unit]
                   for unit, files in self.units.items()]
        program = self.differing(where, objects)
        shutil.rmtree(where)
        if not program:
            return False, "NOT CAUGHT by %d programs" % len(self.programs)
        return True, "caught by seed %d (%s)" % (program["seed"], program["profile"])


def main(build, *words):
    chosen = [m for m in MUTANTS if not words or any(w in m[0] for w in words)]
    failed = 0
    with tempfile.TemporaryDirectory() as top:
        plant = Plant(build, top)
        program = plant.differing(plant.base, plant.objects.values())
        if program:
            print("with no bug planted, seed %d differs\n0 passed, %d failed" % (program["seed"], len(chosen)))
            return 1
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for mutant, job in [(m, pool.submit(plant.attempt, m)) for m in chosen]:
                try:
                    caught, said = job.result()
                except RuntimeError as e:
                    caught, said = False, str(e)
                failed += not caught
                print("%s: %s" % (mutant[0], said), flush=True)
    print("%d passed, %d failed" % (len(chosen) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
