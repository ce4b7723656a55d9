# Timers of Python Twisted: the work of timers.hpp with 200,000 timers.
import random
import time

from twisted.internet import reactor

TIMERS = 200000

random.seed(1)
due = [60 + random.random() * 60 for _ in range(TIMERS)]
order = list(range(TIMERS))
timers = [None] * TIMERS
calls = 0


def expired():
    global calls
    calls += 1
    if calls == TIMERS:
        reactor.stop()


def timed(name, work):
    start = time.process_time()
    work()
    print(name, (time.process_time() - start) * 1e9 / TIMERS)


def schedule():
    for i in order:
        timers[i] = reactor.callLater(due[i], expired)


def postpone():
    for i in order:
        timers[i].reset(due[i] + 5)


def cancel():
    for i in order:
        timers[i].cancel()


def outstanding():
    timed("schedule", schedule)
    timed("postpone", postpone)
    timed("cancel", cancel)
    schedule()
    random.shuffle(order)
    timed("postpone_random", postpone)
    random.shuffle(order)
    timed("cancel_random", cancel)
    reactor.callLater(0, expiring)


def expiring():
    global start
    for i in range(TIMERS):
        timers[i] = reactor.callLater(0.5 + (i * 7919) % 500 / 1000, expired)
    for i in range(TIMERS):
        timers[i].delay(0.5)
    start = time.process_time()


reactor.callWhenRunning(outstanding)
reactor.run()
print("expire", (time.process_time() - start) * 1e9 / TIMERS)
