# Chains of Python Twisted's Deferred.
import time

from twisted.internet.defer import Deferred

CALLBACKS = 10
CHAINS = 12000
SLICES = 48  # as chain.hpp


class Happened(Exception):
    pass


class Expected(Exception):
    pass


def timeChains(name, count, chain):
    each = count // SLICES
    for _ in range(each):
        chain()
    spent = []
    for _ in range(SLICES):
        start = time.process_time()
        for _ in range(each):
            chain()
        spent.append(time.process_time() - start)
    print(name, min(spent) * 1e9 / each / CALLBACKS)


def intChain(a=1, b=2):
    d = Deferred()
    for _ in range(CALLBACKS):
        d.addCallback(lambda x: x + (a ^ b))
    d.callback(1)


def stringChain(text, a=0):
    d = Deferred()
    for _ in range(CALLBACKS):
        d.addCallback(lambda s: chr(ord(s[0]) + a) + s[1:])
    d.callback(text)


def failureChain():
    d = Deferred()
    for _ in range(CALLBACKS):
        d.addErrback(lambda f: f.trap(Expected))
    d.addErrback(lambda f: None)
    d.errback(Happened("it happened"))


timeChains("int", CHAINS, intChain)
timeChains("string", CHAINS, lambda: stringChain("forty characters, as a page might begin,"))
timeChains("short", CHAINS, lambda: stringChain("hello, world"))
timeChains("failure", CHAINS // 5, failureChain)
