"""compile_fail.py STAMP: programs that must not compile, and with which words: test/compile_fail/*.cpp.

A file holds one line `// error: TEXT`, or several `#if CASE == N  // error: TEXT` (or #elif), each compiled with -DCASE=N; with
CASE=0 such a file must compile. Every compiler must give exactly one `error:` line, and it must contain TEXT.
Nothing is compiled again while the file STAMP, written when all is well, is newer than every header and every one of these files.
"""
import pathlib
import re
import sys
import tempfile

from tree import COMPILERS, FLAGS, FOLDERS, ROOT, compile_all, sources

EXPECTED = re.compile(r"^(?:#\s*(?:el)?if CASE == (\d+))?\s*// error: (.+?)\s*$", re.M)
INCLUDED = re.compile(r"^#include .*\n", re.M)

cases = []  # (file, case or None, text or None)
for path in sources("test/compile_fail", suffixes=(".cpp",)):
    source = (ROOT / path).read_text()
    found = EXPECTED.findall(source)
    cases += [(path, number or None, text) for number, text in found]
    if any(number for number, _ in found):
        cases.append((path, "0", None))
    if not found or len(found) != source.count("// error: "):
        cases.append((path, None, "a line `// error: TEXT` in the right place, which the file lacks"))

stamp = pathlib.Path(sys.argv[1])
inputs = sources(*FOLDERS, suffixes=(".hpp",)) + sources("test/compile_fail", "test/checks", suffixes=(".cpp", ".py"))
if stamp.exists() and all((ROOT / path).stat().st_mtime < stamp.stat().st_mtime for path in inputs):
    print(stamp.read_text())
    raise SystemExit(0)

failed = set()
with tempfile.TemporaryDirectory() as folder:
    # What a file includes is compiled once for all its cases.
    prefixes, commands = {}, []
    for path in {path for path, _, _ in cases}:
        for compiler in COMPILERS:
            prefixes[path, compiler] = pathlib.Path(folder, f"{len(prefixes)}.hpp")
            prefixes[path, compiler].write_text("".join(INCLUDED.findall((ROOT / path).read_text())))
            header = str(prefixes[path, compiler])
            flags = [flag for flag in FLAGS if flag != "-fsyntax-only"]
            commands.append([compiler, *flags, "-x", "c++-header", header, "-o", header + ".gch"])
    for command, (status, output) in zip(commands, compile_all(commands)):
        if status:
            print(*command, output)

    runs = [(case, compiler) for case in cases for compiler in COMPILERS]
    commands = [[compiler, *FLAGS, "-include", str(prefixes[path, compiler]), *([f"-DCASE={case}"] if case else []), str(path)]
                for (path, case, _), compiler in runs]
    for ((path, case, text), compiler), (status, output) in zip(runs, compile_all(commands)):
        errors = [line for line in output.splitlines() if " error: " in line]
        if (status == 0 and not errors) if text is None else (len(errors) == 1 and text in errors[0]):
            continue
        failed.add((path, case))
        wanted = f"one error with `{text}`" if text else "no error"
        print(f"{path} case {case or 1}, {compiler}: wanted {wanted}; got {len(errors)}:", *errors or [output], sep="\n  ")
total = f"{len(cases) - len(failed)} passed, {len(failed)} failed"
print(total)
if not failed:
    stamp.write_text(total)
raise SystemExit(1 if failed else 0)
