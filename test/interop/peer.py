"""Python Twisted as the other end of the tests. Prints `port N`, and serves sessions there.

A session is one test's connection: it gets commands, a line each, and says what happens to the other end, a line each.
The commands of each transport are in NAME_peer.py. What a session has opened ends with it.
"""
import ctypes
import hashlib
import importlib
import signal

from twisted.internet import interfaces, reactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer


class Session(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    commands = {}

    def __init__(self):
        self.end = None  # the newest protocol; the commands are for it
        self.ports = []
        self.connections = []

    def lineReceived(self, line):
        name, *arguments = line.decode().split(" ")
        try:
            self.commands[name](self, *arguments)
        except Exception as error:
            self.say("raised", type(error).__name__)

    def say(self, *words):
        self.sendLine(" ".join(map(str, words)).encode())

    def connectionLost(self, reason):
        for port in self.ports:
            port.stopListening()
        for connection in self.connections:
            if connection.connected:
                connection.transport.abortConnection()


def command(function):
    """Makes `function(session, ARGUMENT...)` the command of its name."""
    Session.commands[function.__name__] = function
    return function


@implementer(interfaces.IHandshakeListener, interfaces.IFileDescriptorReceiver)
class Recorder(Protocol):
    """Says each line that comes, and at the end how many bytes there were and their SHA-256."""

    echo = False

    def __init__(self, session):
        self.session = session
        self.size = 0
        self.digest = hashlib.sha256()
        self.line = b""

    def connectionMade(self):
        self.session.end = self
        self.session.connections.append(self)
        self.session.say("made")

    def handshakeCompleted(self):
        certificate = self.transport.getPeerCertificate()
        alpn = getattr(self.transport, "negotiatedProtocol", None)  # there is none after startTLS
        self.session.say("handshake", alpn.decode() if alpn else "-",
                         certificate.get_subject().CN.replace(" ", "_") if certificate else "-")

    def fileDescriptorReceived(self, descriptor):
        self.session.descriptor = descriptor
        self.session.say("descriptor")

    def dataReceived(self, data):
        if self.echo:
            self.transport.write(data)
        if self.size < 1000:
            *lines, self.line = (self.line + data).split(b"\n")
            for line in lines:
                self.session.say("line", line.decode(errors="replace"))
        self.size += len(data)
        self.digest.update(data)

    def connectionLost(self, reason):
        self.session.say("lost", reason.type.__name__, self.size, self.digest.hexdigest()[:16])


class Echo(Recorder):
    echo = True


class Thrower(Recorder):
    def dataReceived(self, data):
        raise ValueError("planted")


class Stalled(Recorder):
    def connectionMade(self):
        self.transport.pauseProducing()
        super().connectionMade()


@implementer(interfaces.IHalfCloseableProtocol)
class HalfCloser(Recorder):
    def readConnectionLost(self):
        self.session.say("read lost")

    def writeConnectionLost(self):
        self.session.say("write lost")


PROTOCOLS = {each.__name__: each for each in (Recorder, Echo, Thrower, Stalled, HalfCloser)}


class SessionFactory(ClientFactory):
    """Server or client: protocols that report to the session."""

    noisy = False

    def __init__(self, session, protocol):
        self.session = session
        self.built = PROTOCOLS[protocol]

    def buildProtocol(self, address):
        return self.built(self.session)

    def clientConnectionFailed(self, connector, reason):
        self.session.say("failed", reason.type.__name__)


if __name__ == "__main__":
    import peer  # the one that the others import

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the program that started it
    for name in ("tcp", "udp", "unix", "tls", "basic", "amp"):
        importlib.import_module(name + "_peer")
    port = reactor.listenTCP(0, Factory.forProtocol(peer.Session), interface="127.0.0.1")
    print("port", port.getHost().port, flush=True)
    reactor.run()
