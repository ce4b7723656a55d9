# Python Twisted's receivers: the work of framing.hpp with fewer messages.
import time

from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver, LineReceiver, NetstringReceiver

MESSAGES = 20000
PASSES = 8  # as framing.hpp
READ, SHORT_READ, LONG_READ = 65536, 24, 16384
LONG_LINE, LONG_LINES = 1 << 20, 4
MESSAGE = b"sixteen letters."


class Lines(LineReceiver):
    MAX_LENGTH = LONG_LINE
    bytes = 0

    def lineReceived(self, line):
        self.bytes += len(line)


class Netstrings(NetstringReceiver):
    bytes = 0

    def stringReceived(self, string):
        self.bytes += len(string)


class Int32(Int32StringReceiver):
    bytes = 0

    def stringReceived(self, string):
        self.bytes += len(string)


def timed(name, protocol, data, read, messages, size):
    spent = []
    for _ in range(PASSES):
        receiver = protocol()
        receiver.makeConnection(StringTransport())
        start = time.process_time()
        for at in range(0, len(data), read):
            receiver.dataReceived(data[at:at + read])
        spent.append(time.process_time() - start)
        assert receiver.bytes == messages * size
    print(name, min(spent) * 1e9 / messages)


lines = (MESSAGE + b"\r\n") * MESSAGES
timed("lines", Lines, lines, READ, MESSAGES, len(MESSAGE))
timed("cut", Lines, lines, SHORT_READ, MESSAGES, len(MESSAGE))
timed("long", Lines, (b"x" * LONG_LINE + b"\r\n") * LONG_LINES, LONG_READ, LONG_LINES, LONG_LINE)
timed("netstrings", Netstrings, (b"16:" + MESSAGE + b",") * MESSAGES, READ, MESSAGES, len(MESSAGE))
timed("int32", Int32, (b"\0\0\0\x10" + MESSAGE) * MESSAGES, READ, MESSAGES, len(MESSAGE))
