"""getpages.py BUILD: getpages and getpages_coroutine, as a user runs them: output, exit status, signals, memory."""
import contextlib
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LARGE = 1_000_000
passed = failed = 0


def check(good, *text):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print("FAILED", *text)


def listen():
    server = socket.create_server(("127.0.0.1", 0), backlog=1000)
    return server, server.getsockname()[1]


class Canned:
    """A server with a fixed answer for each path; None keeps the connection open without one."""

    def __init__(self, answers):
        self.answers, self.most, self.now, self.lock = answers, 0, 0, threading.Lock()
        self.server, self.port = listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=self.server.accept()[:1], daemon=True).start()

    def serve(self, connection):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            answer = self.answers.get(request.split(b" ")[1].decode() if b" " in request else "", b"")
            if answer is None:
                connection.recv(1)
            else:
                connection.sendall(answer)
        with self.lock:
            self.now -= 1

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"


def answer(status, body, *headers):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


SERVER = Canned({
    "/ok": answer("200 OK", b"hello"),
    "/created": answer("201 Created", b"made"),
    "/missing": answer("404 Not Found", b"nope"),
    "/moved": answer("302 Found", b"", "Location: ok"),
    "/loop": answer("302 Found", b"", "Location: /loop"),
    "/cut": answer("200 OK", b"x" * 100)[:-50],
    "/evil": answer("404 \x1b[31mred\x07", b""),
    "/hang": None,
    "/garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
})


@contextlib.contextmanager
def nginx():
    """nginx with a page of LARGE bytes and one of 5. Gives its URL."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        probe, port = listen()
        probe.close()
        (directory / "large").write_bytes(b"x" * LARGE)
        (directory / "small").write_bytes(b"hello")
        temporary = "".join(f"{kind}_temp_path {name}/tmp; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "conf").write_text(
            f"daemon off; master_process off; pid {name}/pid; error_log {name}/log notice; events {{ worker_connections 4096; }}\n"
            f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; root {name}; }} }}\n")
        process = subprocess.Popen(["/usr/sbin/nginx", "-e", f"{name}/log", "-p", name, "-c", directory / "conf"])
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None:
                    sys.exit("nginx does not start: " + (directory / "log").read_text())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def run(program, *arguments, text=""):
    done = subprocess.run([program, *arguments], input=text, text=True, capture_output=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def peak(program, urls, *arguments):
    """Fetches `urls` from a file; gives the exit status, the last line and the peak of memory in bytes."""
    with tempfile.NamedTemporaryFile("w") as file, tempfile.TemporaryFile("w+") as output:
        file.writelines(url + "\n" for url in urls)
        file.flush()
        process = subprocess.Popen([program, "--file", file.name, *arguments], stdout=output)
        most = 0
        # Not the ru_maxrss of wait4: it counts what this process had when it forked.
        while process.poll() is None:
            with contextlib.suppress(OSError, TypeError):
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                most = max(most, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)
            time.sleep(0.002)
        output.seek(0)
        return process.returncode, output.read().splitlines()[-1], most


def on_terminal(program, *arguments):
    """Exit status and output on a terminal; None where the machine (a bare chroot) has none to give."""
    try:
        pid, fd = pty.fork()
    except OSError as error:
        print("no terminal to test with:", error)
        return None, ""
    if pid == 0:
        os.execv(program, [program, *arguments])
    output = b""
    with contextlib.suppress(OSError):
        while data := os.read(fd, 65536):
            output += data
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def row(output, url):
    return next((line for line in output.splitlines() if line.startswith(url + "  ")), "no row for " + url)


def examine(program):
    name = program.name
    closed, free = listen()
    closed.close()
    refused = f"http://127.0.0.1:{free}/"

    # Every outcome has its row; one failing page harms no other.
    wanted = {
        SERVER.url("/ok"): r"200 OK  5 bytes  \d+ ms$",
        SERVER.url("/created"): r"201 Created  4 bytes",
        SERVER.url("/moved"): r"200 OK  5 bytes",
        SERVER.url("/missing"): r"404 Not Found  4 bytes",
        SERVER.url("/loop"): r"302 Infinite redirection detected to /loop  ",
        SERVER.url("/cut"): r"200 OK: .*50 of 100|200 OK  50 bytes",
        SERVER.url("/hang"): r"Getting .* took longer than 0.5 seconds",
        SERVER.url("/garbage"): r"not HTTP",
        SERVER.url("/evil"): r"404 %1B\[31mred%07|not HTTP",
        refused: r".*[Rr]efused",
        "http://no-such-name.invalid/": r".*no-such-name.invalid",
        "notaurl": r"Invalid URL",
        "ftp://127.0.0.1/": r"Invalid URL",
    }
    status, output, errors = run(program, "--timeout", "0.5", *wanted)
    check(status == 1, name, "exit status with failures:", status, output, errors)
    for url, pattern in wanted.items():
        check(re.match(re.escape(url) + "  (" + pattern + ")", row(output, url)), name, pattern, "not in", repr(row(output, url)))
    check(re.search(r"^13 pages: 3 succeeded, 10 failed; ", output, re.M), name, "summary:", output)
    check(not re.search(r"[^\n -~]", output) and errors == "", name, "control characters or errors:", repr(output), errors)

    check(run(program, SERVER.url("/ok"), SERVER.url("/moved"))[0] == 0, name, "exit status when all is well")
    check(run(program, "notaurl", "http://", refused)[0] == 1, name, "exit status when every URL is bad")
    for usage in (["--max", "0"], ["--max", "x"], ["--timeout", "0"], ["--timeout"], ["--nope"], ["--file", "/no/such/file"],
                  ["--file", "-", "http://h/"]):
        status, output, errors = run(program, *usage)
        check(status == 2 and output == "" and errors, name, usage, "gave", status, output, errors)
    status, output, _ = run(program, "--help")
    check(status == 0 and "--timeout" in output, name, "--help:", status, output)

    # Standard input, also when it is slow, empty, or has lines that are no URL.
    urls = f"{SERVER.url('/ok')}\n\n  \n{SERVER.url('/created')}\r\n\x1b[31m"
    status, output, _ = run(program, "-", text=urls)
    check(status == 1 and "3 pages: 2 succeeded, 1 failed" in output and "\x1b" not in output, name, "-:", status, output)
    check(run(program, "--file", "-")[0] == 0, name, "nothing to do")
    with subprocess.Popen([program, "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
        slow.stdin.write(SERVER.url("/ok") + "\n")
        slow.stdin.flush()
        first = slow.stdout.readline()  # comes while the input is open still
        check(first.startswith(SERVER.url("/ok") + "  200 OK"), name, "a slow pipe:", first)
        slow.stdin.close()
        check(slow.wait() == 0, name, "exit status after a slow pipe")

    # No more at once than --max.
    SERVER.most = 0
    run(program, "--max", "3", *[SERVER.url("/ok")] * 50)
    # The server hears of an end later than the client, which goes on at once.
    check(SERVER.most <= 6, name, "--max 3 had", SERVER.most, "at once")

    # Stopped by a signal, or by nobody reading on.
    while SERVER.now != 0:  # of the run before
        pass
    with subprocess.Popen([program, SERVER.url("/hang")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as hanging:
        while SERVER.now == 0:
            pass
        hanging.send_signal(signal.SIGTERM)
        check(hanging.wait(20) == 1, name, "after SIGTERM:", hanging.returncode)
    closed = subprocess.Popen([program, "--max", "1", *[SERVER.url("/ok")] * 200], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    closed.stdout.close()
    check(closed.wait(20) == 1, name, "with its output closed:", closed.returncode, closed.stderr.read())
    closed.stderr.close()

    # A bar on a terminal, and no trace of it at the end.
    status, output = on_terminal(program, *[SERVER.url("/ok")] * 4)
    check(status is None or status == 0 and re.search(r"\[#{20} {20}\] 2 of 4", output) and
          re.search(r"\r\x1b\[K4 pages: 4 succeeded", output),
          name, "on a terminal:", repr(output))

    # Memory: that of the pages in flight, and at most 2 KB a URL. (AddressSanitizer keeps what was freed.)
    if b"__asan_init" in program.read_bytes():
        print(f"{name}: memory is not measured with AddressSanitizer")
        return
    with nginx() as base:
        status, last, little = peak(program, [base + "/small"] * 100, "--max", "10")
        check(status == 0 and little > 0, name, last)
        status, last, large = peak(program, [base + "/large"] * 500, "--max", "10")
        check(status == 0 and "500 succeeded" in last, name, last)
        check(large - little < 10 * 2 * LARGE, name, f"500 large pages, 10 at once: {little} bytes, then {large}")
        count = 20_000
        status, last, many = peak(program, [base + "/small"] * count, "--max", "10")
        check(status == 0 and f"{count} succeeded" in last, name, last)
        check(many - little < 2048 * count, name, f"{count} pages: {little} bytes, then {many}")
        print(f"{name}: {little / 1e6:.1f} MB; 500 pages of 1 MB, 10 at once: {large / 1e6:.1f} MB; "
              f"{count} small ones: {(many - little) / count:.0f} bytes a URL")


for program in ("getpages", "getpages_coroutine"):
    examine(pathlib.Path(sys.argv[1], "examples", program))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
