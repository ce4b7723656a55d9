"""Commands for TCP, and for any stream that is connected."""
from peer import SessionFactory, command
from twisted.internet import interfaces, reactor
from twisted.protocols.policies import TimeoutMixin
from zope.interface import implementer


@command
def listenTCP(session, interface, protocol):
    port = reactor.listenTCP(0, SessionFactory(session, protocol), interface=interface)
    session.ports.append(port)
    session.say("port", port.getHost().port)


@command
def connectTCP(session, host, port, protocol):
    reactor.connectTCP(host, int(port), SessionFactory(session, protocol))


@command
def stopListening(session):
    session.ports.pop().stopListening().addCallback(lambda _: session.say("stopped"))


@command
def write(session, text):
    session.end.transport.write(text.encode() + b"\n")


@command
def lose(session):
    session.end.transport.loseConnection()


@command
def abort(session):
    session.end.transport.abortConnection()


@command
def loseWrite(session):
    session.end.transport.loseWriteConnection()


@command
def pause(session):
    session.end.transport.pauseProducing()
    session.say("paused")


@command
def resume(session):
    session.end.transport.resumeProducing()


@command
def turn(session):
    """Answers when the reactor has turned."""
    session.say("turned")


@command
def timeout(session, seconds):
    """The peer's protocol gives up by Twisted's own means."""
    mixin = TimeoutMixin()
    mixin.transport = session.end.transport
    mixin.setTimeout(float(seconds))


PIECE = bytes(range(32, 127)) * 100


@implementer(interfaces.IPushProducer, interfaces.IPullProducer)
class Producer:
    """Sends a number of bytes, PIECE by PIECE, then closes."""

    def __init__(self, session, size, streaming):
        self.session, self.left, self.streaming = session, size, streaming
        self.paused = False
        self.told = False

    def pauseProducing(self):
        self.paused = True
        if not self.told:
            self.told = True
            self.session.say("producer paused")

    def resumeProducing(self):
        self.paused = False
        while self.left > 0 and not self.paused:
            piece = PIECE[:self.left]
            self.left -= len(piece)
            self.session.end.transport.write(piece)
            if not self.streaming:
                break
        if self.left == 0 and not self.paused:
            self.left = -1
            self.session.end.transport.unregisterProducer()
            self.session.end.transport.loseConnection()

    def stopProducing(self):
        self.session.say("producer stopped")


@command
def produce(session, size, kind):
    producer = Producer(session, int(size), kind == "push")
    session.end.transport.registerProducer(producer, producer.streaming)
    if producer.streaming:
        producer.resumeProducing()
