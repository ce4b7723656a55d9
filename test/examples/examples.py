"""examples.py BUILD: every program of examples/ runs and does what it says. Each needs a case here, or a file of its name beside this one."""
import re
import subprocess
import sys
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Name, arguments, standard input, exit status, and a pattern that what it prints (both streams) must contain.
CASES = [
    ("asio_pipe", [], "", 0, r"^read: hello\nread: world\nno more lines$"),
    ("filewatch", [], "", 2, r"usage"),
    ("filewatch", ["/no/such/file"], "", 2, r"usage"),
    ("getpage", ["http://127.0.0.1:1/"], "", 1, r"refused"),
    ("getpage", [], "", 2, r"usage"),
    ("getpage_coroutine", ["notaurl"], "", 1, r"(?i)url"),
    ("getpage_coroutine", [], "", 2, r"usage"),
    ("getpages", [], "", 1, r"^6 pages: 4 succeeded, 2 failed; 10000047 bytes"),
    ("getpages", ["--help"], "", 0, r"--timeout"),
    ("getpages", ["--nope"], "", 2, r"--nope"),
    ("getpages_coroutine", [], "", 1, r"^6 pages: 4 succeeded, 2 failed; 10000047 bytes"),
    ("getpages_coroutine", ["--help"], "", 0, r"--timeout"),
    # Whether the process or its pipes end first is by chance.
    ("process", [], "", 0, r"(?s)\A(?=.*^I saw 40 lines$)(?=.*^processExited, status 0$).*^processEnded, status 0\nquitting\n\Z"),
    ("ptyserv", ["1", "2"], "", 2, r"usage"),
    ("stdin", [], "one\ntwo\n", 0, r"\A>>> Echo: one\n>>> Echo: two\n>>> \Z"),
    ("stdin", [], "", 0, r"\A>>> \Z"),
    ("stdiodemo", [], "help check\nquit\nhelp\n", 0,
     r"console.*\ncheck <url>: Attempt to download the given web page\nGoodbye.\n\Z"),
]

passed = failed = 0


def check(good, text):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    if not good:
        print(text)


for name, arguments, text, status, pattern in CASES:
    try:
        done = subprocess.run([pathlib.Path(sys.argv[1], "examples", name), *arguments], input=text, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        got, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        got, output = "no end within a minute", (expired.stdout or b"").decode(errors="replace")
    good = got == status and re.search(pattern, output, re.M) is not None
    check(good, f"{name} {' '.join(arguments)}: wanted {status} and {pattern!r}, got {got} and:\n{output}")
# Those that speak to others, servers that never end among them, run there.
elsewhere = "".join((ROOT / "test/interop" / name).read_text() for name in ("examples.py", "howto.py"))
for path in sorted(ROOT.glob("examples/**/*.cpp")):
    name = str(path.relative_to(ROOT / "examples").with_suffix(""))
    if name not in {case[0] for case in CASES} and not re.search(rf'"({name}|{path.stem})"', elsewhere) \
            and not pathlib.Path(__file__).with_name(path.stem + ".py").exists():
        check(False, f"{path.relative_to(ROOT)} has no case in {pathlib.Path(__file__).name}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
