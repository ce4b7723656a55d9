"""Commands for UNIX sockets. A name that starts with @ is an abstract one."""
import os
import tempfile

from peer import SessionFactory, command
from twisted.internet import reactor


def address(name):
    return "\0" + name[1:] if name.startswith("@") else name


@command
def listenUNIX(session, name, protocol, lock="no"):
    session.ports.append(reactor.listenUNIX(address(name), SessionFactory(session, protocol), wantPID=lock == "lock"))
    session.say("listening")


@command
def connectUNIX(session, name, protocol, lock="no"):
    reactor.connectUNIX(address(name), SessionFactory(session, protocol), checkPID=lock == "lock")


@command
def sendDescriptor(session, content, *lines):
    """Of a file with `content`; then each of `lines`."""
    with tempfile.TemporaryFile() as file:
        file.write(content.encode())
        file.seek(0)
        session.end.transport.sendFileDescriptor(os.dup(file.fileno()))
    for line in lines:
        session.end.transport.write(line.encode() + b"\n")


@command
def readDescriptor(session):
    """Says what is in the file whose descriptor came last."""
    session.say("content", os.read(session.descriptor, 100).decode())
    os.close(session.descriptor)
