"""redis.py BUILD: the example redis against a real server, one that is not there and one that hangs up."""
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading

passed = failed = 0


def check(name, arguments, status, pattern):
    global passed, failed
    try:
        done = subprocess.run([pathlib.Path(sys.argv[1], "examples/redis"), *arguments], timeout=60, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        got, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        got, output = "no end within a minute", (expired.stdout or b"").decode(errors="replace")
    good = got == status and re.search(pattern, output) is not None
    passed, failed = passed + good, failed + (not good)
    if not good:
        print(f"FAILED {name}: wanted {status} and {pattern!r}, got {got} and:\n{output}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return str(one.getsockname()[1])


def hang_up(server):
    connection = server.accept()[0]
    connection.recv(1)
    connection.close()


check("no arguments", [], 2, "usage")
check("a server that is not there", ["127.0.0.1", free_port()], 1, "(?i)^connection refused\n$")
check("no address", ["no address", "1"], 1, "(?i)not known")
with socket.create_server(("127.0.0.1", 0)) as server:
    threading.Thread(target=hang_up, args=(server,), daemon=True).start()
    check("a server that hangs up", ["127.0.0.1", str(server.getsockname()[1])], 1, "(?i)closed|reset")

with tempfile.TemporaryDirectory() as directory:
    port = free_port()
    server = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", directory],
                              stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if "Ready to accept connections" in line:
                break
        check("a real server", ["127.0.0.1", port], 0, r"^greeting: hello\ncount: 100\nrefused: WRONGTYPE .*\n$")
    finally:
        server.kill()
        server.wait()
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
