"""Framing, files, port forwarding and the small protocols, as Twisted has them. Its own classes, which report."""
import hashlib

from peer import PROTOCOLS, command
from tls_peer import clientContext, options, serverContext
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols import basic, finger, portforward, wire
from twisted.protocols.tls import TLSMemoryBIOFactory


class Messages:
    """Mixed into a receiver: sends each message back, unless it begins with `no echo`. Says at the end how many there were,
    and the SHA-256 of them all, each behind its length and a colon."""

    def __init__(self, session):
        self.session = session
        self.count = 0
        self.digest = hashlib.sha256()

    def connectionMade(self):
        self.session.end = self
        self.session.connections.append(self)
        self.session.say("made")

    def note(self, message):
        self.count += 1
        self.digest.update(b"%d:" % len(message))
        self.digest.update(message)

    def got(self, message):
        self.note(message)
        if not message.startswith(b"no echo"):
            self.sendMessage(message)

    def connectionLost(self, reason):
        self.session.say("lost", reason.type.__name__, self.count, self.digest.hexdigest()[:16])


class Lines(Messages, basic.LineReceiver):
    def lineReceived(self, line):
        self.got(line)

    def sendMessage(self, line):
        self.sendLine(line)


class OnlyLines(Messages, basic.LineOnlyReceiver):
    def lineReceived(self, line):
        self.got(line)

    def sendMessage(self, line):
        self.sendLine(line)


class Dashes(Lines):
    delimiter = b"--"


class RawLines(Lines):
    """`raw N` is followed by N bytes; they are a message, too."""

    left = 0

    def lineReceived(self, line):
        self.got(line)
        if line.startswith(b"raw "):
            self.left = int(line[4:])
            self.pieces = []
            self.setRawMode()

    def rawDataReceived(self, data):
        mine, extra = data[:self.left], data[self.left:]
        self.left -= len(mine)
        self.pieces.append(mine)
        self.transport.write(mine)
        if self.left == 0:
            self.note(b"".join(self.pieces))
            self.setLineMode(extra)


class Strings(Messages):
    def stringReceived(self, string):
        self.got(string)

    def sendMessage(self, string):
        self.sendString(string)


class Netstrings(Strings, basic.NetstringReceiver):
    pass


class Int8(Strings, basic.Int8StringReceiver):
    pass


class Int16(Strings, basic.Int16StringReceiver):
    pass


class Int32(Strings, basic.Int32StringReceiver):
    pass


class Chat(basic.LineReceiver):
    """What is said is heard by all, as in Twisted's chatserver."""

    def __init__(self, session):
        self.session = session
        self.clients = session.__dict__.setdefault("clients", [])

    def connectionMade(self):
        self.clients.append(self)
        self.session.connections.append(self)
        self.session.say("made")

    def connectionLost(self, reason):
        self.clients.remove(self)

    def lineReceived(self, line):
        for client in self.clients:
            client.sendLine(line)


PROTOCOLS.update({each.__name__: each for each in (Lines, OnlyLines, Dashes, RawLines, Netstrings, Int8, Int16, Int32, Chat)})


@command
def message(session, text):
    session.end.sendMessage(text.encode())


@command
def longMessage(session, size):
    session.end.sendMessage(b"x" * int(size))


@command
def writeHex(session, text):
    session.end.transport.write(bytes.fromhex(text))


@command
def drip(session, text):
    """Writes `text`, hexadecimal, a byte a turn."""
    session.end.transport.setTcpNoDelay(True)
    left = bytearray.fromhex(text)

    def one():
        session.end.transport.write(bytes([left.pop(0)]))
        if left:
            reactor.callLater(0, one)

    one()


@command
def feed(session, protocol, maxLength, text):
    """Gives a receiver `text`, hexadecimal, a byte at a time: says after how many its connection was being lost (`-`: it was
    not), and what it had received, as Messages does."""

    class Receiver(Messages, getattr(basic, protocol)):
        MAX_LENGTH = int(maxLength)
        stringReceived = lineReceived = Messages.note

    receiver = Receiver(session)
    receiver.connectionMade = receiver.connectionLost = lambda *_: None
    transport = StringTransportWithDisconnection()
    transport.protocol = receiver
    receiver.makeConnection(transport)
    after = "-"
    for count, byte in enumerate(bytes.fromhex(text), 1):
        receiver.dataReceived(bytes([byte]))
        if transport.disconnecting or not transport.connected:
            after = count
            break
    session.say("fed", after, receiver.count, receiver.digest.hexdigest()[:16])


@command
def sendFile(session, path):
    file = open(path, "rb")
    sending = basic.FileSender().beginFileTransfer(file, session.end.transport)
    sending.addBoth(lambda result: (file.close(), result)[1])
    sending.addCallbacks(lambda last: (session.say("sent", last.hex()), session.end.transport.loseConnection()),
                         lambda reason: session.say("stopped"))


def listen(session, factory, cert=None):
    if cert:
        session.sayNames = None
        factory = TLSMemoryBIOFactory(serverContext(session, cert), False, factory)
        factory.noisy = False
    session.ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
    session.say("port", session.ports[-1].getHost().port)


@command
def forward(session, port, *words):
    """`cert=FILE`: clients come over TLS; `hostname=NAME trust=FILE`: it goes on over TLS."""
    given = options(words)
    cert = given.pop("cert", None)

    class OverTLS:
        """What a ProxyServer takes for the reactor."""

        def connectTCP(self, host, port, factory):
            return reactor.connectTCP(host, port, TLSMemoryBIOFactory(clientContext(**given), True, factory))

    class Server(portforward.ProxyServer):
        pass

    if given:
        Server.reactor = OverTLS()
    factory = portforward.ProxyFactory("127.0.0.1", int(port))
    factory.protocol = Server
    listen(session, factory, cert)


@command
def serve(session, name, *words):
    """A protocol of twisted.protocols.wire, or Finger. `cert=FILE`: over TLS."""
    listen(session, Factory.forProtocol(finger.Finger if name == "Finger" else getattr(wire, name)), **options(words))
