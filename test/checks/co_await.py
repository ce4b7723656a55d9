"""No capturing lambda and no braced list in a full expression with `co_await`: GCC 12.2 destroys what they hold twice. Name it first."""
import re

from tree import FOLDERS, ROOT, conclude, sources

COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
PAIRS = {"(": ")", "[": "]", "{": "}"}
# What stands before a brace that opens a block: a parameter list, a lambda's captures, a keyword, a trailing return type.
BEFORE_BLOCK = re.compile(r"([)\]{};:]|\b(else|do|try|mutable|noexcept|const|override|final)|->[\w\s:<>,*&]+|"
                          r"\b(struct|class|union|enum|namespace)\b[^;{}()=]*)\s*$|^\s*$")


def blank(match):
    """Strings and comments become blanks, so that lines keep their numbers."""
    return re.sub(r"[^\n]", " ", match[0])


def opens_block(text, brace):
    return BEFORE_BLOCK.search(text, max(0, brace - 400), brace) is not None


def closing(text, start):
    """The position of the bracket that closes the one at `start`."""
    expected = []
    for position in range(start, len(text)):
        if text[position] in PAIRS:
            expected.append(PAIRS[text[position]])
        elif expected and text[position] == expected[-1]:
            expected.pop()
            if not expected:
                return position
    return len(text) - 1


def statement(text, keyword):
    """The statement around the `co_await` at `keyword`, or its head if a block follows."""
    stack = []
    for position in range(keyword):
        if text[position] in PAIRS:
            stack.append(position)
        elif stack and text[position] == PAIRS[text[stack[-1]]]:
            stack.pop()
    blocks = [position for position in stack if text[position] == "{" and opens_block(text, position)]
    start = position = blocks[-1] + 1 if blocks else 0
    while position < len(text):
        if text[position] == "{" and opens_block(text, position):
            if position > keyword:
                break
            start = position = closing(text, position) + 1
        elif text[position] in PAIRS:
            position = closing(text, position) + 1
        elif text[position] in ";}":
            if position > keyword:
                break
            start = position = position + 1
        else:
            position += 1
    return text[start:position]


def fault(expression):
    """What the expression holds that it must not."""
    # A lambda without captures holds nothing.
    while match := re.search(r"\[\s*\]\s*(?=[({<])", expression):
        body = expression.find("{", match.end())
        if body < 0:
            break
        expression = expression[: match.start()] + expression[closing(expression, body) + 1 :]
    if re.search(r"\[[^\]]+\]\s*(\([^)]*\)|)[^;{}()]*\{", expression):
        return "a capturing lambda"
    return "a braced list" if "{" in expression else None


problems = []
for path in sources(*FOLDERS, "examples", "test"):
    # A digit separator opens no character.
    text = COMMENT_OR_STRING.sub(blank, re.sub(r"(?<=\d)'(?=\d)", " ", (ROOT / path).read_text()))
    for match in re.finditer(r"\bco_await\b", text):
        found = fault(statement(text, match.start()))
        if found:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: {found} in an expression with co_await; give it a name first")
conclude(problems)
