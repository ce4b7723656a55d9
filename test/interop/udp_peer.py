"""Commands for UDP."""
from peer import command
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol


class Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, session, echo):
        self.session, self.echo = session, echo

    def datagramReceived(self, data, address):
        self.session.say("datagram", data.decode())
        if self.echo:
            self.transport.write(data, address)

    def connectionRefused(self):
        self.session.say("refused")

    def stopProtocol(self):
        self.session.say("closed")


@command
def listenUDP(session, interface, echo="echo"):
    port = reactor.listenUDP(0, Datagrams(session, echo == "echo"), interface=interface)
    session.udp = port
    session.ports.append(port)
    session.say("port", port.getHost().port)


@command
def listenMulticast(session, group, interface):
    port = reactor.listenMulticast(0, Datagrams(session, False), listenMultiple=True)
    session.udp = port
    session.ports.append(port)
    port.setOutgoingInterface(interface)
    port.joinGroup(group, interface).addCallbacks(
        lambda _: session.say("port", port.getHost().port), lambda reason: session.say("failed", reason.type.__name__))


@command
def leaveGroup(session, group, interface):
    session.udp.leaveGroup(group, interface).addCallback(lambda _: session.say("left"))


@command
def connectUDP(session, host, port):
    session.udp.connect(host, int(port))


@command
def allowBroadcast(session):
    session.udp.setBroadcastAllowed(True)


@command
def send(session, text, host="", port="0"):
    session.udp.write(text.encode(), (host, int(port)) if host else None)
