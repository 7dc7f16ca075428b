"""Move the pending change notes of packages into their CHANGELOGs.

``python tools/assemble_notes.py NAME ...`` writes the section of each package's current version,
with today's date, and removes the notes. Without names it prints the pending notes. Needs
``towncrier``, which reads, checks and renders the notes according to ``towncrier.toml``.

towncrier always starts a new section. Here the version may already have a section, written by hand
and titled ``(unreleased)``, as the first versions do: the notes are added to it, and it is dated.
"""

import datetime
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from change_notes import HOW_TO_NAME_A_NOTE, Section, has_news, notes_of, sections_of, wrongly_named
from command_line import make_parser
from components import ROOT, Component, find_components

__all__ = ["assemble", "assembled", "rendered_notes"]


def rendered_notes(component: Component) -> str:
    """Return the notes as a Markdown list, or an empty string if there are none."""
    for path in wrongly_named(component):
        sys.exit(f"{component.name}: {path.name} in changes/ is no note: {HOW_TO_NAME_A_NOTE}")
    configuration = component.folder.parents[1] / "towncrier.toml"
    command = ["-m", "towncrier", "build", "--draft", "--config", str(configuration)]
    options = ["--dir", str(component.folder), "--version", str(component.version)]
    # `-P` keeps towncrier from importing modules out of the current folder.
    done = subprocess.run(
        [sys.executable, "-P", *command, *options], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{component.name}: {done.stderr.strip()}")
    return done.stdout.strip()


def section_to_join(changelog: str, version: str) -> Section | None:
    """Return the section of this version, if any. Raises ValueError if it is dated."""
    for section in sections_of(changelog):
        if section.version == version:
            if section.is_released:
                raise ValueError(f"the CHANGELOG dates {version} already: write a new version")
            return section
    return None


def assembled(changelog: str, version: str, date: datetime.date, notes: str) -> str:
    """Return the CHANGELOG with the notes added to the section of this version, now dated.

    Raises ValueError if the section is already dated, or if it would be empty.
    """
    section = section_to_join(changelog, version)
    written = section.text if section else ""
    text = "\n".join(part for part in (written, notes) if part)
    if not text:
        raise ValueError(f"nothing says what is new in {version}: add a note to changes/")
    if section is None:
        titles = sections_of(changelog)
        begin = end = titles[0].begin if titles else len(changelog)
    else:
        begin, end = section.begin, section.end
    before, after = changelog[:begin].rstrip(), changelog[end:].strip()
    parts = (before, f"## {version} ({date})", text, after)
    return "\n\n".join(part for part in parts if part) + "\n"


def assemble(component: Component, date: datetime.date) -> None:
    """Write the section into the component's CHANGELOG; remove the notes."""
    path = component.changelog
    changelog = path.read_text("utf-8") if path.exists() else f"# Changes of {component.name}\n"
    notes = notes_of(component)
    rendered = rendered_notes(component)
    try:
        text = assembled(changelog, str(component.version), date, rendered)
    except ValueError as error:
        sys.exit(f"{component.name}: {error}")
    path.write_text(text, "utf-8")
    for note in notes:
        note.unlink()
    print(f"{component.name} {component.version}: {len(notes)} notes assembled")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    parser = make_parser("assemble change notes into CHANGELOGs")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a package, or `all` that have notes (default: only show the notes that wait)",
    )
    names: list[str] = parser.parse_args(arguments).names
    components = find_components(root)
    known = [component.name for component in components]
    for name in names:
        if name not in (*known, "all"):
            sys.exit(f"no package {name}; there are {', '.join(known)}")
    if not names:
        for component in components:
            print(f"{component.name}:\n{rendered_notes(component) or 'no notes wait'}\n")
    for component in components:
        if component.name in names or ("all" in names and has_news(component)):
            assemble(component, datetime.datetime.now(datetime.UTC).date())


if __name__ == "__main__":
    main()
