# Runs the benchmarks and prints their tables: `bench.py DIRECTORY_OF_PROGRAMS [NAME...]`, called by test/bench/run.
#
# A side is a program that does the work once and prints its figures, a name and a number a line. The sides of a benchmark
# run in turn, one round after another, so that what else the machine does hits all of them; the figures are medians.
import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


class Target:
    """What a figure of Torsion's has to reach: a number, or a multiple of another side's."""

    def __init__(self, figure, most, of=None):
        self.figure, self.most, self.of = figure, most, of


class Benchmark:
    """`sides`: name -> command of its program; or a function that measures all sides at once, side -> figure -> value.
    `figures`: key -> (heading, unit). `reference`: the side that ratios are taken to. `notes`: what each side does, for
    the reader of the table."""

    def __init__(self, name, title, sides, figures, reference, targets, notes):
        self.name, self.title, self.sides, self.figures = name, title, sides, figures
        self.reference, self.targets, self.notes = reference, targets, notes


def python(program, *args):
    return ["/usr/bin/python3", "-W", "ignore", os.path.join(HERE, program), *args]


def parsed(lines):
    return {name: float(value) for name, value in (line.split() for line in lines.splitlines())}


def figuresOf(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {run.returncode}")
    return parsed(run.stdout)


def alternating(sides):
    """Sides that take turns of 50 ms until they have done their work, for Benchmark: each takes seconds, in which what
    else the machine does may change."""

    def measured():
        seen, left = {}, {}
        try:
            for side, command in sides.items():
                left[side] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                left[side].send_signal(signal.SIGSTOP)
            while left:
                for side, process in list(left.items()):
                    process.send_signal(signal.SIGCONT)
                    try:
                        process.wait(0.05)
                    except subprocess.TimeoutExpired:
                        process.send_signal(signal.SIGSTOP)
                        continue
                    if process.returncode != 0:
                        sys.exit(f"{' '.join(sides[side])}: exit status {process.returncode}")
                    seen[side] = parsed(left.pop(side).stdout.read())
        finally:
            for process in left.values():
                process.kill()
        return {side: seen[side] for side in sides}

    return measured


def compileTime(source):
    """User time of compiling a program with the flags that the benchmarks have, without a cache; the quickest of three."""
    compiler = [word for word in os.environ.get("CXX", "c++").split() if "ccache" not in word]
    command = [*compiler, "-std=c++20", "-O2", "-DNDEBUG", "-I", TOP, "-c", os.path.join(TOP, source), "-o", os.devnull]
    spent = []
    for _ in range(3):
        process = subprocess.Popen(command, env={**os.environ, "CCACHE_DISABLE": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(command)}: failed")
        spent.append(usage.ru_utime)
    return {"user": min(spent)}


# glibc gives memory at the end of the heap back to the system and fetches it anew, for each record where chance puts
# OpenSSL's buffers there: asio::ssl's 64 KB then take 370 us instead of 110. None of the servers does.
KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_TOP_PAD_": "1048576"}


def served(load, kind, loads, servers):
    """Sides that are servers, for Benchmark. For each figure of `loads`, the connections and bytes that are given to
    load.cpp, the servers run at once: side -> the command of a process that prints its port first, or a function of the
    figure that gives it."""

    def measured():
        seen = {side: {} for side in servers}
        for figure, (connections, size) in loads.items():
            with contextlib.ExitStack() as running:
                line, sides = [load, kind, str(connections), str(size), "tls" if figure.startswith("tls") else "tcp"], {}
                for side, command in servers.items():
                    server = running.enter_context(
                        subprocess.Popen(
                            command(figure) if callable(command) else command,
                            env={**os.environ, **KEEPING_MEMORY},
                            stdout=subprocess.PIPE,
                            text=True,
                        )
                    )
                    running.callback(server.kill)
                    line += [str(server.pid), server.stdout.readline().strip()]
                    sides[str(server.pid)] = side
                for process, value in figuresOf(line).items():
                    seen[sides[process]][figure] = value
        return seen

    return measured


def called(server, client):
    """A side that is a server and a client, which gets the server's port and process, and prints the figures."""

    def measured():
        with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
            try:
                return figuresOf([*client, serving.stdout.readline().strip(), str(serving.pid)])
            finally:
                serving.kill()

    return measured


@contextlib.contextmanager
def certificate():
    """The names of a key's and a certificate's file."""
    with tempfile.TemporaryDirectory() as folder:
        key, made = f"{folder}/key.pem", f"{folder}/certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"]
            + ["-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", made],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        yield [key, made]


@contextlib.contextmanager
def nginx():
    """nginx on a free port of 127.0.0.1, in a process of its own, that answers everything with 13 bytes."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        with open(f"{folder}/nginx.conf", "w") as config:
            config.write(
                f"daemon off; master_process off; pid {folder}/pid; error_log stderr crit;\n"
                "events { worker_connections 4096; }\n"
                "http { access_log off; default_type text/plain;\n"
                + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
                + f'server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "Hello, World!"; }} }} }}\n'
            )
        server = subprocess.Popen([program, "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr"])
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            else:
                sys.exit("nginx does not answer")
            yield str(port)
        finally:
            server.terminate()
            server.wait()


def benchmarks(programs, port, tls):
    """All benchmarks. `port`: of nginx, None while it does not run. `tls`: names of a key's and a certificate's file."""

    def built(name, *args):
        return [os.path.join(programs, name), *args]

    load = os.path.join(programs, "load")

    def asio(figure):
        """asio::ssl for figures that begin with tls. A buffer a connection, as large as the messages."""
        return built("echo_asio", "65536" if "large" in figure else "4096", *(tls if figure.startswith("tls") else []))

    def torsion(figure):
        return built("echo_torsion", *(tls if figure.startswith("tls") else []))

    echoes = {
        "Torsion": torsion,
        "Asio": asio,
        "epoll": built("echo_epoll"),
        "libuv": lambda figure: built("echo_libuv", "65536" if figure == "large" else "4096"),
        "Twisted": python("echo_twisted.py"),
    }

    return [
        Benchmark(
            "chain",
            "Callback chains: 10 callbacks or errbacks added to a pending chain, which then fires (CPU ns each)",
            {
                "Torsion": built("chain_torsion"),
                "KJ": built("chain_kj"),
                "std::function": built("chain_function"),
                "Twisted": python("chain_twisted.py"),
            },
            {
                "int": ("int, 16-byte lambdas", "ns"),
                "string": ("std::string of 40, 24-byte lambdas", "ns"),
                "short": ("std::string of 12", "ns"),
                "failure": ("failure passing errbacks", "ns"),
                "int_allocations": ("allocations, int", ""),
                "string_allocations": ("allocations, string", ""),
                "failure_thrown": ("exceptions thrown", ""),
                "sizeof_chain": ("sizeof(Chain)", "bytes"),
            },
            "KJ",
            [
                Target("int", 10),
                Target("int_allocations", 1),
                Target("sizeof_chain", 768),
                Target("string", 15),
                Target("string_allocations", 2),
                Target("failure", 50),
                Target("failure_thrown", 0),
            ],
            [
                "Torsion: Deferred<T>, addCallback on an lvalue, Resolver::callback; errbacks take another type of exception",
                "KJ (Cap'n Proto): promise.then, fulfilled when all were added, waited for; errbacks return the exception",
                "std::function: a std::vector of them, filled and run; failure: std::exception_ptr thrown and caught at each step",
                "Twisted: Python's Deferred; errbacks call Failure.trap",
                "allocations and exceptions are a whole chain's; Torsion's takes the memory that the one before it has left",
                "a round's figure is the quickest of 48 slices of some milliseconds",
            ],
        ),
        Benchmark(
            "framing",
            "Framing: messages of 16 bytes in reads of 64 KiB (CPU ns each; 100 ns are 10 million a second)",
            {
                "Torsion": built("framing_torsion"),
                "by hand": built("framing_find"),
                "Asio": built("framing_asio"),
                "Twisted": python("framing_twisted.py"),
            },
            {
                "lines": ("lines", "ns"),
                "cut": ("lines in reads of 24 bytes", "ns"),
                "netstrings": ("netstrings", "ns"),
                "int32": ("int32 strings", "ns"),
                "long": ("lines of 1 MiB in reads of 16 KiB", "ns"),
            },
            "by hand",
            [
                Target("lines", 100),
                Target("netstrings", 100),
                Target("int32", 100),
                Target("lines", 1, "Asio"),
                Target("netstrings", 1, "Asio"),
                Target("int32", 1, "Asio"),
            ],
            [
                "the stream is in memory; each message is given to a function that adds up their sizes, a virtual one but with Asio",
                "Torsion: LineReceiver, NetstringReceiver, Int32StringReceiver on a StringTransport",
                "by hand: a loop around std::string_view::find, what is left over kept in a std::string; no limits, no raw mode, no"
                " pausing, and a message that is cut is looked at anew",
                "Asio: async_read_until and async_read with an asio::streambuf, on a stream in memory that completes by way of the"
                " io_context",
                "Twisted: Python's LineReceiver (LineOnlyReceiver takes 130 ns a line), NetstringReceiver, Int32StringReceiver,"
                " fewer messages",
                "a round's figure is the quickest of eight passes",
            ],
        ),
        Benchmark(
            "timers",
            "A million timers (CPU ns each)",
            {
                "Torsion": built("timers_torsion"),
                "libuv": built("timers_libuv"),
                "Asio": built("timers_asio"),
                "Twisted": python("timers_twisted.py"),
            },
            {
                "schedule": ("schedule", "ns"),
                "postpone": ("postpone", "ns"),
                "cancel": ("cancel", "ns"),
                "postpone_random": ("postpone, random order", "ns"),
                "cancel_random": ("cancel, random order", "ns"),
                "expire": ("expire after one postponement", "ns"),
            },
            "libuv",
            [
                Target("schedule", 60),
                Target("postpone", 25),
                Target("cancel", 20),
                Target("postpone_random", 1, "libuv"),
                Target("cancel_random", 1, "libuv"),
                Target("expire", 1, "libuv"),
            ],
            [
                "each timer has a callable of 16 bytes; they are due in 60 to 120 s, those that expire within 1.5 s",
                "Torsion: Reactor::callLater, DelayedCall::reset and cancel, which destroys the callable at once",
                "libuv: uv_timer_t and a std::function in an array made beforehand, uv_timer_start again, uv_timer_stop",
                "Asio: steady_timer in an array made beforehand, expires_after and async_wait again, cancel, with the turn of the"
                " loop that destroys the callables",
                "Twisted: Python's callLater, reset, cancel, 200,000 of them",
            ],
        ),
        Benchmark(
            "getpage",
            "getPage, a connection each, 64 in flight, a reply of 13 bytes from nginx",
            alternating(
                {
                    "Torsion": built("getpage_torsion", str(port), "20000"),
                    "Beast": built("getpage_beast", str(port), "20000"),
                    "libcurl": built("getpage_curl", str(port), "20000"),
                    "Twisted": python("getpage_twisted.py", str(port), "2000"),
                }
            ),
            {"cpu_us": ("CPU a page", "us")},
            "Beast",
            [Target("cpu_us", 0.85, "Beast")],
            [
                "CPU: user and system time of the client; the clients take turns of 50 ms",
                "Torsion: getPage with its defaults and a timeout of 30 s, the URL with an address in it; the request"
                " goes with the end of TCP's handshake",
                "Beast: an object a page, callbacks, tcp_stream with a timeout of 30 s for connecting, writing and reading",
                "libcurl: the multi interface on epoll, 64 easy handles used again, timeouts of 30 s",
                "Twisted: Python's Agent without a pool, connectTimeout of 30 s",
            ],
        ),
        Benchmark(
            "echo",
            "TCP echo, CPU of the server a round trip",
            served(load, "echo", {"small": (64, 64), "many": (1000, 64), "large": (16, 65536)}, echoes),
            {
                "small": ("64 B, 64 connections", "us"),
                "many": ("64 B, 1,000 connections", "us"),
                "large": ("64 KB, 16 connections", "us"),
            },
            "Asio",
            [Target("small", 1.1, "Asio"), Target("many", 1, "Asio"), Target("large", 1, "Asio")],
            [
                "one message under way on each connection; the other end is the same for all, a process on bare epoll",
                "Torsion: a Protocol whose dataReceived writes; reactor().run() and its defaults",
                "Asio: async_read_some and async_write with callbacks, a buffer of 4 KiB (64 KiB for 64 KB) a connection, the"
                " io_context's own executor, an io_context for one thread",
                "epoll: level triggered, recv and send, one buffer for all",
                "libuv: uv_try_write, a buffer a connection as with Asio",
                "Twisted: Python's, on its epoll reactor",
            ],
        ),
        Benchmark(
            "tls_echo",
            "TLS 1.3 echo, CPU of the server a round trip",
            served(load, "echo", {"tls_small": (64, 64), "tls_large": (16, 65536)}, {"Torsion": torsion, "asio::ssl": asio}),
            {"tls_small": ("64 B, 64 connections", "us"), "tls_large": ("64 KB, 16 connections", "us")},
            "asio::ssl",
            [Target("tls_small", 0.95, "asio::ssl"), Target("tls_large", 0.8, "asio::ssl")],
            [
                "as TCP echo; the same certificate, settings and modes of OpenSSL on both sides, among them"
                " SSL_MODE_RELEASE_BUFFERS",
                "memory that is free is kept and not given back to the system, by either",
            ],
        ),
        Benchmark(
            "connections",
            "Connections: accepted, 64 bytes echoed, closed by the peer; 64 at a time; CPU of the server",
            served(load, "connections", {"cpu": (64, 64)}, echoes),
            {"cpu": ("a connection", "us")},
            "Asio",
            [Target("cpu", 1, "Asio")],
            ["the servers of the TCP echo"],
        ),
        Benchmark(
            "memory",
            "Memory of an idle connection, resident, which has echoed 64 bytes",
            served(load, "memory", {"tcp": (8000, 64), "tls": (2000, 64)}, {"Torsion": torsion, "Asio": asio}),
            {"tcp": ("TCP", "bytes"), "tls": ("TLS", "bytes")},
            "Asio",
            [Target("tcp", 1024), Target("tls", 16384)],
            [
                "the growth of the process from 1,000 to 9,000 connections (TLS: 3,000), divided",
                "Torsion: what the user's protocol takes is in it; Asio: of it 4 KiB are the connection's buffer",
                "the servers of the TCP and TLS echo; both have SSL_MODE_RELEASE_BUFFERS",
            ],
        ),
        Benchmark(
            "amp",
            "AMP: calls of Sum over one TCP connection, 50 under way",
            {
                "Torsion": called(built("amp_torsion"), built("amp_torsion")),
                "Torsion's server, Twisted's client": called(built("amp_torsion"), python("amp_twisted.py")),
                "Twisted's server, Torsion's client": called(python("amp_twisted.py"), built("amp_torsion")),
                "Twisted": called(python("amp_twisted.py"), python("amp_twisted.py")),
            },
            {"rate": ("calls/s", ""), "server": ("server's CPU a call", "us"), "client": ("client's CPU a call", "us")},
            "Twisted",
            [],
            [
                "two integers there and one back, by callRemote of a typed command; each answer makes the next call",
                "Torsion: both ends Torsion's; Twisted: both ends Python's, on its epoll reactor",
            ],
        ),
        Benchmark(
            "compile",
            "Compiling a program that fetches a page, -O2 (user time)",
            {
                "Torsion": lambda: compileTime("examples/getpage.cpp"),
                "Beast": lambda: compileTime("test/bench/program_beast.cpp"),
            },
            {"user": ("compile", "s")},
            "Beast",
            [Target("user", 1.5)],
            [
                "examples/getpage.cpp, the program of the README, and program_beast.cpp; to an object file, without a cache;"
                " the quickest of three"
            ],
        ),
    ]


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.2f}"


def progress(text):
    if sys.stderr.isatty():
        print("\r\x1b[K" + text, end="", file=sys.stderr, flush=True)


def measure(benchmark, rounds):
    """side -> figure -> median"""
    seen = {}

    def note(side, figures):
        for figure, value in figures.items():
            seen.setdefault(side, {}).setdefault(figure, []).append(value)

    for turn in range(rounds):
        at = f"{benchmark.name}: round {turn + 1} of {rounds}"
        if callable(benchmark.sides):
            progress(at)
            for side, figures in benchmark.sides().items():
                note(side, figures)
            continue
        for side, command in benchmark.sides.items():
            progress(f"{at}, {side}")
            note(side, command() if callable(command) else figuresOf(command))
    progress("")
    return {side: {figure: statistics.median(values) for figure, values in of.items()} for side, of in seen.items()}


def table(benchmark, medians):
    def cell(side, figure):
        value = medians[side].get(figure)
        if value is None:
            return "-"
        base = medians[benchmark.reference].get(figure)
        ratio = f" ({value / base:.2f}x)" if base and side != benchmark.reference and benchmark.figures[figure][1] else ""
        return number(value) + ratio

    head = [""] + [heading + (f", {unit}" if unit else "") for heading, unit in benchmark.figures.values()]
    rows = [head] + [[side] + [cell(side, figure) for figure in benchmark.figures] for side in medians]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, ["-" * width for width in widths])
    print(f"### {benchmark.title}\n")
    for row in rows:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |")
    print(f"\nRatios are to {benchmark.reference}. What each side does:")
    for note in benchmark.notes:
        print(f"- {note}")
    print(flush=True)


def verdicts(benchmark, medians):
    """(line, met) for each target"""
    ours = medians["Torsion"]
    for target in benchmark.targets:
        value = ours[target.figure]
        heading, unit = benchmark.figures[target.figure]
        other = medians[target.of or benchmark.reference].get(target.figure)
        line = f"{benchmark.name} {heading}: {number(value)}" + (f" {unit}" if unit else "")
        if other and unit:
            line += f", {value / other:.2f}x {target.of or benchmark.reference}"
        met = value <= target.most * (other if target.of else 1)
        wanted = f"{target.most}x {target.of}" if target.of else f"{target.most}" + (f" {unit}" if unit else "")
        yield f"{line} (target <= {wanted}): {'met' if met else 'missed'}", met


def main():
    names = [benchmark.name for benchmark in benchmarks("", None, None)]
    parser = argparse.ArgumentParser(prog="test/bench/run", description="Torsion side by side with its peers.")
    parser.add_argument("programs", help=argparse.SUPPRESS)
    parser.add_argument("name", nargs="*", help="which benchmarks: " + ", ".join(names) + " (all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_intermixed_args()
    for name in options.name:
        if name not in names:
            parser.error(f"no benchmark is called {name}: there are {', '.join(names)}")

    # So that nginx is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = options.name or names
    lines, allMet = [], True
    with nginx() if "getpage" in wanted else contextlib.nullcontext() as port, certificate() as tls:
        for benchmark in benchmarks(options.programs, port, tls):
            if benchmark.name not in wanted:
                continue
            medians = measure(benchmark, options.rounds)
            table(benchmark, medians)
            for line, met in verdicts(benchmark, medians):
                lines.append(line)
                allMet = allMet and met
    print("\n".join(lines))
    sys.exit(0 if allMet or not options.strict else 1)


main()
