#!/usr/bin/python3
"""Compares deferred_trace with Twisted on random programs.

    conformance.py DRIVER samples            the programs of samples.jsonl
    conformance.py DRIVER FIRST COUNT        the seeds FIRST ... (see generate.py)
    conformance.py DRIVER fresh COUNT        seeds that depend on the time; prints the first
        --profile P   only programs of this profile
        --keep FILE   writes the programs that were compared

Twisted decides what is right: defer_oracle.py, with Debian's python3-twisted. A program that
meets a corner which Twisted decides by accident is skipped. The first differences are
reduced to small programs and shown. Exit status 0 only if all agree.
"""
import copy
import difflib
import gc
import json
import os
import subprocess
import sys
import time
import weakref

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.setrecursionlimit(3000)
import defer_oracle
import generate
from twisted.internet import defer
from twisted.python.failure import Failure

CORNERS = {"self_return", "steal_running", "pause_running", "cancel_running_coroutine", "await_running",
           "paused_failure", "advance_raised", "tie_moved", "assertion"}
CORNERS |= {"raised_" + e for e in ("AssertionError", "AttributeError", "IndexError", "KeyError", "RuntimeError",
                                    "TypeError", "ValueError")}
BATCH = 250


def watch_corners():
    """Tags what the oracle does not see: a timeout, not a `cancel` step, that cancels a running coroutine; a failure
    left on a paused Deferred that the program has dropped."""
    cancel = defer.Deferred.cancel

    def watched(self):
        st = getattr(self, "oracle_co", None)
        if st is not None and st["running"] and not self.called:
            defer_oracle._current.tags.add("cancel_running_coroutine")
        cancel(self)

    def released(self):
        if self.paused and isinstance(getattr(self, "result", None), Failure) and defer_oracle._current:
            defer_oracle._current.tags.add("paused_failure")

    def waiting_on(self, d):
        self.__dict__["weak"] = d if d is None else weakref.ref(d)

    fire = defer.Deferred._startRunCallbacks

    def fired(self, result):
        fire(self, result)
        self._canceller = None

    made = Failure.__init__

    def make(self, *args, **kw):
        made(self, *args, **kw)
        self.cleanFailure()

    defer.Deferred.cancel = watched
    # What only its canceller needs, such as the Deferred in its place once a coroutine's was cancelled, a Deferred that
    # has fired would keep.
    defer.Deferred._startRunCallbacks = fired
    # A traceback would keep what is on the stack, such as a list that has had its callback called.
    Failure.__init__ = make
    # A coroutine's Deferred would keep what the coroutine waited for last, long after that.
    defer._CancellationStatus.waitingOn = property(lambda self: self.weak and self.weak(), waiting_on)
    defer.Deferred.__del__ = released


def oracle(program):
    """Twisted's trace, or None if the program meets a corner."""
    try:
        trace, tags = defer_oracle.run_program(program)
    except defer_oracle.Invalid:
        trace = None
    if trace is None:
        gc.collect()  # what the exception kept: the next program's unhandled failures are its own
        return None
    # An oracle that gave up on an earlier program may see what that left behind.
    if CORNERS & set(tags) or any("!Invalid" in line for line in trace):
        return None
    return "\n".join(trace) + "\n"


def drive(driver, programs):
    """The driver's traces, one for each program; the last ones are missing if it stops early."""
    try:
        done = subprocess.run(driver, input="".join(programs), capture_output=True, text=True, timeout=60)
        out, err = done.stdout, done.stderr
        if done.returncode:
            err += "exit status %d" % done.returncode
    except subprocess.TimeoutExpired as e:
        out, err = (e.stdout or b"").decode(), "timed out"
    traces, lines = [], []
    for line in out.splitlines(True):
        lines.append(line)
        if line == "end\n":
            traces.append("".join(lines))
            lines = []
    return traces, "".join(lines), err


def line_of(program):
    return json.dumps(program) + "\n"


def differs(driver, program):
    want = oracle(program)
    if want is None:
        return False
    traces, _, err = drive(driver, [line_of(program)])
    return traces[:1] != [want] or bool(err)


def lists_in(node):
    """Every list of steps, actions or instructions, and every action, so that parts can be taken out."""
    if isinstance(node, dict):
        for v in node.values():
            yield from lists_in(v)
    elif isinstance(node, list):
        if node and isinstance(node[0], dict):
            yield node
        for v in node:
            yield from lists_in(v)


def actions_in(node):
    if isinstance(node, dict):
        for key, v in node.items():
            if key in ("a", "then"):
                yield node, key
            yield from actions_in(v)
    elif isinstance(node, list):
        for v in node:
            yield from actions_in(v)


def reduce(driver, program):
    """A smaller program on which the two still differ."""
    best, changed = program, True
    until = time.time() + 30
    while changed and time.time() < until:
        changed = False
        for n in range(len(list(lists_in(best["steps"])))):
            i = 0
            while time.time() < until:
                new = copy.deepcopy(best)
                lists = list(lists_in(new["steps"]))
                if n >= len(lists) or i >= len(lists[n]):
                    break
                del lists[n][i]
                if differs(driver, new):
                    best, changed = new, True
                else:
                    i += 1
        for n in range(len(list(actions_in(best["steps"])))):
            for simple in ({"k": "same"}, {"k": "ret", "v": 0}, "then"):
                new = copy.deepcopy(best)
                all_ = list(actions_in(new["steps"]))
                if n >= len(all_):
                    break
                node, key = all_[n]
                a = node[key]
                if not isinstance(a, dict) or a["k"] in ("same", "ret") or (simple == "then" and a["k"] != "do"):
                    continue
                node[key] = a["then"] if simple == "then" else simple
                if differs(driver, new):
                    best, changed = new, True
                    break
    return best


def show(driver, program):
    small = reduce(driver, program)
    want = oracle(small)
    traces, rest, err = drive(driver, [line_of(small)])
    print("seed %s (%s) differs; reduced:" % (program.get("seed"), program.get("profile")))
    print('{"steps":[' + ",\n ".join(json.dumps(s) for s in small["steps"]) + "]}")
    got = traces[0] if traces else rest
    print("\n".join(difflib.unified_diff(want.splitlines(), got.splitlines(), "twisted", "driver", lineterm="", n=4)))
    if err.strip():
        print("the driver said: " + err.strip()[-2000:])


def programs_of(argv, profile):
    if argv[0] == "samples":
        with open(os.path.join(HERE, "samples.jsonl")) as f:
            return map(json.loads, f.readlines())
    first = int(time.time()) % 10**9 * 1000 if argv[0] == "fresh" else int(argv[0])
    if argv[0] == "fresh":
        print("seeds from %d" % first)
    return (generate.generate(seed, profile) for seed in range(first, first + int(argv[1])))


def expected(programs):
    """Those programs that meet no corner, each with Twisted's trace, and the number of the others.

    As text: the oracle collects garbage all the time, which takes the longer the more objects there are."""
    kept, skipped = [], 0
    for p in programs:
        trace = oracle(p)
        if trace is None:
            skipped += 1
        else:
            kept.append((line_of(p), trace))
    return kept, skipped


def compare(driver, kept, most=None):
    """The programs on which the driver differs; stops after `most`."""
    bad = []
    todo = list(kept)
    while todo and (most is None or len(bad) < most):
        batch, todo = todo[:BATCH], todo[BATCH:]
        traces, _, err = drive(driver, [p for p, _ in batch])
        bad += [p for (p, want), got in zip(batch, traces) if got != want]
        if len(traces) < len(batch):  # it stopped in one: go on behind that
            bad.append(batch[len(traces)][0])
            todo = batch[len(traces) + 1:] + todo
        elif err:
            sys.stderr.write(err + "\n")
            bad.append(batch[-1][0])
    return bad


def option(argv, name):
    if name not in argv:
        return None
    i = argv.index(name)
    value = argv[i + 1]
    del argv[i:i + 2]
    return value


def main(argv):
    profile, keep = option(argv, "--profile"), option(argv, "--keep")
    driver, argv = argv[:1], argv[1:]
    watch_corners()
    start = time.time()
    kept, skipped = expected(programs_of(argv, profile))
    if keep:
        with open(keep, "w") as f:
            f.writelines(p for p, _ in kept)
    bad = compare(driver, kept)
    if bad:
        print("seeds that differ: " + " ".join(str(json.loads(p).get("seed")) for p in bad[:50]), flush=True)
    for p in sorted(bad, key=len)[:3]:
        show(driver, json.loads(p))
    print("%d lines of trace in %.0f s, %d programs skipped" % (
        sum(t.count("\n") for _, t in kept), time.time() - start, skipped))
    print("%d passed, %d failed" % (len(kept) - len(bad), len(bad)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
