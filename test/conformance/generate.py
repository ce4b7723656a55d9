#!/usr/bin/python3
"""Random programs in the format of FORMAT.md.

    generate.py FIRST COUNT [--profile P]   programs of the seeds FIRST.. as JSON lines

A seed gives the same program for ever (with the same VERSION). The profile follows from
the seed, unless it is named. Programs keep to what FORMAT.md allows: each Deferred waits
only for Deferreds with a greater number, so that no cycle arises; what else Twisted decides
by accident is left out by running the program there (see conformance.py).
"""
import json
import random
import sys

VERSION = 2

ERRORS = ["ErrA", "ErrB", "ErrC"]
TRAPS = ["ErrA", "ErrB", "ErrC", "CancelledError", "TimeoutError", "FirstError", "AlreadyCalledError", "Exception"]

# How often each kind of step comes, beside `make` and firing, which every program has.
CORE = dict(make=4, succeed=2, fail=2, maybe=2, addCallback=8, addErrback=6, addBoth=6, addCallbacks=5,
            callback=7, errback=4)
FEW = dict(make=3, succeed=1, fail=1, maybe=1, addCallback=3, addErrback=2, addBoth=3, addCallbacks=1,
           callback=6, errback=3)
PROFILES = {
    "core": dict(CORE, cancel=1, pause=1, unpause=1, chain=1),
    "cancel": dict(CORE, cancel=12, pause=1, unpause=2, timeout=1, advance=1, list=1, inline=1),
    "pause": dict(CORE, pause=7, unpause=9, cancel=2, chain=1, inline=1),
    "chain": dict(CORE, chain=9, cancel=3, pause=1, unpause=2),
    "list": dict(FEW, list=7, gather=4, cancel=4, pause=1, unpause=1, drop=1),
    "lock": dict(FEW, lock=3, sem=3, acquire=9, release=8, runLocked=6, cancel=4, pause=1, unpause=1, inline=1),
    "queue": dict(FEW, queue=3, put=9, get=9, cancel=4, inline=1, pause=1, unpause=1),
    "time": dict(FEW, later=6, dcCancel=2, dcReset=2, dcDelay=2, dcActive=2, pending=2, timeout=6, deferLater=4,
                 advance=8, cancel=3, pause=1, unpause=1),
    "loop": dict(FEW, loop=5, loopStop=2, loopReset=2, advance=9, later=2, pending=1, cancel=2),
    "inline": dict(FEW, inline=9, cancel=5, list=1, pause=1, unpause=1, timeout=1, advance=1),
    "async": dict(FEW, **{"async": 9}, cancel=5, gather=1, pause=1, unpause=1, timeout=1, advance=1),
    "coroutine": dict(FEW, **{"async": 5}, inline=5, cancel=5, pause=2, unpause=2, lock=1, acquire=2, release=2,
                      queue=1, put=1, get=1, deferLater=1, advance=2, list=1),
    "drop": dict(CORE, drop=8, cancel=2, pause=1, unpause=1, list=2, gather=1, inline=2, **{"async": 2}),
    "mixed": dict(FEW, cancel=3, pause=2, unpause=2, chain=1, list=2, gather=1, drop=1, lock=1, sem=1, queue=1,
                  acquire=2, release=2, runLocked=2, put=2, get=2, later=2, dcCancel=1, dcReset=1, dcDelay=1,
                  dcActive=1, pending=1, timeout=2, deferLater=1, loop=2, loopStop=1, loopReset=1, advance=5,
                  inline=2, **{"async": 2}),
}
NAMES = sorted(PROFILES)
WAITERS = {"list", "gather", "inline", "async", "deferLater", "runLocked", "loop", "maybe"}
WAITING = {"cancel", "pause", "chain", "drop"}  # profiles in which more callbacks return a Deferred
TOP_ONLY = {"lock", "sem", "queue"}  # a nested one might not have run when it is used


class Generator:
    def __init__(self, seed, profile=None):
        self.seed = seed
        self.profile = profile or NAMES[seed % len(NAMES)]
        self.rng = random.Random("%d %d %s" % (VERSION, seed, self.profile))
        self.weights = PROFILES[self.profile]
        self.free = list(range(1, 120))
        self.ids = []        # every Deferred named so far
        self.base = []       # those that steps may fire
        self.planned = []    # those of them that a step is yet to make
        self.rank = {}       # d -> it may wait for greater numbers than this
        self.dropped = []    # those of `base` that a step may have dropped
        self.calls, self.loops = [], []
        self.prims = {"lock": [], "sem": [], "queue": []}
        self.paused = []
        self.functions = 0

    # -- small choices
    def chance(self, p):
        return self.rng.random() < p

    def pick(self, weights):
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def value(self):
        return self.rng.randint(-9, 99)

    def error(self):
        return [self.rng.choice(ERRORS), self.rng.randint(0, 9)]

    def classes(self):
        return self.rng.sample(TRAPS, self.rng.randint(1, 3))

    def time(self, most=6):
        return self.rng.randint(0, most)

    def function(self):
        self.functions += 1
        return self.functions - 1

    # -- names
    def new(self, kind):
        if kind == "make" and self.planned and self.chance(0.5):
            return self.planned.pop(0)
        if kind == "make" and self.dropped and self.chance(0.3):
            return self.dropped.pop()
        free = [i for i in self.free if i < 60] if kind in WAITERS else [i for i in self.free if i >= 40]
        d = self.rng.choice(free)
        self.free.remove(d)
        self.ids.append(d)
        self.rank[d] = d
        return d

    def known(self):
        """A Deferred: mostly one made before, and of those the recent ones more often."""
        if self.chance(0.02):
            return self.rng.choice(self.free)
        if self.chance(0.5):
            return self.rng.choice(self.ids[-4:])
        return self.rng.choice(self.ids)

    def fireable(self):
        return self.rng.choice(self.base[-5:] if self.chance(0.6) else self.base)

    def above(self, rank):
        """A Deferred that one of this rank may wait for, or None."""
        able = [i for i in self.ids if i > rank]
        return self.rng.choice(able) if able else None

    # -- functions
    def action(self, rank, depth):
        k = self.pick(dict(ret=4, add=5, same=5, none=2, **{"raise": 2}, fail=2, trap=3,
                           defer=12 if self.profile in WAITING else 6, do=6 if depth < 3 else 0))
        if k == "defer":
            d = self.above(rank)
            return {"k": "same"} if d is None else {"k": k, "d": d}
        if k == "do":
            return {"k": k, "steps": self.nested(depth), "then": self.action(rank, 3)}
        if k in ("ret", "add"):
            return {"k": k, "v": self.value()}
        if k in ("raise", "fail"):
            return {"k": k, "e": self.error()}
        if k == "trap":
            return {"k": k, "e": self.classes(), "v": self.value()}
        return {"k": k}

    def fa(self, rank, depth):
        return {"f": self.function(), "a": self.action(rank, depth)}

    def nested(self, depth):
        return [s for _ in range(self.rng.randint(1, 3)) for s in [self.step(depth + 1)] if s]

    def canceller(self):
        k = self.pick(dict(noop=3, callback=3, errback=3, **{"raise": 1 if self.profile == "cancel" else 0.3}))
        if k == "callback":
            return {"k": k, "v": self.value()}
        return {"k": k} if k == "noop" else {"k": k, "e": self.error()}

    def script(self, rank, depth):
        out = []
        for _ in range(self.rng.randint(0, 4)):
            k = self.pick({"await": 9, "do": 3 if depth < 3 else 0, "ret": 0.5, "retadd": 0.7, "raise": 0.7})
            ins = {"k": k}
            if k == "await":
                ins["d"] = self.above(rank)
                if ins["d"] is None:
                    continue
                if self.chance(0.5):
                    ins["catch"] = {"e": self.classes(), "v": self.value()}
            elif k == "do":
                ins["steps"] = self.nested(depth)
            elif k == "raise":
                ins["e"] = self.error()
            else:
                ins["v"] = self.value()
            out.append(ins)
        return out

    # -- steps: each returns a step, or None when it has nothing to act on
    def step(self, depth=0):
        weights = self.weights
        if depth:
            weights = {k: w for k, w in weights.items() if k not in TOP_ONLY}
            if depth > 2:
                weights = {k: w for k, w in weights.items() if k not in ("later", "loop", "inline", "async")}
            if "advance" in weights:
                weights["advance"] /= 8
        for _ in range(20):
            s = self.make(self.pick(weights), depth)
            if s:
                return s
        return None

    def make(self, op, depth):
        s = {"op": op}
        if op in ("make", "succeed", "fail", "maybe"):
            d = s["d"] = self.new(op)
            if op == "make" and self.chance(0.5):
                s["canceller"] = self.canceller()
            elif op == "succeed":
                s["v"] = self.value()
            elif op == "fail":
                s["e"] = self.error()
            elif op == "maybe":
                s.update(self.fa(d, depth))
                self.alias(d, s["a"])
                if self.rank[d] != d:
                    return s
            if d not in self.base:
                self.base.append(d)
        elif op in ("addCallback", "addErrback", "addBoth", "addCallbacks"):
            d = s["d"] = self.known()
            rank = self.rank.get(d, 119)
            if op == "addCallbacks":
                s["cb"], s["eb"] = self.fa(rank, depth), self.fa(rank, depth)
            else:
                s.update(self.fa(rank, depth))
        elif op in ("callback", "errback"):
            s["d"] = self.fireable()
            if op == "callback":
                s["v"] = self.value()
            else:
                s["e"] = self.error()
        elif op in ("cancel", "drop"):
            d = s["d"] = self.known()
            if op == "drop" and d in self.base and d not in self.dropped:
                self.dropped.append(d)
        elif op == "pause":
            s["d"] = self.known()
            self.paused.append(s["d"])
        elif op == "unpause":
            s["d"] = self.rng.choice(self.paused) if self.paused and self.chance(0.9) else self.known()
        elif op == "chain":
            s["a"], s["b"] = self.known(), self.fireable()
            if s["a"] <= s["b"]:
                return None
        elif op in ("list", "gather"):
            d = s["d"] = self.new(op)
            able = [i for i in self.ids if i > d]
            n = min(len(able), self.rng.choice([0, 1, 2, 2, 3, 3, 4]))
            s["of"] = self.rng.sample(able, n)
            if s["of"] and self.chance(0.05):
                s["of"].append(self.rng.choice(s["of"]))
            if op == "list":
                s["fireOnOneCallback"] = self.chance(0.3)
                s["fireOnOneErrback"] = self.chance(0.3)
            s["consumeErrors"] = self.chance(0.5)
        else:
            return self.makeOther(s, op, depth)
        return s

    def alias(self, d, a):
        """maybeDeferred returns the very Deferred that its function returns: d is then another name of it."""
        while a["k"] == "do":
            a = a["then"]
        if a["k"] == "defer":
            self.rank[d] = max(self.rank[d], self.rank[a["d"]])

    def makeOther(self, s, op, depth):
        if op == "advance":
            s["t"] = self.time(8)
        elif op == "later":
            c = s["c"] = len(self.calls)
            self.calls.append(c)
            s["t"], s["steps"] = self.time(), self.nested(depth)
        elif op in ("dcCancel", "dcActive", "dcReset", "dcDelay"):
            if not self.calls:
                return None
            s["c"] = self.rng.choice(self.calls)
            if op in ("dcReset", "dcDelay"):
                s["t"] = self.rng.randint(-3 if op == "dcDelay" else 0, 6)
        elif op == "pending":
            pass
        elif op == "timeout":
            d = s["d"] = self.known()
            s["t"] = self.time()
            if self.chance(0.4):
                s["on"] = self.fa(self.rank.get(d, 119), depth)
        elif op == "deferLater":
            d = s["d"] = self.new(op)
            s["t"] = self.time()
            s.update(self.fa(d, depth))
        elif op == "loop":
            l, d = s["l"], s["d"] = len(self.loops), self.new(op)
            self.loops.append(l)
            s["t"] = self.rng.randint(0 if self.chance(0.2) else 1, 4)
            s["now"], s["count"] = self.chance(0.6), self.chance(0.5)
            s["script"] = [self.action(d, max(depth, 1)) for _ in range(self.rng.randint(0, 5))]
        elif op in ("loopStop", "loopReset"):
            if not self.loops:
                return None
            s["l"] = self.rng.choice(self.loops)
        elif op in ("inline", "async"):
            d = s["d"] = self.new(op)
            s["script"] = self.script(d, depth)
        elif op in ("lock", "sem", "queue"):
            p = s["p"] = sum(len(v) for v in self.prims.values())
            self.prims[op].append(p)
            if op == "sem":
                s["n"] = self.rng.randint(1, 3)
            if op == "queue":
                if self.chance(0.5):
                    s["size"] = self.rng.randint(0, 3)
                if self.chance(0.5):
                    s["backlog"] = self.rng.randint(0, 3)
        elif op in ("acquire", "release", "runLocked"):
            able = self.prims["lock"] + self.prims["sem"]
            if not able:
                return None
            s["p"] = self.rng.choice(able)
            if op != "release":
                d = s["d"] = self.new(op)
                if op == "runLocked":
                    s.update(self.fa(d, depth))
        elif op in ("put", "get"):
            if not self.prims["queue"]:
                return None
            s["p"] = self.rng.choice(self.prims["queue"])
            if op == "put":
                s["v"] = self.value()
            else:
                s["d"] = self.new(op)
        return s

    def program(self):
        for _ in range(self.rng.randint(1, 3)):
            self.base.append(self.new("planned"))
        self.planned = self.base[:]
        steps = [self.make("make", 0) for _ in range(self.rng.randint(1, 3))]
        for op in ("lock", "sem", "queue"):
            if op in self.weights and self.chance(0.6):
                steps.append(self.make(op, 0))
        for _ in range(self.rng.randint(6, 30)):
            s = self.step()
            if s:
                steps.append(s)
        # Let what still waits end, mostly, and look at the results.
        for d in self.paused:
            steps.append({"op": "unpause", "d": d})
        for d in self.base:
            if self.chance(0.4):
                steps.append({"op": "callback", "d": d, "v": self.value()})
        if "advance" in self.weights:
            steps += [{"op": "advance", "t": 40}, {"op": "pending"}]
        for d in self.ids:
            if self.chance(0.7):
                a = {"k": "same"} if self.chance(0.5) else {"k": "ret", "v": 0}
                steps.append({"op": "addBoth", "d": d, "f": self.function(), "a": a})
        return {"format": 1, "seed": self.seed, "profile": self.profile, "steps": steps}


def generate(seed, profile=None):
    return Generator(seed, profile).program()


def main(argv):
    profile = None
    if "--profile" in argv:
        i = argv.index("--profile")
        profile = argv[i + 1]
        del argv[i:i + 2]
    first, count = int(argv[0]), int(argv[1])
    for seed in range(first, first + count):
        print(json.dumps(generate(seed, profile), separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1:])
