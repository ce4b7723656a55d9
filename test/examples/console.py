"""console.py BUILD: the examples on standard input and output, terminals and files, beside Twisted's own (twisted-doc)."""
import contextlib
import os
import pathlib
import pty
import select
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = pathlib.Path(sys.argv[1], "examples")
ORIGINALS = pathlib.Path(__file__).resolve().parents[2] / "build/twisted-doc/usr/share/doc/twisted-doc/examples"
LIMIT = 60
passed = failed = 0


def check(good, *text):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print("FAILED", *text)


def read_until(fd, done):
    """What can be read from fd until done(it), or its end."""
    got, end = b"", time.monotonic() + LIMIT
    while not done(got) and select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:  # the other side of the terminal is closed
            break
        if not data:
            break
        got += data
    return got


@contextlib.contextmanager
def running(command, **how):
    with subprocess.Popen([str(word) for word in command], **how) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(command, text, last):
    """What it prints for `text` until that ends with `last`."""
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(text)
        process.stdin.flush()
        return read_until(process.stdout.fileno(), lambda got: got.endswith(last))


def on_terminal(command, text, last):
    """The same on a terminal, and whether that goes on blocking."""
    master, slave = pty.openpty()
    with running(command, stdin=slave, stdout=slave, stderr=slave) as process:
        got = read_until(master, lambda got: got.endswith((b">>> ", b"help.\r\n")))
        os.write(master, text)
        got += read_until(master, lambda got: got.endswith(last))
        blocking = os.get_blocking(slave)
    os.close(master)
    os.close(slave)
    return got, blocking


def original(name):
    path = ORIGINALS / (name + ".py")
    if not path.exists():
        sys.exit(f"{path} is missing: test/run fetches it")
    return ["/usr/bin/python3", path]


# stdin and stdiodemo: the same answers, by pipe and on a terminal, whose flags the shell goes on using.
for name, text, last in (
        ("stdin", b"one\n\ntwo words\nno end", b"words\n>>> "),
        ("stdiodemo", b"\nhelp\nHELP quit\nhelp help\nnonsense\nquit\n".replace(b"HELP", b"help"), b"Goodbye.\n")):
    ours, theirs = answer([PROGRAMS / name], text, last), answer(original(name), text, last)
    check(ours == theirs and ours.endswith(last), name, "printed", ours, "and Twisted's", theirs)
    crlf = last.replace(b"\n", b"\r\n")
    typed = text.replace(b"no end", b"")
    (ours, kept), (theirs, _) = on_terminal([PROGRAMS / name], typed, crlf), on_terminal(original(name), typed, crlf)
    # The terminal echoes what is typed when it comes, in the middle of the answers.
    check(sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n")) and ours.endswith(crlf), name,
          "printed on a terminal", ours, "and Twisted's", theirs)
    check(kept, name, "left the terminal not blocking")

# stdiodemo: pages, good and bad.
with socket.create_server(("127.0.0.1", 0)) as server:
    url = b"http://127.0.0.1:%d/" % server.getsockname()[1]
    with running([PROGRAMS / "stdiodemo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as demo:
        demo.stdin.write(b"check " + url + b"\n")
        demo.stdin.flush()
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        got = read_until(demo.stdout.fileno(), lambda got: b"bytes" in got and got.endswith(b"\n"))
        check(got.endswith(b"Success: got 5 bytes.\n"), "stdiodemo check:", got)
        demo.stdin.write(b"check http://127.0.0.1:1/\ncheck nonsense\n")
        demo.stdin.flush()
        got = read_until(demo.stdout.fileno(), lambda got: got.count(b"Failure: ") == 2 and got.endswith(b"\n"))
        check(b"refused" in got.lower() and b"nonsense" in got, "stdiodemo check, which fails:", got)
        demo.stdin.close()
        check(demo.wait(LIMIT) == 0, "stdiodemo after the end of its input:", demo.returncode)

# A line that is not finished when the input ends; a file as input and output; nobody who reads.
with tempfile.TemporaryDirectory() as name:
    directory = pathlib.Path(name)
    (directory / "in").write_bytes(b"".join(b"line %d\n" % i for i in range(20000)))
    with open(directory / "in", "rb") as source, open(directory / "out", "wb") as target:
        status = subprocess.run([PROGRAMS / "stdin"], stdin=source, stdout=target, timeout=LIMIT).returncode
    wanted = b">>> " + b"".join(b"Echo: line %d\n>>> " % i for i in range(20000))
    check(status == 0 and (directory / "out").read_bytes() == wanted, "stdin from a file to a file:", status)
    with running([PROGRAMS / "stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        check(process.wait(LIMIT) == 0, "stdin when nobody reads its output:", process.returncode)

    # filewatch: what is there, then what is appended; the same as Twisted's.
    watched = directory / "log"
    for command in ([PROGRAMS / "filewatch"], original("filewatch")):
        watched.write_bytes(b"first\n")
        with running([*command, watched], stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
            got = read_until(process.stdout.fileno(), lambda got: got == b"first\n")
            for piece in (b"second\n", b"third\n"):
                with open(watched, "ab") as log:
                    log.write(piece)
                got += read_until(process.stdout.fileno(), lambda got: got == piece)
            check(got == b"first\nsecond\nthird\n", command[-1], "printed", got)

# ptyserv: a shell on a terminal for each connection, also in Twisted's.
def talk(port):
    end = time.monotonic() + LIMIT
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
            break
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
    with connection:
        got = read_until(connection.fileno(), lambda got: got.endswith((b"# ", b"$ ")))
        connection.sendall(b"test -t 0 && pwd && echo $((6 * 7)); exit\n")
        return got + read_until(connection.fileno(), lambda got: False)


quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
with running([PROGRAMS / "ptyserv", 0], **quiet) as process:
    line = process.stdout.readline()
    port = int(line.rsplit(b":", 1)[1])
    ours = talk(port)
    check(b"/tmp\r\n42\r\n" in ours, "ptyserv:", ours)
    log = read_until(process.stdout.fileno(), lambda got: b"connection lost\nconnection lost\n" in got)
    check(log == b"connection made\nprotocol connection lost\nconnection lost\n", "ptyserv printed", log)
with running(original("ptyserv"), **quiet) as process:
    theirs = talk(5823)
check(ours == theirs, "ptyserv answers", ours, "and Twisted's", theirs)

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
