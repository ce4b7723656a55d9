# Chains of Python Twisted's Deferred.
import time

from twisted.internet.defer import Deferred

CALLBACKS = 10
CHAINS = 10000


class Happened(Exception):
    pass


class Expected(Exception):
    pass


def timeChains(name, count, chain):
    for _ in range(count // 20):
        chain()
    start = time.process_time()
    for _ in range(count):
        chain()
    print(name, (time.process_time() - start) * 1e9 / count / CALLBACKS)


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
