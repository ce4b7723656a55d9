# AMP, both ends of Python Twisted's; used as amp_torsion.cpp.
import os
import sys
import time

from twisted.internet import endpoints, protocol, reactor
from twisted.protocols import amp

UNDER_WAY = 50


class Sum(amp.Command):
    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]
    response = [(b"total", amp.Integer())]


class Math(amp.AMP):
    @Sum.responder
    def sum(self, a, b):
        return {"total": a + b}


class Caller:
    def __init__(self, amp, server):
        self.amp, self.server, self.calls = amp, ~server << 3 | 2, 0
        for _ in range(UNDER_WAY):
            self.call()
        reactor.callLater(0.3, self.begin)
        reactor.callLater(1.5, self.report)

    def call(self):
        self.amp.callRemote(Sum, a=self.calls, b=81).addCallback(self.called)

    def called(self, response):
        self.calls += 1
        self.call()

    def times(self):
        return time.monotonic(), time.clock_gettime(self.server), time.process_time()

    def begin(self):
        self.calls, self.before = 0, self.times()

    def report(self):
        wall, server, client = (now - before for now, before in zip(self.times(), self.before))
        print("rate", self.calls / wall)
        print("server", server * 1e6 / self.calls)
        print("client", client * 1e6 / self.calls, flush=True)
        os._exit(0)


if len(sys.argv) < 3:
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Math), 4096, "127.0.0.1")
    print(port.getHost().port, flush=True)
else:
    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(sys.argv[1]))
    endpoints.connectProtocol(endpoint, amp.AMP()).addCallback(Caller, int(sys.argv[2]))
reactor.run()
