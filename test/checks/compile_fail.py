"""Programs that must not compile, and with which words: test/compile_fail/*.cpp.

A file holds one line `// error: TEXT`, or several `#if CASE == N  // error: TEXT` (or #elif), each compiled with -DCASE=N; with
CASE=0 such a file must compile. Every compiler must give exactly one `error:` line, and it must contain TEXT.
"""
import re

from tree import COMPILERS, FLAGS, ROOT, compile_all, sources

EXPECTED = re.compile(r"^(?:#\s*(?:el)?if CASE == (\d+))?\s*// error: (.+?)\s*$", re.M)

cases = []  # (file, case or None, text or None)
for path in sources("test/compile_fail", suffixes=(".cpp",)):
    found = EXPECTED.findall((ROOT / path).read_text())
    cases += [(path, number or None, text) for number, text in found]
    if any(number for number, _ in found):
        cases.append((path, "0", None))
    if not found:
        cases.append((path, None, "a line `// error: TEXT`, which the file lacks"))

runs = [(case, compiler) for case in cases for compiler in COMPILERS]
commands = [[compiler, *FLAGS, *([f"-DCASE={case}"] if case else []), str(path)] for (path, case, _), compiler in runs]
failed = set()
for ((path, case, text), compiler), (status, output) in zip(runs, compile_all(commands)):
    errors = [line for line in output.splitlines() if " error: " in line]
    if (status == 0 and not errors) if text is None else (len(errors) == 1 and text in errors[0]):
        continue
    failed.add((path, case))
    wanted = f"one error with `{text}`" if text else "no error"
    print(f"{path} case {case or 1}, {compiler}: wanted {wanted}; got {len(errors)}:", *errors or [output], sep="\n  ")
print(f"{len(cases) - len(failed)} passed, {len(failed)} failed")
raise SystemExit(1 if failed else 0)
