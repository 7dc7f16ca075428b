"""The documented changes of a package: the sections of its CHANGELOG, and its pending notes.

A note is a file ``changes/SLUG.KIND.md`` in the package's folder; it describes one change to users.
With separate files, two people who change the same package never edit the same lines. A release
moves the notes into a section of the CHANGELOG (`assemble_notes`) and deletes the files.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from components import Component

__all__ = [
    "HOW_TO_NAME_A_NOTE",
    "KINDS",
    "Section",
    "has_news",
    "notes_of",
    "sections_of",
    "tells_of",
    "wrongly_named",
]

#: The same as in ``towncrier.toml``, which also sets their order in the CHANGELOG.
KINDS = ("breaking", "feature", "fix")
HOW_TO_NAME_A_NOTE = "name it " + " or ".join(f"SLUG.{kind}.md" for kind in KINDS)
NOTE_NAME = re.compile(rf"\+?[\w-]+\.({'|'.join(KINDS)})\.md")
TITLE = re.compile(r"^## (?P<version>\S+) \((?P<when>[^)]+)\)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """The section of one version in a CHANGELOG; `begin` and `end` are offsets in its text."""

    version: str
    when: str
    text: str
    begin: int
    end: int

    @property
    def is_released(self) -> bool:
        return self.when != "unreleased"


def sections_of(changelog: str) -> list[Section]:
    """Return the sections in the order of the file, newest first."""
    titles = list(TITLE.finditer(changelog))
    begins = [title.start() for title in titles]
    return [
        Section(title["version"], title["when"], changelog[title.end() : end].strip(), begin, end)
        for title, begin, end in zip(titles, begins, [*begins[1:], len(changelog)], strict=False)
    ]


def files_in_changes(component: Component) -> list[Path]:
    return sorted(path for path in component.folder.glob("changes/*") if path.is_file())


def notes_of(component: Component) -> list[Path]:
    """Return the notes that are pending for the next release."""
    return [path for path in files_in_changes(component) if NOTE_NAME.fullmatch(path.name)]


def wrongly_named(component: Component) -> list[Path]:
    """Return the files in ``changes/`` whose names do not end in a known kind."""
    return [path for path in files_in_changes(component) if not NOTE_NAME.fullmatch(path.name)]


def tells_of(component: Component) -> bool:
    """Whether a note or a CHANGELOG section describes the component's current version."""
    if notes_of(component):
        return True
    if not component.changelog.exists():
        return False
    sections = sections_of(component.changelog.read_text("utf-8"))
    return any(section.version == str(component.version) and section.text for section in sections)


def has_news(component: Component) -> bool:
    """Whether there are pending notes or an undated section, which a release must assemble."""
    if not component.changelog.exists():
        return bool(notes_of(component))
    sections = sections_of(component.changelog.read_text("utf-8"))
    return bool(notes_of(component)) or any(not section.is_released for section in sections)
