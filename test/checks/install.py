"""install.py BUILD: what `meson install` installs is enough to build and run a user's program outside the tree."""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from tree import ROOT, conclude, public_headers


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        conclude([f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}"])
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    run("meson", "install", "--no-rebuild", "-C", sys.argv[1], "--destdir", folder)
    config = next(pathlib.Path(folder).rglob("torsion.pc"))
    prefix = next(pathlib.Path(folder).rglob("include")).parent
    environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
    flags = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "--static", "torsion", env=environment)
    if str(ROOT) in flags:
        conclude([f"the flags of the installed copy lead into the tree: {flags}"])

    shared = [flag for flag in shlex.split(flags) if flag.startswith("-I")]
    everything = "".join(f"#include <{header}>\n" for header in public_headers())
    run("g++", "-std=c++20", "-fsyntax-only", "-x", "c++", "-", *shared, input=everything, cwd=folder)

    program = os.path.join(folder, "program")
    run("g++", "-std=c++20", str(ROOT / "test/install/program.cpp"), "-o", program, *shlex.split(flags), cwd=folder)
    output = run(program, cwd=folder, timeout=60)
    conclude([] if output == "it works\n" else [f"the program printed {output!r}"])
