"""Download and unpack the source archive of a project's newest release for the running Python.

Only pip talks to the index, so pip's configured mirror or proxy applies here too. pip downloads
only this one source archive; build requirements come as wheels. If the archive has no tests, a
second archive of the same version is downloaded from its own URL.
"""

import re
import subprocess
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .errors import SuiteError


@dataclass(frozen=True, slots=True)
class Source:
    """An unpacked source archive."""

    folder: Path
    version: str


def fetch(requirement: str, project: str, into: Path, other: str = "") -> Source:
    """Download the archive that satisfies the requirement, and unpack it into a new folder.

    ``other`` is the URL of an archive to unpack instead; it contains ``{version}``.
    """
    into.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(into)]
    done = subprocess.run(
        [*command, "--no-binary", project, requirement], capture_output=True, text=True
    )
    if done.returncode:
        raise SuiteError(f"pip cannot fetch the source of {requirement!r}:\n{done.stderr}")
    [archive] = into.iterdir()
    version = version_of(archive.name)
    if other:
        archive = into / "other" / "other.tar.gz"
        archive.parent.mkdir()
        _download(other.format(version=version), archive)
    return Source(_unpack(archive), version)


def _download(address: str, to: Path) -> None:
    try:
        urllib.request.urlretrieve(address, to)
    except OSError as error:
        raise SuiteError(f"{address} cannot be fetched: {error}") from error


def version_of(archive: str) -> str:
    """Return the version in the name of a source archive, ``name-version.tar.gz``."""
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
