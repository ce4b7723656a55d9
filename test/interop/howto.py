"""howto.py BUILD: the programs of Twisted's howtos, and those of its examples that are servers of lines: the same bytes to
ours and to the originals give the same answers. Runs as examples.py does, which says where the originals come from."""
import contextlib
import http.client
import http.server
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from examples import DOCS, OURS, Program, check, in_own_network, listening, ours, wait

LISTINGS = DOCS / "howto/listings"
FINGER = DOCS / "howto/tutorial/listings/finger"


def python(*arguments):
    return ["/usr/bin/python3", *arguments]


def twistd(name):
    return ["twistd3", "-noy", name, "--pidfile="]


@contextlib.contextmanager
def serving(command, folder, *ports):
    """Runs a server until the end of the block, once it listens at all its ports."""
    wait(lambda: not any(listening(f"tcp {port}", folder) for port in ports))  # the last one's sockets
    with Program(command, folder) as program:
        up = wait(lambda: all(listening(f"tcp {port}", folder) for port in ports), lambda: program.process.poll() is not None)
        check(up, f"{program.name} does not listen: {program.output()}")
        yield program
        if command[0].startswith(str(OURS)) and program.process.poll() is None:
            check(ended(program, 0), f"{program.name} ends with {program.process.returncode}: {program.output()}")


def ended(program, status):
    """True when SIGTERM ends it with this status."""
    program.process.send_signal(signal.SIGTERM)
    return program.process.wait(30) == status


def say(port, *pieces, end=True):
    """What a server answers until it closes, when it is sent these and then, with `end`, hears that no more will come."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # it may have closed by now
            for piece in pieces:
                connection.sendall(piece)
            if end:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                answer += data
    return answer


class Talker:
    """A client that is at its server's side of a conversation line by line."""

    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.connection.makefile("rb")

    def say(self, data):
        self.connection.sendall(data)

    def hears(self, lines=1):
        return [self.file.readline() for _ in range(lines)]

    def close(self):
        self.file.close()
        self.connection.close()


def same(name, our_command, their_command, ports, ask, folder, wanted=None):
    """The same answers from both: what `ask` returns, which contains `wanted`."""
    answers = []
    for command in our_command, their_command:
        with serving(command, folder, *ports):
            answers.append(ask())
    check(answers[0] == answers[1] and (wanted is None or wanted in answers[0]),
          f"{name}: ours answers {answers[0]}, theirs {answers[1]}, wanted {wanted}")


# ---- The finger tutorial

REQUESTS = [[b"moshez\r\n"], [b"nobody\r\n"], [b"\r\n"], [b"mos", b"hez\r", b"\n"], [b"moshez"], [b""], [b"moshez\nshawn\n"],
            [b"moshez\r\nnobody\r\n"], [b"x" * 20000 + b"\r\n"]]


def finger_answers(port):
    return [say(port, *pieces) for pieces in REQUESTS]


def finger_set():
    before = say(79, b"moshez\r\n")
    for lines in b"moshez\r\n", b"", b"shawn\r\nHere\r\nand no more\r\n", b"moshez\r\nAway\r\n":
        say(1079, lines)
    changed = wait(lambda: say(79, b"moshez\r\n") == b"Away\r\n")
    return before, changed, say(79, b"shawn\r\n"), say(79, b"nobody\r\n")


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/~moshez" else 404)
        self.end_headers()
        self.wfile.write(b"Happy and well")

    def log_message(self, *_):
        pass


def finger(folder):
    for path in FINGER.glob("finger*"):
        if path.suffix in (".py", ".tac"):
            text = path.read_text().replace(", uid=1, gid=1", "").replace('"/etc/users"', '"users"').replace('b"finger"', 'b"./status"')
            (folder / path.name).write_text(text)
    shutil.copy(FINGER / "etc.users", folder / "users")
    (folder / "status").write_text('#!/bin/sh\n[ "$1" = nobody ] && echo none >&2\necho "Status of $1: $#"\n')
    (folder / "status").chmod(0o755)

    with Program(ours(["finger/finger01"]), folder) as program:
        status = pathlib.Path(f"/proc/{program.process.pid}/status")
        up = wait(lambda: int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> signal.SIGTERM - 1 & 1)
        check(up and not listening("tcp 1079", folder) and ended(program, 0), f"finger01: {program.output()}")
    for name, wanted in ("finger02", b""), ("finger03", b""), ("finger04", b""), ("finger05", b"No such user\r\n"), \
            ("finger06", b"No such user\r\n"), ("finger07", b"Happy and well\r\n"), ("finger08", b"Happy and well\r\n"):
        same(name, ours(["finger/" + name]), python(name + ".py"), [1079], lambda: finger_answers(1079), folder, wanted)
    same("finger09", ours(["finger/finger09", "./status"]), python("finger09.py"), [1079],
         lambda: [say(1079, line + b"\r\n", end=False) for line in (b"moshez", b"nobody", b"a; b")], folder,
         b"Internal error in server\r\n")
    # Its original needs the getPage that Twisted has given up.
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    with serving(ours(["finger/finger10", f"http://127.0.0.1:{pages.server_port}/~"]), folder, 1079):
        answers = say(1079, b"moshez\r\n", end=False), say(1079, b"nobody\r\n", end=False)
        check(answers == (b"Happy and well\r\n", b"Internal error in server\r\n"), f"finger10 answers {answers}")
    pages.shutdown()

    same("finger11", ours(["finger/finger11"]), twistd("finger11.tac"), [79], lambda: finger_answers(79), folder,
         b"Happy and well\r\n")
    for name in "finger12", "finger13":
        same(name, ours(["finger/" + name]), twistd(name + ".tac"), [79, 1079], finger_set, folder, b"Here\r\n")
    same("finger14", ours(["finger/finger14", "users"]), twistd("finger14.tac"), [79],
         lambda: [*finger_answers(79), say(79, b"shawn\r\n")], folder, b"alive\r\n")

    users = folder / "users"
    with serving(ours(["finger/finger14", "users", "tcp:1079", "1"]), folder, 1079) as program:
        users.write_text("moshez:later\n")
        check(wait(lambda: say(1079, b"moshez\r\n") == b"later\r\n"), "finger14 does not read its file again")
        check(say(1079, b"shawn\r\n") == b"No such user\r\n", "finger14 keeps who is not in its file any more")
        users.rename(folder / "away")
        check(program.shows("cannot read users") and say(1079, b"moshez\r\n") == b"later\r\n",
              f"finger14 without its file: {program.output()}")
        users.write_text("moshez : and later\n")
        check(wait(lambda: say(1079, b"moshez\r\n") == b"and later\r\n"), "finger14 has given its file up")
        check(ended(program, 0), f"finger14 ends with {program.process.returncode}: {program.output()}")
    with Program(ours(["finger/finger14", "nothing"]), folder) as program:
        check(program.shows("cannot read nothing") and program.process.wait(30) == 1, f"finger14 nothing: {program.output()}")


# ---- Chats

def chat_session():
    first = Talker(1025)
    first.say(b"one\r\n")
    heard = [first.hears()]
    second = Talker(1025)
    second.say(b"two\r\n")
    heard += [first.hears(), second.hears()]
    first.say(b"a\r\n\r\nb")
    heard += [first.hears(2), second.hears(2)]
    first.close()
    second.say(b"bye\r\n")
    heard.append(second.hears())
    second.close()
    return heard


def names_session():
    bob, alice = Talker(8123), Talker(8123)
    heard = [bob.hears(), alice.hears()]
    for talker, text in (bob, b"bob\r\n"), (alice, b"bob\r\n"), (alice, b"alice\r\n"):
        talker.say(text)
        heard.append(talker.hears())
    bob.say(b"hi\r\nthere\r\n")
    heard.append(alice.hears(2))
    alice.say(b"yes?\r\n")
    heard.append(bob.hears())
    bob.close()
    other = Talker(8123)
    other.hears()
    while True:  # until the server has heard that bob is gone
        other.say(b"bob\r\n")
        if (answer := other.hears()) != [b"Name taken, please choose another.\r\n"]:
            heard.append(answer)
            break
    alice.close()
    other.close()
    return heard


def slow_reader(name, port, folder, before, lines_back):
    """One who does not read is dropped, and the others go on."""
    line, total = b"x" * 16000 + b"\r\n", 4000
    with serving(ours([name]), folder, port) as program:
        slow, other = Talker(port), Talker(port)
        for talker, text in (slow, b"slow\r\n"), (other, b"other\r\n"):
            if before:
                talker.hears()
            talker.say(text)
            talker.hears()
        for _ in range(total):
            other.say(line)
            other.hears(lines_back)
        received = 0
        with contextlib.suppress(ConnectionError):
            while received < total * len(line) // 2 and (data := slow.connection.recv(1 << 20)):
                received += len(data)
        check(received < total * len(line) // 2, f"{name} has kept {received} bytes: {program.output()[-1000:]}")
        slow.close()
        other.close()


def chats(folder):
    shutil.copy(DOCS / "examples/chatserver.py", folder)
    same("chatserver", ours(["chatserver"]), twistd("chatserver.py"), [1025], chat_session, folder, [b"bye\n"])
    # As it has to be for Python 3.
    text = (LISTINGS / "servers/chat.py").read_text().replace("iteritems", "items")
    text = text.replace("def lineReceived(self, line):", "def sendLine(self, line):\n        LineReceiver.sendLine(self, line.encode())\n\n"
                        "    def lineReceived(self, line):\n        line = line.decode()")
    (folder / "chat.py").write_text(text)
    same("chat", ours(["chat"]), python("chat.py"), [8123], names_session, folder, [b"<bob> hi\r\n", b"<bob> there\r\n"])
    slow_reader("chatserver", 1025, folder, False, 1)
    slow_reader("chat", 8123, folder, True, 0)


# ---- Long calculations

def calculations():
    heard = []
    talker = Talker(1234)
    big = b" ".join(b"%d" % (7 ** n) for n in range(40, 80))
    for line in b"2 3", b"x y", b"-4 5 006", b"0 -5", b"+3  4 ", b"1000000000 1000000000", b"-1 -999999999 12345678901234567890", big:
        talker.say(line + b"\r\n")
        heard += talker.hears()
    talker.say(b"1 2 3 4\r\n5 6\r\n7 8 9\r\n")
    heard += talker.hears(3)
    talker.say(b"2 3\r\n" * 300)
    heard += talker.hears(300)
    talker.close()
    return heard


def numbers(folder):
    for name in "longex", "longex2":
        shutil.copy(DOCS / f"examples/{name}.py", folder)
    for name, wanted in ("longex", [b"24\r\n", b"30\r\n", b"504\r\n"]), ("longex2", [b"30\r\n", b"504\r\n", b"24\r\n"]):
        same(name, ours([name]), python(name + ".py"), [1234], calculations, folder, wanted[0])
    with serving(ours(["longex"]), folder, 1234):
        answer = say(1234, b"\r\n7\r\n")
        check(answer == b"Error.\r\nError.\r\n", f"longex answers {answer}")
    with serving(ours(["longex2"]), folder, 1234):
        talker = Talker(1234)
        talker.say(b"\r\n")
        talker.say(b"7\r\n")
        answer = talker.hears(2)
        talker.close()
        check(answer == [b"1\r\n", b"7\r\n"], f"longex2 answers {answer}")


# ---- The calculator

CLIENT = """
from calculus.client_3 import RemoteCalculationClient
from twisted.internet import defer, protocol, reactor

def connected(c):
    return defer.gatherResults([c.add(84, 10), c.subtract(84, 10), c.multiply(84, 10), c.divide(84, 10)])

d = protocol.ClientCreator(reactor, RemoteCalculationClient).connectTCP("127.0.0.1", 1234)
d.addCallback(connected).addCallback(lambda results: print(*results, sep="\\n")).addBoth(lambda _: reactor.stop())
reactor.run()
"""


def calculus(folder):
    shutil.copytree(LISTINGS / "trial/calculus", folder / "calculus", ignore=shutil.ignore_patterns("test"))
    remote = folder / "calculus/remote_2.py"
    remote.write_text(remote.read_text().replace("listenTCP(0,", "listenTCP(1234,"))
    server, their_server = ours(["calculus/remote", "1234"]), python("-m", "calculus.remote_2")
    client, their_client = ours(["calculus/client", "1234", "84", "10"]), python("-c", CLIENT)
    for serve, ask in (server, client), (server, their_client), (their_server, client):
        with serving(serve, folder, 1234), Program(ask, folder) as asking:
            check(asking.shows(r"^94\n74\n840\n8\n$") and asking.process.wait(30) == 0, f"calculus: {asking.output()}")
    def ask():
        talker = Talker(1234)
        talker.say(b"add 7 6\r\ndivide -7 2\r\nadd foo bar\r\nsubtract 1 -1\r\n  multiply  2   3 \r\n")
        heard = talker.hears(5)
        talker.close()
        return heard, *(say(1234, line + b"\r\n", end=False) for line in (b"power 2 3", b"add 2", b"", b"add 1 2 3"))

    same("calculus", server, their_server, [1234], ask, folder, b"")
    for command, status, says in (["calculus/client"], 2, "usage"), (["calculus/client", "1234", "1", "2"], 1, "refused"):
        with Program(ours(command), folder) as program:
            check(program.shows(says) and program.process.wait(30) == status, f"{program.name}: {program.output()}")


# ---- Services

def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body if response.status == 200 else b""


def services(folder):
    shutil.copy(DOCS / "examples/simple.tac", folder)
    shutil.copy(LISTINGS / "application/service.tac", folder)
    for command, yes, status in (ours(["simple"]), "true", 0), (twistd("simple.tac"), "True", -signal.SIGTERM):
        with serving(command, folder, 8080, 8081) as program:
            good = True
            for port in 8080, 8081:
                talker = Talker(port)
                talker.say(b"abc\n")
                good = good and talker.hears() == [b"abc\n"]
                talker.close()
            for pattern in "lala, starting", "lalala", r"--MARK--.*--MARK--":
                good = good and program.shows(pattern)
            good = good and ended(program, status) and re.search(rf"lala, stopping.*{yes}", program.output(), re.S)
            check(bool(good), f"{program.name}: {program.output()}")
    (folder / "page").write_bytes(bytes(range(256)))
    (folder / ".hidden").write_text("secret")
    (folder / "directory").mkdir()
    same("service", ours(["service"]), twistd("service.tac"), [8080], lambda: [get("/page"), get("/nothing")], folder,
         (200, bytes(range(256))))
    with serving(ours(["service"]), folder, 8080):
        for path in "/", "/.hidden", "/directory", "/../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/" + 300 * "x":
            status = get(path)[0]
            check(status == 404, f"service: {path} gives {status}")


# ---- AMP

REGISTRAR = """
from command_client import RegisterUser, UsernameUnavailable
from twisted.internet import protocol, reactor
from twisted.protocols.amp import AMP

class Registrar(AMP):
    def register(self, username, publickey):
        registered.append((username, publickey))
        if len(registered) > 1:
            raise UsernameUnavailable("alice is here already")
        return {"uid": 7}
    RegisterUser.responder(register)

registered = []
reactor.listenTCP(8750, protocol.Factory.forProtocol(Registrar))
reactor.run()
"""


def amp(folder):
    for name in "basic_client.py", "basic_server.tac":
        shutil.copy(LISTINGS / "amp" / name, folder)
    # As it has to be for Debian's Twisted.
    text = (LISTINGS / "amp/command_client.py").read_text()
    (folder / "command_client.py").write_text(re.sub(r'"(username|publickey|uid|username-unavailable|ssh-rsa [^"]*)"', r'b"\1"', text))

    def run(command, status, says):
        with Program(command, folder) as program:
            check(program.shows(says) and program.process.wait(30) == status, f"{program.name}: {program.output()}")

    def ask():
        talker = Talker(8750)
        talker.say(b"\0\4_ask\0\0011\0\10_command\0\14RegisterUser\0\0")
        heard = b""
        while not heard.endswith(b"\0\0"):
            heard += talker.file.read(1)
        talker.close()
        return heard[:heard.index(b"_error_description")]  # which has a bytes' repr in theirs

    same("basic_server", ours(["basic_server"]), twistd("basic_server.tac"), [8750], ask, folder, b"UNHANDLED")
    with serving(ours(["basic_server"]), folder, 8750):
        run(ours(["basic_client"]), 0, "^$")
        run(ours(["command_client"]), 1, "RegisterUser")
        run(python("-c", "import basic_client; basic_client.main()"), 0, "")
        run(python("-c", "import command_client; command_client.main()"), 0, "UnhandledCommand")
    with serving(python("-c", REGISTRAR), folder, 8750):
        run(ours(["command_client"]), 0, "^Registration result: 7\n$")
        run(ours(["command_client"]), 0, "^The name is taken\n$")
    run(ours(["basic_client"]), 1, "refused")


# ---- Small servers and clients, which the howtos show without a file: against a socket

def small(folder):
    with serving(ours(["qotd"]), folder, 8007):
        check(say(8007) == b"An apple a day keeps the doctor away\r\n", "qotd")
    with serving(ours(["qotd", "8007", "Less is more"]), folder, 8007):
        check(say(8007) == b"Less is more\r\n", "qotd with a quote")
    with serving(ours(["logfile", "log"]), folder, 8007):
        say(8007, b"one\r\ntwo\r\nno end")
        check(wait(lambda: (folder / "log").read_text() == "one\ntwo\n"), "logfile: " + (folder / "log").read_text())
    for command, status, says in (["logfile"], 2, "usage"), (["logfile", "no/log"], 1, "cannot write"), \
            (["welcome"], 1, "refused"), (["greeter"], 1, "refused"):
        with Program(ours(command), folder) as program:
            check(program.shows(says) and program.process.wait(30) == status, f"{program.name}: {program.output()}")

    for command, wanted in (["welcome"], b"Hello server, I am the client!\r\n"), \
            (["greeter"], b"MESSAGE Hello\nMESSAGE This is sent in a second\n"):
        with socket.create_server(("127.0.0.1", 1234)) as server, Program(ours(command), folder) as program:
            with server.accept()[0] as connection, connection.makefile("rb") as file:
                heard = file.read()
            check(heard == wanted and program.process.wait(30) == 0, f"{program.name} says {heard}: {program.output()}")

    with Program(ours(["reconnecting"]), folder) as program:
        check(program.shows("Started to connect.\nConnection failed. Reason: .*refused"), program.output())
        with socket.create_server(("127.0.0.1", 8000)) as server:
            for text in "first", "second":
                with server.accept()[0] as connection:
                    connection.sendall(text.encode())
                    check(program.shows(f"Connected.\nResetting reconnection delay\n{text}"), program.output())
                check(program.shows(f"{text}Lost connection.  Reason: .*Started to connect."), program.output())
        check(ended(program, 0), f"reconnecting ends with {program.process.returncode}")


def main():
    if not DOCS.is_dir():
        check(False, f"no Twisted examples in {DOCS}: run test/run, which fetches them")
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for part in finger, chats, numbers, calculus, services, amp, small:
        with tempfile.TemporaryDirectory() as name:
            part(pathlib.Path(name))


if __name__ == "__main__":
    in_own_network(__file__, main)
