"""run_tests.py BUILD [PATTERN] [--suite SUITE] [--without SUITE]: runs the tests registered with meson and counts them.

A program of the suite `doctest` counts as many tests as it has test cases. Any other counts as one or, when its last line is
`N passed, N failed`, as that many. The output of what failed is shown. The last line is the sum, in that same form.
"""
import argparse
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

DOCTEST = re.compile(r"^\[doctest\] test cases: +(\d+) \| +(\d+) passed \| +(\d+) failed", re.M)
TOTAL = re.compile(r"(\d+) passed, (\d+) failed\s*$")


def run(command, test):
    """Runs one command; returns (exit status or None for a timeout, output)."""
    env = {**os.environ, **test["env"]}
    # A session of its own, so that what a test starts and leaves behind can be ended with it.
    process = subprocess.Popen(command, cwd=test["workdir"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    expired = threading.Event()

    def end():
        expired.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(test["timeout"], end)
    timer.start()
    output = process.stdout.read().decode(errors="replace")
    status = process.wait()
    timer.cancel()
    return (None if expired.is_set() else status), output


def doctest_commands(test, pattern):
    if not pattern or pattern in test["name"]:
        return [test["cmd"]]
    # Those whose name has the pattern, then those whose file has it and that have not been run.
    filter = "*" + pattern.replace(",", "\\,") + "*"
    return [test["cmd"] + ["-tc=" + filter], test["cmd"] + ["-sf=" + filter, "-tce=" + filter]]


def count(test, status, output):
    """(passed, failed) of one run."""
    found = DOCTEST.search(output) if "doctest" in test["suite"] else TOTAL.search(output)
    if "doctest" in test["suite"] and found:
        passed, failed = int(found[2]), int(found[3])
    elif found:
        passed, failed = int(found[1]), int(found[2])
    else:
        passed, failed = (1, 0) if status == 0 else (0, 1)
    return (passed, failed) if status == 0 or failed else (passed, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--suite")
    parser.add_argument("--without")
    parser.add_argument("--verbose", action="store_true", help="show the output of passing tests too")
    options = parser.parse_args()

    tests = json.loads(subprocess.check_output(["meson", "introspect", "--tests", options.build]))
    # Meson names a suite `project:suite`.
    for test in tests:
        test["suite"] = [suite.split(":")[-1] for suite in test["suite"]]
        test["workdir"] = test["workdir"] or options.build
        test["timeout"] = test["timeout"] or 600
    tests.sort(key=lambda test: -test["priority"])
    jobs = []
    for test in tests:
        if options.suite not in (None, *test["suite"]) or options.without in test["suite"]:
            continue
        if "doctest" in test["suite"]:
            jobs += [(test, command) for command in doctest_commands(test, options.pattern)]
        elif options.pattern in test["name"]:
            jobs.append((test, test["cmd"]))

    passed = failed = 0

    def execute(job):
        test, command = job
        start = time.monotonic()
        status, output = run(command, test)
        return test, command, status, output, time.monotonic() - start

    def report(test, command, status, output, seconds):
        nonlocal passed, failed
        good, bad = count(test, status, output)
        passed, failed = passed + good, failed + bad
        if bad or options.verbose or (not good and "doctest" not in test["suite"]):  # it says why it did not run
            sys.stdout.write(output if output.endswith("\n") or not output else output + "\n")
        if bad:
            reason = f"took longer than {test['timeout']} s" if status is None else f"exit status {status}"
            print(f"FAILED {test['name']}: {reason}: {' '.join(command)}")
        elif good:
            print(f"{test['name']}: {good} passed in {seconds:.1f} s")
        sys.stdout.flush()

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        started = [pool.submit(execute, job) for job in jobs if job[0]["is_parallel"]]
        for done in concurrent.futures.as_completed(started):
            report(*done.result())
    for job in jobs:
        if not job[0]["is_parallel"]:
            report(*execute(job))
    if options.pattern and not passed + failed:
        print(f"no test has '{options.pattern}' in its name or file")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or (options.pattern and not passed) else 0


if __name__ == "__main__":
    sys.exit(main())
