"""Each ```cpp block of README.md, docs/ and examples/ stands, but for its indentation, in a file that the tests build: in that
which the heading above it names, if it names one."""
import re
import textwrap

from tree import ROOT, conclude, sources

built = {path: (ROOT / path).read_text() for path in sources("examples", "test")}


def stands(block, texts):
    wanted = textwrap.dedent(block).rstrip().splitlines()
    for text in texts:
        for indent in {len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip() == wanted[0].strip()}:
            if textwrap.indent("\n".join(wanted), " " * indent) + "\n" in text:
                return True
    return False


problems = []
for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]:
    text = path.read_text() if path.exists() else ""
    for match in re.finditer(r"^ *```cpp\n(.*?)^ *```", text, re.M | re.S):
        named = re.findall(r"^#+ .*\(`(\w+\.cpp)`\)$|^(#+ )", text[: match.start()], re.M)
        name = named[-1][0] if named else ""
        if not stands(match[1], [built_text for built_path, built_text in built.items() if name in ("", built_path.name)]):
            number = text.count("\n", 0, match.start()) + 1
            where = name or "no file of examples/ or test/"
            problems.append(f"{path.relative_to(ROOT)}:{number}: this block is not in {where}:\n{match[1]}")
conclude(problems)
