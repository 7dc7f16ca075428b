"""The installation instructions on the pages: each ``console`` block that calls an installer.

    python installation-tests/support/instructions.py > installation-tests/instructions.txt

``instructions.txt`` records the instructions that these tests run as typed. The tests of the
documentation, which are quick, compare it with the pages, so no page can change an instruction
without a run of these tests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "RECORD",
    "ROOT",
    "Command",
    "Instruction",
    "instructions",
    "instructions_elsewhere",
    "pages",
    "record",
]

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "installation-tests" / "instructions.txt"

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
CONFIGURATION = re.compile(r"^```(?:dockerfile|yaml|ini)\n.*?^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)
INSTALLER = r"\b(?:pip3? (?:install|wheel)|pip-sync|uv (?:add|pip|sync)|poetry add|pipx install)\b"

# Each section of the first two pages is an alternative: a reader follows one. On any other page, a
# reader types all commands from top to bottom. (test_tutorial.py follows the tutorial as a whole.)
PAGES_OF_ALTERNATIVES = ("README.md", "docs/how-to/install.md", "docs/tutorial.md")


@dataclass(frozen=True, slots=True)
class Command:
    """The text after one prompt, and the output that the page shows below it."""

    typed: str
    shown: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """The commands that a reader types in one empty environment."""

    page: str
    section: str
    text: str

    @property
    def commands(self) -> list[Command]:
        """The commands in order, without servers, which do not end."""
        found: list[Command] = []
        for piece in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            typed, *shown = re.split(r"(?<!\\)\n", piece, maxsplit=1)
            if not typed.startswith("uvicorn "):
                found.append(Command(typed, "".join(shown).strip()))
        return found

    @property
    def builds_wheels(self) -> bool:
        """Whether this builds the wheels that all other instructions install."""
        return "pip wheel" in self.text

    def __str__(self) -> str:
        return f"{self.page} ({self.section})"


def pages() -> list[Path]:
    """Return every page with installation instructions; the demo installs its own packages."""
    patterns = ("README.md", "docs/**/*.md", "packages/*/README.md", "examples/**/README.md")
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if "_build" not in path.parts)


def instructions() -> list[Instruction]:
    return [each for page in pages() for each in _instructions_of(page)]


def _instructions_of(page: Path) -> Iterator[Instruction]:
    name = page.relative_to(ROOT).as_posix()
    blocks = list(_blocks(page.read_text("utf-8")))
    if name in PAGES_OF_ALTERNATIVES:
        yield from (Instruction(name, section, text) for section, text in blocks)
    elif blocks:
        yield Instruction(name, "all of it", "".join(text for _, text in blocks))


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield the section's title and the content of each block that calls an installer."""
    for block in BLOCK.finditer(text):
        if re.search(INSTALLER, block[1]):
            prose = BLOCK.sub("", text[: block.start()])
            yield (
                HEADING.findall(re.sub(r"^```.*?^```$", "", prose, flags=re.M | re.S))[-1],
                block[1],
            )


def instructions_elsewhere() -> list[str]:
    """Return lines outside ``console`` blocks that install one of our packages."""
    found = []
    for path in [*pages(), *ROOT.glob("docs/**/*.rst")]:
        # Docker and CI use empty environments too; the docs compare their commands with the record.
        prose = CONFIGURATION.sub("", BLOCK.sub("", path.read_text("utf-8")))
        for line in prose.splitlines():
            if re.search(rf"{INSTALLER}[^`]*asgiref", line):
                found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    return found


def record() -> str:
    """Return all instructions as one text."""
    return "\n".join(f"== {each}\n{each.text}" for each in instructions())


if __name__ == "__main__":
    print(record(), end="")
