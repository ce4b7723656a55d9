"""AMP: protocols for the commands of the transports (listenTCP 127.0.0.1 Math, ...), and commands that call."""
import datetime
import decimal
import math
import os

from peer import PROTOCOLS, command
from tls_peer import read
from twisted.internet import defer, reactor, ssl
from twisted.protocols import amp
from twisted.python.filepath import FilePath


class Sum(amp.Command):
    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]
    response = [(b"total", amp.Integer())]


class Die(Exception):
    pass


class Divide(amp.Command):
    arguments = [(b"numerator", amp.Integer()), (b"denominator", amp.Integer())]
    response = [(b"result", amp.Float())]
    errors = {ZeroDivisionError: b"ZERO_DIVISION"}
    fatalErrors = {Die: b"DIE"}


class Later(amp.Command):
    """Its answers come in another order."""

    arguments = [(b"number", amp.Integer())]
    response = [(b"number", amp.Integer())]


class Note(amp.Command):
    arguments = [(b"text", amp.Unicode())]
    requiresAnswer = False


class Missing(amp.Command):
    pass


class Types(amp.Command):
    arguments = response = [
        (b"integer", amp.Integer()),
        (b"string", amp.String()),
        (b"unicode", amp.Unicode()),
        (b"boolean", amp.Boolean()),
        (b"float", amp.Float()),
        (b"decimal", amp.Decimal()),
        (b"datetime", amp.DateTime()),
        (b"path", amp.Path()),
        (b"listof", amp.ListOf(amp.Integer())),
        (b"unicodes", amp.ListOf(amp.Unicode())),
        (b"times", amp.ListOf(amp.DateTime())),
        (b"amplist", amp.AmpList([(b"x", amp.Integer()), (b"name", amp.Unicode(optional=True))])),
        (b"maybe-integer", amp.Integer(optional=True)),
        (b"maybe-list", amp.ListOf(amp.String(), optional=True)),
    ]


class PassFile(amp.Command):
    arguments = [(b"file", amp.Descriptor())]
    response = [(b"file", amp.Descriptor()), (b"content", amp.String())]


def zone(minutes):
    return datetime.timezone(datetime.timedelta(minutes=minutes))


VALUES = [
    dict(integer=-123456789012345678, string=b"\0\xff any", unicode="wor\u1234ld \U0001f600", boolean=True, float=0.1,
         decimal=decimal.Decimal("-1.50E+7"), datetime=datetime.datetime(2010, 12, 25, 1, 2, 3, 456789, zone(210)),
         path=FilePath("/tmp/\u00e9"), listof=[1, -20, 500], unicodes=["\u2603", ""],
         times=[datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, zone(-419))],
         amplist=[dict(x=7, name="hello"), dict(x=9, name=None)], maybe_integer=5, maybe_list=[b"a", b""]),
    dict(integer=0, string=b"", unicode="", boolean=False, float=math.inf, decimal=decimal.Decimal("sNaN12"),
         datetime=datetime.datetime(1, 1, 2, tzinfo=zone(0)), path=FilePath("/"), listof=[], unicodes=[], times=[],
         amplist=[], maybe_integer=None, maybe_list=None),
    dict(integer=2**63 - 1, string=b"x" * 65535, unicode="x", boolean=True, float=-1.5e-7, decimal=decimal.Decimal("0E-7"),
         datetime=datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, zone(-300)), path=FilePath("/a b"),
         listof=[0] * 1000, unicodes=["a"], times=[], amplist=[dict(x=i, name=None) for i in range(100)], maybe_integer=0,
         maybe_list=[]),
]


def shown(value):
    return value.isoformat() if isinstance(value, datetime.datetime) else repr(value)


class Math(amp.AMP):
    tls = None

    def __init__(self, session):
        amp.AMP.__init__(self)
        self.session = session
        self.later = []

    def connectionMade(self):
        self.session.end = self
        self.session.say("made")

    def connectionLost(self, reason):
        amp.AMP.connectionLost(self, reason)
        self.session.say("lost", reason.type.__name__)

    @Sum.responder
    def sum(self, a, b):
        return {"total": a + b}

    @Divide.responder
    def divide(self, numerator, denominator):
        if numerator == 13:
            raise Die("unlucky")
        if numerator == 14:
            raise KeyError("undeclared")
        return {"result": numerator / denominator}

    @Later.responder
    def answerLater(self, number):
        answer = defer.Deferred()
        self.later.append((number, answer))
        if len(self.later) == 50:
            for number, answer in reversed(self.later):
                reactor.callLater(0, answer.callback, {"number": number})
        return self.later[-1][1]

    @Note.responder
    def note(self, text):
        self.session.say("note", text)
        return {}

    @Types.responder
    def types(self, **values):
        self.session.say("types", *sorted(f"{key}={shown(value)}".replace(" ", "_") for key, value in values.items()
                                          if key not in ("string", "listof", "times", "amplist")))
        return values

    @PassFile.responder
    def passFile(self, file):
        content = os.pread(file, 100, 0)
        reactor.callLater(1, os.close, file)  # after it has been sent
        return {"file": file, "content": content}

    @amp.StartTLS.responder
    def startTLS(self):
        return {"tls_localCertificate": ssl.PrivateCertificate.loadPEM(read(self.session.certificate))}


PROTOCOLS["Math"] = Math


def called(session, deferred):
    deferred.addCallbacks(lambda answer: session.say("answer", *(f"{k}={v!r}" for k, v in answer.items())),
                          lambda failure: session.say("failed", failure.type.__name__,
                                                      str(failure.value).replace("\n", " ")))


@command
def callSum(session, a, b):
    called(session, session.end.callRemote(Sum, a=int(a), b=int(b)))


@command
def callDivide(session, numerator, denominator):
    called(session, session.end.callRemote(Divide, numerator=int(numerator), denominator=int(denominator)))


@command
def callMissing(session):
    called(session, session.end.callRemote(Missing))


@command
def callNote(session, text):
    session.end.callRemote(Note, text=text)


@command
def callLater(session, count):
    calls = [session.end.callRemote(Later, number=i) for i in range(int(count))]
    defer.gatherResults(calls).addCallback(
        lambda answers: session.say("answers", [a["number"] for a in answers] == list(range(int(count)))))


@command
def callTypes(session, index):
    sent = VALUES[int(index)]

    def compare(got):
        wrong = [key for key in sent if repr(got[key]) != repr(sent[key]) and got[key] != sent[key]]
        session.say("wrong", [(key, got[key], sent[key]) for key in wrong]) if wrong else session.say("same")

    session.end.callRemote(Types, **sent).addCallbacks(
        compare, lambda failure: session.say("failed", failure.type.__name__, str(failure.value)))


@command
def callPassFile(session, path):
    with open(path, "rb") as file:
        # What is sent is read when it leaves, so the file has to be open then.
        d = session.end.callRemote(PassFile, file=os.dup(file.fileno()))
    d.addCallbacks(lambda answer: session.say("file", os.pread(answer["file"], 100, 0).decode(), answer["content"].decode()),
                   lambda failure: session.say("failed", failure.type.__name__))


@command
def callStartTLS(session, trust):
    authority = ssl.Certificate.loadPEM(read(trust))
    called(session, session.end.callRemote(amp.StartTLS, tls_verifyAuthorities=[authority]))
    called(session, session.end.callRemote(Sum, a=1, b=2))


@command
def useCertificate(session, path):
    session.certificate = path
    session.say("ready")
