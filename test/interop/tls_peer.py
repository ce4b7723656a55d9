"""Commands for TLS. Options are `name=value`: cert, trust (files), alpn, hostname, layers."""
from peer import SessionFactory, command
from twisted.internet import reactor, ssl
from twisted.protocols.tls import TLSMemoryBIOFactory
from OpenSSL import SSL


def read(path):
    with open(path, "rb") as file:
        return file.read()


def options(words):
    return dict(word.split("=", 1) for word in words)


def serverContext(session, cert, trust=None, alpn=None, maximum=None):
    own = ssl.PrivateCertificate.loadPEM(read(cert))
    more = {"acceptableProtocols": alpn.encode().split(b",")} if alpn else {}
    if trust:
        more.update(trustRoot=ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(read(trust))]))
    if maximum:
        more.update(insecurelyLowerMinimumTo=ssl.TLSVersion.TLSv1_0,
                    lowerMaximumSecurityTo=getattr(ssl.TLSVersion, maximum))
    made = ssl.CertificateOptions(privateKey=own.privateKey.original, certificate=own.original, **more)

    def servername(connection):
        session.say("servername", (connection.get_servername() or b"-").decode())

    if session.sayNames:
        made.getContext().set_tlsext_servername_callback(servername)
    return made


def clientContext(hostname, trust, cert=None, alpn=None):
    more = {"acceptableProtocols": alpn.encode().split(b",")} if alpn else {}
    if cert:
        more["clientCertificate"] = ssl.PrivateCertificate.loadPEM(read(cert))
    return ssl.optionsForClientTLS(hostname, ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(read(trust))]),
                                   **more)


@command
def listenTLS(session, protocol, *words):
    given = options(words)
    session.sayNames = given.pop("names", None)
    factory = SessionFactory(session, protocol)
    for _ in range(int(given.pop("layers", 1))):
        factory = TLSMemoryBIOFactory(serverContext(session, **given), False, factory)
        factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    session.ports.append(port)
    session.say("port", port.getHost().port)


@command
def connectTLS(session, port, protocol, *words):
    given = options(words)
    factory = SessionFactory(session, protocol)
    for _ in range(int(given.pop("layers", 1))):
        factory = TLSMemoryBIOFactory(clientContext(**given), True, factory)
        factory.noisy = False
    reactor.connectTCP("127.0.0.1", int(port), factory)


@command
def startTLS(session, side, before, *words):
    """In one go, so that nothing comes in between: writes the line `before` ("-": none), and starts TLS."""
    session.sayNames = None
    given = options(words)
    if before != "-":
        session.end.transport.write(before.encode() + b"\n")
    session.end.transport.startTLS(serverContext(session, **given) if side == "server" else clientContext(**given))
