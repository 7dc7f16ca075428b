"""Queries to git about this checkout: its tags, and the files that differ from them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Repository"]


@dataclass(frozen=True, slots=True)
class Repository:
    """The checkout in the folder `root`. Every method exits the program if git cannot answer."""

    root: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            sys.exit("git is not installed, and only it knows what was released: install git")
        if done.returncode:
            sys.exit(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
        return done.stdout

    def tags(self) -> set[str]:
        return set(self.git("tag", "--list").split())

    def is_shallow(self) -> bool:
        return self.git("rev-parse", "--is-shallow-repository").strip() == "true"

    def changed_since(self, tag: str, folder: Path) -> list[str]:
        """Return the files in a folder that differ from the tag, relative to the folder.

        Uncommitted changes count too: a build would include them in the release.
        """
        here = ["--", str(folder)]
        differ = self.git("diff", "--name-only", "--relative", "-z", tag, *here)
        new = self.git("ls-files", "--others", "--exclude-standard", "-z", *here)
        prefix = f"{folder.relative_to(self.root).as_posix()}/"
        names = {name for name in (differ + new).split("\0") if name}
        return sorted(name.removeprefix(prefix) for name in names)

    def read_at(self, tag: str, path: Path) -> str:
        """Return the file's content at the tag, or an empty string if it did not exist."""
        name = path.relative_to(self.root).as_posix()
        if not self.git("ls-tree", "--name-only", tag, "--", name):
            return ""
        return self.git("show", f"{tag}:./{name}")
