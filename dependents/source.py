"""Fetch the source archive of a project, the newest release that this Python takes, and unpack it.

Only pip speaks to the index, so a mirror or a proxy that pip is told of serves this too. pip is
asked for the one source archive alone: what that needs to be built comes as wheels.
"""

import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .errors import SuiteError


@dataclass(frozen=True, slots=True)
class Source:
    """An unpacked source archive."""

    folder: Path
    version: str


def fetch(requirement: str, project: str, into: Path) -> Source:
    """Download and unpack what satisfies the requirement, into a new folder."""
    into.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(into)]
    done = subprocess.run(
        [*command, "--no-binary", project, requirement], capture_output=True, text=True
    )
    if done.returncode:
        raise SuiteError(f"pip cannot fetch the source of {requirement!r}:\n{done.stderr}")
    [archive] = into.iterdir()
    return Source(_unpack(archive), version_of(archive.name))


def version_of(archive: str) -> str:
    """The version in the name of a source archive, ``name-version.tar.gz``."""
    found = re.fullmatch(r".+-([0-9][^-]*)\.tar\.gz", archive)
    if found is None:
        raise SuiteError(f"{archive} is no source archive of the usual name, project-1.0.tar.gz")
    return found[1]


def _unpack(archive: Path) -> Path:
    before = set(archive.parent.iterdir())
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):  # 3.11.4 and later
            opened.extractall(archive.parent, filter="data")
        else:
            opened.extractall(archive.parent)
    [folder] = set(archive.parent.iterdir()) - before
    return folder
