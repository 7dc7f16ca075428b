"""Get the tests of a project: from its source archive on the index, or from another archive.

pip downloads the former, so pip's configured mirror or proxy applies. The latter has a URL of its
own, or is a file of the user's.
"""

import shutil
import urllib.request
from pathlib import Path

from .environment import Environment
from .projects import Project, SuiteError


class NoTests(Exception):
    """The tests of a project cannot be fetched here; the text says why."""


def fetch(
    project: Project, version: str, environment: Environment, into: Path, archive: Path | None
) -> Path:
    """Unpack the source of this version into a new folder."""
    if archive is None:
        archive = _download(project, version, environment, into)
    shutil.unpack_archive(archive, into / "unpacked", "gztar", filter="data")
    [source] = (into / "unpacked").iterdir()
    if not any((source / project.folder).rglob("test_*.py")):
        raise SuiteError(f"no tests in the source of {project.project}: add an `archive`")
    return source


def _download(project: Project, version: str, environment: Environment, into: Path) -> Path:
    into.mkdir()
    if not project.archive:
        only = ("--no-deps", "--no-binary", project.project, "--dest", str(into))
        environment.pip("download", *only, f"{project.project}=={version}")
        return next(into.iterdir())
    address = project.archive.format(version=version)
    try:
        return Path(urllib.request.urlretrieve(address, into / "archive")[0])
    except OSError as error:
        raise NoTests(f"its tests are only in {address}, which cannot be fetched") from error
