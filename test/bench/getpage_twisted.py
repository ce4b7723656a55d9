# Pages fetched with Python Twisted's Agent without a pool: `getpage_twisted.py PORT PAGES`, as in getpage.hpp.
import sys
import time

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.web.client import Agent, readBody

IN_FLIGHT = 64
WARM_UP = 100
BODY = 13

url = b"http://127.0.0.1:%d/" % int(sys.argv[1])
wanted = int(sys.argv[2]) + WARM_UP
started = ended = 0
cpu = 0.0
agent = Agent(reactor, connectTimeout=30)


@inlineCallbacks
def worker():
    global started, ended, cpu
    while started < wanted:
        started += 1
        response = yield agent.request(b"GET", url)
        body = yield readBody(response)
        if response.code != 200 or len(body) != BODY:
            raise ValueError("a wrong page")
        ended += 1
        if ended == WARM_UP:
            cpu = time.process_time()
        elif ended == wanted:
            print("cpu_us", (time.process_time() - cpu) * 1e6 / (wanted - WARM_UP))


def failed(failure):
    failure.printTraceback()
    reactor.stop()


gatherResults([worker() for _ in range(IN_FLIGHT)]).addCallbacks(lambda _: reactor.stop(), failed)
reactor.run()
