"""Counts the words that mark stilted English in docstrings, comments and pages, per folder.

A thermometer, not a style guide: text below the limits can still be bad, but text above them reads
like a translation. The program prints one line per folder, in occurrences per 10,000 words, and
fails if a folder exceeds a limit. Code does not count: neither code blocks, nor inline code, nor
strings other than docstrings.
"""

import ast
import io
import os
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from command_line import make_parser

ROOT = Path(__file__).resolve().parents[1]
#: The words, and how many occurrences per 10,000 words are allowed.
LIMITS = {
    "somebody": (r"\b(?:who(?:so)?ever|(?:no|some|any|every)body)\b", 3),
    "what": (r"\bwhat\b", 35),
    "begin": (r"\b(?:begin|begins|began|begun|beginning)\b", 3),
    "for ever": (r"\bfor\s+ever\b", 0),
}
#: A folder with fewer words is judged as if it had this many: one "what" proves nothing.
SMALLEST_SAMPLE = 1000
GENERATED = {"_build", "build", "dist", "node_modules"}
#: In this order: literal blocks of reStructuredText, fenced code blocks (directives such as
#: ``{note}`` hold prose), doctest examples, comments of HTML, and inline code.
CODE = (
    re.compile(r"(?<=::)\n\n(?:(?: +.*)?\n)+"),
    re.compile(r"^ *(?P<fence>`{3,}|~{3,}).*\n(?:.*\n)*? *(?P=fence) *$", re.MULTILINE),
    re.compile(r"^ *(?:>>>|\.\.\. ).*$", re.MULTILINE),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"``.+?``|`[^`]+`", re.DOTALL),
)
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")  # noqa: RUF001


def prose_of(path: Path) -> str:
    """Return the text of a page, or the docstrings and comments of a module, without code."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = "\n\n".join(docstrings_and_comments(text))
    for pattern in CODE:
        text = pattern.sub(" ", text)
    return text


def docstrings_and_comments(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str(text))):  # also the docstring of an attribute
                yield text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("#: ")


def folder_of(path: str) -> str:
    """Return the folder that a file counts for, such as ``packages/NAME/src`` or ``tools``."""
    top, *others = path.split("/")[:-1] or ["."]
    return "/".join([top, *others[: {"packages": 2, "docs": 1}.get(top, 0)]])


def text_files(root: Path) -> Iterator[Path]:
    """Yield the pages and modules below `root`, without generated and hidden folders."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [each for each in subfolders if each[0] != "." and each not in GENERATED]
        yield from (Path(folder, name) for name in names if name.endswith((".md", ".rst", ".py")))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Print the table; return 1 if a folder exceeds a limit."""
    make_parser("count the words that mark stilted English, per folder").parse_args(arguments)
    words, found = Counter[str](), Counter[tuple[str, str]]()
    for path in text_files(root):
        folder, text = folder_of(path.relative_to(root).as_posix()), prose_of(path)
        words[folder] += len(WORD.findall(text))
        for word, (pattern, _) in LIMITS.items():
            found[folder, word] += len(re.findall(pattern, text, re.IGNORECASE))
    print(f"{'per 10,000 words':<36}{'words':>8}" + "".join(f"{word:>10}" for word in LIMITS))
    too_many = []
    for folder, total in sorted(words.items()):
        rates = (10_000 * found[folder, word] / max(total, 1) for word in LIMITS)
        print(f"{folder:<36}{total:>8}" + "".join(f"{rate:>10.1f}" for rate in rates))
        for word, (_, limit) in LIMITS.items():
            if found[folder, word] * 10_000 > limit * max(total, SMALLEST_SAMPLE):
                too_many.append(f"{folder}: too many of {word!r}; see CONTRIBUTING.md")
    print(*too_many, sep="\n")
    return 1 if too_many else 0


if __name__ == "__main__":
    sys.exit(main())
