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
    """`sides`: name -> command of its program. `figures`: key -> (heading, unit). `reference`: the side that ratios are
    taken to. `notes`: what each side does, for the reader of the table."""

    def __init__(self, name, title, sides, figures, reference, targets, notes):
        self.name, self.title, self.sides, self.figures = name, title, sides, figures
        self.reference, self.targets, self.notes = reference, targets, notes


def python(program, *args):
    return ["/usr/bin/python3", "-W", "ignore", os.path.join(HERE, program), *args]


def figuresOf(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {run.returncode}")
    return {name: float(value) for name, value in (line.split() for line in run.stdout.splitlines())}


def compileTime(source):
    """User time of compiling a program with the flags that the benchmarks have, without a cache."""
    compiler = [word for word in os.environ.get("CXX", "c++").split() if "ccache" not in word]
    command = [*compiler, "-std=c++20", "-O2", "-DNDEBUG", "-I", TOP, "-c", os.path.join(TOP, source), "-o", os.devnull]
    process = subprocess.Popen(command, env={**os.environ, "CCACHE_DISABLE": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: failed")
    return {"user": usage.ru_utime}


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


def benchmarks(programs, port):
    """All benchmarks. `port`: of nginx, None while it does not run."""

    def built(name, *args):
        return [os.path.join(programs, name), *args]

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
                "allocations and exceptions are a whole chain's",
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
            {
                "Torsion": built("getpage_torsion", str(port), "20000"),
                "Beast": built("getpage_beast", str(port), "20000"),
                "libcurl": built("getpage_curl", str(port), "8000"),
                "Twisted": python("getpage_twisted.py", str(port), "1000"),
            },
            {"cpu_us": ("CPU a page", "us"), "rate": ("pages/s", "")},
            "Beast",
            [Target("cpu_us", 0.85, "Beast")],
            [
                "CPU: user and system time of the client",
                "Torsion: getPage with its defaults and a timeout of 30 s, the URL with an address in it",
                "Beast: an object a page, callbacks, tcp_stream with a timeout of 30 s for connecting, writing and reading",
                "libcurl: the multi interface on epoll, 64 easy handles used again, timeouts of 30 s",
                "Twisted: Python's Agent without a pool, connectTimeout of 30 s",
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
            ["examples/getpage.cpp, the program of the README, and program_beast.cpp; to an object file, without a cache"],
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
    seen = {side: {} for side in benchmark.sides}
    for turn in range(rounds):
        for side, command in benchmark.sides.items():
            progress(f"{benchmark.name}: round {turn + 1} of {rounds}, {side}")
            for figure, value in (command() if callable(command) else figuresOf(command)).items():
                seen[side].setdefault(figure, []).append(value)
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
    rows = [head] + [[side] + [cell(side, figure) for figure in benchmark.figures] for side in benchmark.sides]
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
    names = [benchmark.name for benchmark in benchmarks("", None)]
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
    with nginx() if "getpage" in wanted else contextlib.nullcontext() as port:
        for benchmark in benchmarks(options.programs, port):
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
