"""Move the pending change notes of packages into their CHANGELOGs.

``python tools/assemble_notes.py NAME ...`` writes the section of each package's current version,
with today's date, and removes the notes. Without names it prints the pending notes. Needs
``towncrier``, which reads, checks and renders the notes according to ``towncrier.toml``.

towncrier always starts a new section. If the version already has a section, written by hand and
titled ``(unreleased)``, as the first versions do, this program adds the notes to it and dates it.
"""

import datetime
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import make_parser
from components import ROOT, Component, Section, find_components, split_changelog

__all__ = ["assemble", "assembled", "rendered_notes"]


def rendered_notes(component: Component) -> str:
    """Return the notes as a Markdown list, or an empty string if there are none."""
    configuration = component.folder.parents[1] / "towncrier.toml"
    # `-P` keeps towncrier from importing modules from the current folder.
    command = [sys.executable, "-P", "-m", "towncrier", "build", "--draft"]
    options = ["--dir", str(component.folder), "--version", str(component.version)]
    command += ["--config", str(configuration), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{component.name}: {done.stderr.rpartition('Error: ')[2].strip()}")
    return done.stdout.strip()


def assembled(changelog: str, version: str, date: datetime.date, notes: str) -> str:
    """Return the CHANGELOG with the notes added to the section of this version, now dated.

    Raises ValueError if the section is already dated, or if it would be empty.
    """
    before, sections = split_changelog(changelog)
    if sections and sections[0].version == version:
        current = sections.pop(0)
        if current.is_released:
            raise ValueError(f"the CHANGELOG already dates {version}: set a new version")
        notes = f"{current.text}\n{notes}".strip()
    if not notes:
        raise ValueError(f"nothing says what is new in {version}: add a note to changes/")
    return "\n\n".join([before, *map(str, [Section(version, str(date), notes), *sections])]) + "\n"


def assemble(component: Component, date: datetime.date) -> None:
    """Write the section into the component's CHANGELOG; remove the notes."""
    notes, rendered = component.notes(), rendered_notes(component)
    changelog = component.changelog.read_text("utf-8")
    try:
        text = assembled(changelog, str(component.version), date, rendered)
    except ValueError as error:
        sys.exit(f"{component.name}: {error}")
    component.changelog.write_text(text, "utf-8")
    for note in notes:
        note.unlink()
    print(f"{component.name} {component.version}: {len(notes)} notes assembled")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    parser = make_parser("move the notes of packages to their CHANGELOGs, or show all notes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a package, or `all` with notes")
    chosen: list[str] = parser.parse_args(arguments).names
    components = {component.name: component for component in find_components(root)}
    for name in chosen:
        if name not in (*components, "all"):
            sys.exit(f"no package {name}; there are {', '.join(components)}")
    for name, component in components.items():
        if not chosen:
            print(f"{name}:\n{rendered_notes(component) or 'no pending notes'}\n")
        elif name in chosen or ("all" in chosen and component.has_news()):
            assemble(component, datetime.datetime.now(datetime.UTC).date())


if __name__ == "__main__":
    main()
