"""Each ```cpp block of README.md and docs/*.md stands, but for its indentation, in a file that the tests build."""
import re
import textwrap

from tree import ROOT, conclude, sources

built = [(ROOT / path).read_text() for path in sources("examples", "test")]


def stands(block):
    wanted = textwrap.dedent(block).rstrip().splitlines()
    for text in built:
        for indent in {len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip() == wanted[0].strip()}:
            if textwrap.indent("\n".join(wanted), " " * indent) + "\n" in text:
                return True
    return False


problems = []
for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
    text = path.read_text() if path.exists() else ""
    for match in re.finditer(r"^ *```cpp\n(.*?)^ *```", text, re.M | re.S):
        if not stands(match[1]):
            number = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path.relative_to(ROOT)}:{number}: this block is in no file of examples/ or test/:\n{match[1]}")
conclude(problems)
