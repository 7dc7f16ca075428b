"""Counts the words that mark stilted English in docstrings, comments and pages, per folder.

A thermometer, not a style guide: text below the limits can still be bad, but text above them reads
like a translation. The program prints one line per folder, in occurrences per 10,000 words, and
fails if a folder in `HELD` exceeds a limit. Add a folder to `HELD` once its text is rewritten.
Code does not count: neither code blocks, nor inline code, nor strings other than docstrings.
"""

import ast
import io
import os
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from command_line import make_parser

__all__ = ["HELD", "LIMITS", "Count", "count_folders", "main", "prose_of"]

ROOT = Path(__file__).resolve().parents[1]
#: Occurrences allowed per 10,000 words.
LIMITS = {
    "somebody": 3,
    "what": 35,
    "begin": 3,
    "for ever": 0,
}
PATTERNS = {
    "somebody": re.compile(r"\b(?:who(?:so)?ever|(?:no|some|any|every)body)\b", re.I),
    "what": re.compile(r"\bwhat\b", re.I),
    "begin": re.compile(r"\b(?:begin|begins|began|begun|beginning)\b", re.I),
    "for ever": re.compile(r"\bfor\s+ever\b", re.I),
}
#: Pages that count separately from their folder, because a program writes them.
SEPARATE_PAGES = {"docs/dependents.md"}
#: The folders whose text is rewritten.
HELD = frozenset(
    {
        ".",
        "benchmarks",
        "demo",
        "dependents",
        "docs",
        "docs/benchmarks",
        "docs/dependents.md",
        "docs/explanation",
        "docs/extensions",
        "docs/how-to",
        "docs/protocols",
        "docs/reference",
        "docs/tests",
        "examples",
        "installation-tests",
        "integration-tests",
        "packages/asgiref",
        "packages/asgiref-compatibility",
        "packages/asgiref-compatibility/changes",
        "packages/asgiref-compatibility/src",
        "packages/asgiref-compatibility/tests",
        "packages/asgiref-local",
        "packages/asgiref-local/changes",
        "packages/asgiref-local/src",
        "packages/asgiref-local/tests",
        "packages/asgiref-postgres",
        "packages/asgiref-postgres/src",
        "packages/asgiref-postgres/tests",
        "packages/asgiref-server",
        "packages/asgiref-server/changes",
        "packages/asgiref-server/src",
        "packages/asgiref-server/tests",
        "packages/asgiref-sync",
        "packages/asgiref-sync/changes",
        "packages/asgiref-sync/src",
        "packages/asgiref-sync/tests",
        "packages/asgiref-testing",
        "packages/asgiref-testing/changes",
        "packages/asgiref-testing/src",
        "packages/asgiref-testing/tests",
        "packages/asgiref-typing",
        "packages/asgiref-typing/changes",
        "packages/asgiref-typing/src",
        "packages/asgiref-typing/tests",
        "packages/asgiref-wsgi",
        "packages/asgiref-wsgi/changes",
        "packages/asgiref-wsgi/src",
        "packages/asgiref-wsgi/tests",
        "packages/asgiref/src",
        "packages/asgiref/tests",
        "soak",
        "tools",
    }
)
#: A folder with fewer words is judged as if it had this many: one "what" proves nothing.
SMALLEST_SAMPLE = 1000
PAGES = {".md", ".rst"}
GENERATED = {"_build", "build", "dist", "node_modules"}

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,}|~{3,}) *(?P<info>.*)$")
#: A literal block of reStructuredText: a paragraph that ends in two colons, then indented lines.
LITERAL_BLOCK = re.compile(r"::\n\n(?:(?: +.*)?\n)+")
HTML_COMMENT = re.compile(r"<!--.*?-->", re.S)
INLINE_CODE = re.compile(r"``.+?``|`[^`]+`", re.S)
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")  # noqa: RUF001


@dataclass(slots=True)
class Count:
    """The words of one folder, and how often each counted word occurs among them."""

    words: int = 0
    found: Counter[str] = field(default_factory=Counter[str])

    def add(self, text: str) -> None:
        self.words += len(WORD.findall(text))
        for name, pattern in PATTERNS.items():
            self.found[name] += len(pattern.findall(text))

    def rate(self, name: str) -> float:
        return 10_000 * self.found[name] / max(self.words, 1)

    def excesses(self) -> list[str]:
        """The names of the words that occur too often."""
        sample = max(self.words, SMALLEST_SAMPLE)
        allowed = {name: limit * sample / 10_000 for name, limit in LIMITS.items()}
        return [name for name, most in allowed.items() if self.found[name] > most]


def prose_of(path: Path) -> str:
    """The text of a page, or the docstrings and comments of a module, without code."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = "\n\n".join([*docstrings(text), comments(text)])
    text = HTML_COMMENT.sub("", LITERAL_BLOCK.sub("\n\n", without_code_blocks(text)))
    return INLINE_CODE.sub(" ", text)


def docstrings(source: str) -> Iterator[str]:
    """Each string that stands alone as a statement: docstrings, and those below an attribute."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
            case _:
                pass


def comments(source: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(
        token.string.lstrip("#: ") for token in tokens if token.type == tokenize.COMMENT
    )


def without_code_blocks(text: str) -> str:
    """Drop fenced code blocks and doctest examples; directives such as ``{note}`` hold prose."""
    kept: list[str] = []
    closing = ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        if closing:
            if fence and fence["fence"] == closing and not fence["info"]:
                closing = ""
        elif fence and fence["fence"][0] != ":":
            closing = fence["fence"]
        elif not line.lstrip().startswith((">>>", "... ")):
            kept.append(line)
    return "\n".join(kept) + "\n"


def folder_of(path: str) -> str:
    """Return the folder that a file counts for, such as ``packages/NAME/src`` or ``tools``."""
    if path in SEPARATE_PAGES:
        return path
    parents = path.split("/")[:-1]
    depth = {"packages": 3, "docs": 2}.get(path.split("/")[0], 1)
    return "/".join(parents[:depth]) or "."


def text_files(root: Path) -> Iterator[str]:
    """The pages and modules below `root`, relative to it, without generated and hidden folders."""
    for path, subfolders, names in os.walk(root):
        folder = Path(path)
        subfolders[:] = sorted(
            name for name in subfolders if name not in GENERATED and not name.startswith(".")
        )
        for name in names:
            if Path(name).suffix in PAGES | {".py"}:
                yield (folder / name).relative_to(root).as_posix()


def count_folders(root: Path, files: Iterable[str]) -> dict[str, Count]:
    """Count the text of `files`, which are relative to `root`, by folder."""
    counts: dict[str, Count] = {}
    for name in sorted(files):
        counts.setdefault(folder_of(name), Count()).add(prose_of(root / name))
    return counts


def table(counts: dict[str, Count], held: Iterable[str]) -> Iterator[str]:
    yield f"{'per 10,000 words':<36}{'words':>8}" + "".join(f"{name:>10}" for name in LIMITS)
    for folder, count in sorted(counts.items()):
        rates = "".join(f"{count.rate(name):>10.1f}" for name in LIMITS)
        yield f"{folder:<36}{count.words:>8}{rates}{'  held' if folder in held else ''}"


def main(arguments: list[str] | None = None, root: Path = ROOT, held: frozenset[str] = HELD) -> int:
    """Print the table; return 1 if a folder in `held` exceeds a limit or does not exist."""
    make_parser("Count the words that mark stilted English, per folder.").parse_args(arguments)
    counts = count_folders(root, text_files(root))
    print(*table(counts, held), sep="\n")
    failures = [
        f"{folder}: too many of {', '.join(map(repr, excesses))}; see CONTRIBUTING.md"
        for folder in sorted(held & counts.keys())
        if (excesses := counts[folder].excesses())
    ]
    failures += [f"{folder}: no such folder; correct HELD" for folder in held - counts.keys()]
    print(*failures, sep="\n", end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
