"""Every file is as clang-format-19 would write it. Where that is not installed this counts as no test."""
import shutil

from tree import FOLDERS, ROOT, compile_all, conclude, sources

clang_format = shutil.which("clang-format-19")
if not clang_format:
    print("clang-format-19 is not installed\n0 passed, 0 failed")
    raise SystemExit(0)

files = sources(*FOLDERS, "examples", "test")
commands = [[clang_format, "--dry-run", "--Werror", str(path)] for path in files]
differ = [str(path) for path, (status, _) in zip(files, compile_all(commands)) if status]
conclude(["to mend: clang-format-19 -i " + " ".join(differ)] if differ else [])
