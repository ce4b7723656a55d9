"""What the checks share: the files of the tree, their includes, and compiling them side by side."""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("deferred", "reactor", "protocols")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
COMPILERS = [path for path in map(shutil.which, ("g++", "clang++-19")) if path]
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-I" + str(ROOT)]


def sources(*folders, suffixes=(".hpp", ".cpp")):
    """The files of the tree below these folders, as paths relative to its top."""
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in found if path.suffix in suffixes)


def includes(path):
    """Those of the names that a file includes which are files of the tree."""
    names = map(pathlib.Path, INCLUDE.findall((ROOT / path).read_text()))
    return [name for name in names if (ROOT / name).is_file()]


def public_headers():
    """Every header outside detail/, and what of detail/ these include."""
    reached = [path for path in sources(*FOLDERS, suffixes=(".hpp",)) if "detail" not in path.parts]
    for path in reached:
        reached += [name for name in includes(path) if name not in reached and name.suffix == ".hpp"]
    return sorted(reached)


def compile_all(commands):
    """Runs the commands (lists of arguments), as many at once as there are cores; yields (exit status, output) in order."""

    def one(command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        return done.returncode, done.stdout

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(one, commands)


def conclude(problems):
    """Ends a check that counts as one test."""
    for problem in problems:
        print(problem)
    raise SystemExit(1 if problems else 0)
