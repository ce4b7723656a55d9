"""examples.py BUILD: our programs of examples/ that speak to others, each with its Python original as the other end.

The originals have fixed ports: all of this runs in a network of its own. They come from Debian's package twisted-doc, which
test/setup.sh has unpacked (see `originals` there), with new certificates in place of their old ones.
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "build/twisted-doc/usr/share/doc/twisted-doc"
OURS = pathlib.Path(sys.argv[1]).resolve() / "examples"
LINES = r"Hello, world!.*What a fine day it is\..*Bye-bye!"

# Name, our programs, the originals, where the server is found, and what the client and the server print. Each runs three times:
# ours with ours, with the original's client, and with the original's server.
PAIRS = [
    ("simple", ["simpleserv"], ["simpleclient"], "tcp 8000", r"Server said: .*hello, world!.*Connection lost - goodbye!", ""),
    ("echo", ["echoserv"], ["echoclient"], "tcp 8000", LINES, ""),
    ("echo over UDP", ["echoserv_udp"], ["echoclient_udp"], "udp 8000", LINES, ""),
    ("echo over TLS", ["echoserv_ssl"], ["echoclient_ssl"], "tcp 8000", LINES, ""),
    ("STARTTLS", ["starttls_server"], ["starttls_client"], "tcp 8000", r"READY",
     r"plain text.*STARTTLS.*Switching to TLS.*secure text"),
    ("client certificates", ["ssl_clientauth_server"], ["ssl_clientauth_client"], "tcp 8000", LINES, ""),
    ("ALPN", ["tls_alpn_npn_server"], ["tls_alpn_npn_client"], "tcp 8080", r"Next protocol is: .*h2",
     r"h2.*Connection closed cleanly"),
    ("AMP", ["ampserver"], ["ampclient"], "tcp 1234", r"Divided by zero: returning INF.*Done with math: .*94.*inf", r"13 \+ 81 = 94"),
    ("descriptors", ["sendfd", "socket", "content"], ["recvfd", "socket"], "unix socket",
     r"Received .*content.*First 80 bytes are:\s+.*what is in the file", ""),
]
# An original server, and a client of ours that is none of its own.
THEIR_SERVERS = [
    ("udp/basic_example.py", ["echoclient_udp", "9999"], "udp 9999", LINES),
    ("udp/adopt_datagram_port.py", ["echoclient_udp", "9999"], "udp 9999", LINES),
    ("udp/ipv6_listen.py", ["echoclient_udp", "9999", "::1"], "udp 9999", LINES),
    ("udp/basic_example.py", ["udp_connected", "9999", "127.0.0.1"], "udp 9999", r"received hello from 127\.0\.0\.1:9999"),
    ("examples/echoserv_ssl.py", ["check_server_certificate", "localhost", "8000", "public.pem"], "tcp 8000",
     r"OK: CN=example\.com"),
    ("examples/echoserv_ssl.py", ["check_server_certificate", "localhost", "8000"], "tcp 8000", r"BAD: .*self-signed"),
]
# The same with servers of ours.
OUR_SERVERS = [
    (["udp_basic_example"], ["echoclient_udp", "9999"], "udp 9999", LINES),
    (["udp_basic_example", "9999", "::"], ["echoclient_udp", "9999", "::1"], "udp 9999", LINES),
    (["udp_adopt_datagram_port"], ["echoclient_udp", "9999"], "udp 9999", LINES),
]
ALONE = [
    (["simpleclient"], 0, r"Connection failed - goodbye!"),
    (["ampclient"], 1, r"refused"),
    (["echoclient"], 1, r"refused"),
    (["echoclient_udp"], 0, r"Nobody listens"),
    (["udp_connected", "9999", "127.0.0.1"], None, r"No one listening"),
    (["recvfd", "nothing"], 0, r"Could not connect: "),
    (["getting_ip"], 0, r"IP of 'localhost' is 127\.0\.0\.1"),
    (["check_server_certificate"], 2, r"usage"),
    (["sendfd"], 2, r"usage"),
    (["simpleserv", "x"], 2, r"'x' is no port"),
]
ORIGINALS = {"multicast_server": "udp/MulticastServer.py", "multicast_client": "udp/MulticastClient.py"}

passed = failed = 0


def check(good, text):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    if not good:
        print(text)


class Program:
    """Runs in `folder` until it ends or this is closed; its output is kept."""

    def __init__(self, command, folder, before=()):
        self.output_file = tempfile.TemporaryFile()
        self.name = " ".join(map(str, command))
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen([*before, *command], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                                        stdout=self.output_file, stderr=subprocess.STDOUT)

    def output(self):
        return os.pread(self.output_file.fileno(), 1 << 20, 0).decode(errors="replace")

    def shows(self, pattern):
        """True when its output has the pattern; False when it has ended without, or takes too long."""
        return wait(lambda: re.search(pattern, self.output(), re.S), lambda: self.process.poll() is not None)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.output_file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def wait(done, over=lambda: False, seconds=30):
    limit = time.monotonic() + seconds
    while True:
        end = over()
        if done():
            return True
        if end or time.monotonic() > limit:
            return False
        time.sleep(0.02)


def listening(where, folder):
    kind, name = where.split()
    if kind == "unix":
        return str(name) in pathlib.Path("/proc/net/unix").read_text() and (folder / name).exists()
    state = "0A" if kind == "tcp" else "07"
    for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if int(words[1].rsplit(":", 1)[1], 16) == int(name) and words[3] == state:
                return True
    return False


def ours(command):
    return [str(OURS / command[0]), *command[1:]]


def theirs(command):
    name = ORIGINALS.get(command[0], command[0] if command[0].endswith(".py") else f"examples/{command[0]}.py")
    return ["/usr/bin/python3", name.split("/")[-1], *command[1:]]


def talk(name, server, client, where, says, heard="", folder=None, there=()):
    wait(lambda: not listening(where, folder))  # the last one's socket
    with Program(server, folder) as serving:
        up = wait(lambda: listening(where, folder), lambda: serving.process.poll() is not None)
        check(up, f"{name}: the server does not listen: {serving.name}: {serving.output()}")
        if not up:
            return
        with Program(client, folder, there) as asking:
            good = asking.shows(says) and serving.shows(heard)
            check(good, f"{name}: {serving.name}, {asking.name}: wanted {says!r} and {heard!r}\n"
                  f"the client: {asking.output()}\nthe server: {serving.output()}")
    if where.startswith("unix"):
        (folder / where.split()[1]).unlink(missing_ok=True)


def streaming(folder):
    """A client of `streaming` that reads only when the server waits for it."""
    numbers = 2000000
    with Program(ours(["streaming"]), folder) as serving:
        wait(lambda: listening("tcp 1234", folder))
        with socket.create_connection(("127.0.0.1", 1234)) as client:
            file = client.makefile("rb")
            question = file.readline()
            client.sendall(b"%d\r\n" % numbers)
            paused = serving.shows("Pausing connection")
            lines = file.read().splitlines()
        check(question.startswith(b"How many") and paused and len(lines) == numbers and all(line.isdigit() for line in lines),
              f"streaming: {question} paused: {paused}, {len(lines)} lines\n{serving.output()[:2000]}")


def two_machines(folder):
    """What is sent to a whole network, with the other end on another machine: a second network of its own, joined to ours."""
    with Program(["unshare", "-n", "sh", "-c", "echo up; exec sleep 600"], folder) as other:
        other.shows("up")
        pid = str(other.process.pid)
        there = ["nsenter", "-t", pid, "-n"]
        subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", pid], check=True)
        for before, device, address in ([], "v0", "10.9.0.1/24"), (there, "v1", "10.9.0.2/24"):
            for words in (["addr", "add", address, "dev", device], ["link", "set", device, "up"],
                          ["route", "add", "255.255.255.255", "dev", device], ["route", "add", "224.0.0.0/4", "dev", device]):
                subprocess.run([*before, "ip", *words], check=True)

        server, client = ["multicast_server"], ["multicast_client"]
        for first, second in (ours(server), ours(client)), (ours(server), theirs(client)), (theirs(server), ours(client)):
            talk("multicast", first, second, "udp 9999", r"Server: Pong", r"Client: Ping", folder, there)

        twistd = ["twistd3", "-noy", "udpbroadcast.py", "--pidfile="]
        with Program(ours(["udpbroadcast"]), folder) as here, Program(twistd, folder, there) as their:
            good = (here.shows(r"RECV PING \w+ from 10\.9\.0\.2") and here.shows(r"RECV PONG [^\n]* from 10\.9\.0\.2") and
                    their.shows("RECV PING") and their.shows("RECV PONG"))
            check(good, f"udpbroadcast: ours: {here.output()}\ntheirs: {their.output()}")


def main():
    if not DOCS.is_dir():
        print(f"no Twisted examples in {DOCS}: run test/run, which fetches them")
        check(False, "")
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file in [*DOCS.glob("examples/*.py"), *DOCS.glob("howto/listings/udp/*.py"), *DOCS.glob("howto/listings/ssl/*.py")]:
            shutil.copy(file, folder)
        subprocess.run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-days", "3", "-nodes", "-x509", "-keyout",
                        "server-key.pem", "-out", "server-cert.pem", "-subj", "/CN=example.com", "-addext",
                        "subjectAltName=DNS:example.com,DNS:localhost"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        certificate = (folder / "server-cert.pem").read_text()
        (folder / "server.pem").write_text(certificate + (folder / "server-key.pem").read_text())
        (folder / "public.pem").write_text(certificate)
        (folder / "content").write_text("what is in the file\n")
        for name, server, client, *rest in PAIRS:
            talk(name, ours(server), ours(client), *rest, folder=folder)
            talk(name, ours(server), theirs(client), *rest, folder=folder)
            talk(name, theirs(server), ours(client), *rest, folder=folder)
        for server, client, where, says in THEIR_SERVERS:
            talk(server, theirs([server]), ours(client), where, says, folder=folder)
        for server, client, where, says in OUR_SERVERS:
            talk(server[0], ours(server), ours(client), where, says, folder=folder)
        for command, status, says in ALONE:
            with Program(ours(command), folder) as program:
                good = program.shows(says) and (status is None or program.process.wait(30) == status)
                check(good, f"{program.name}: wanted {status} and {says!r}, got {program.process.poll()}: {program.output()}")
        streaming(folder)
        two_machines(folder)


def in_own_network(script, main):
    """Runs main() in a network where all ports are free, and ends the program with what was checked."""
    if "--inside" in sys.argv:
        main()
        print(f"{passed} passed, {failed} failed")
        sys.exit(failed > 0)
    own = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    works = subprocess.run([*own, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if works.returncode != 0:
        print(f"{' '.join(own)} gives no network of its own here, so the examples were not run: {works.stdout}\n0 passed, 1 failed")
        sys.exit(1)
    sys.exit(subprocess.run([*own, sys.executable, script, sys.argv[1], "--inside"]).returncode)


if __name__ == "__main__":
    in_own_network(__file__, main)
