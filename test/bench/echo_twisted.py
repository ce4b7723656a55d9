# An echo server of Python Twisted's.
import resource

from twisted.internet import protocol, reactor

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        self.transport.write(data)


port = reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), 4096, "127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
