"""Process one project: install and fetch it, run its tests with theirs and ours, make its row."""

import datetime
import platform
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tools.install_dist import distribution_name

from .comparison import Verdict, compare
from .environment import REFERENCE, Environment, Side, built_versions
from .junit import Outcomes
from .projects import Project, SuiteError
from .results import Row


def try_project(project: Project, folder: Path, archive: Path | None = None) -> Row:
    """Run a suite on both sides. All its files are in ``folder``."""
    ours = built_versions()["asgiref"]
    wanted = archive.name.removesuffix(".tar.gz").rpartition("-")[2] if archive else ""
    environment = Environment(folder / "environment", project.requirements(wanted))
    version = environment.installed()[distribution_name(project.project)]
    print(f"{project.name}: {project.project} {version}", flush=True)
    source = fetch(project, version, environment, folder / "source", archive)
    seconds: dict[Side, float] = {}  # of the first run on each side, which has all tests

    def run_side(side: Side, tests: Sequence[str]) -> Outcomes:
        environment.use(side)
        which = f"modules of {len(tests)} tests that differ" if tests else "all tests"
        print(f"{project.name}: {which}, with {side.value} ...", flush=True)
        # A number each: the log of a failure that does not recur is kept.
        report = folder / f"{len(list(folder.glob('*.log')))}-{side.name.lower()}.xml"
        outcomes, took = environment.run(project, source, report, tests)
        environment.verify()
        seconds.setdefault(side, round(took, 1))
        return outcomes

    by = compare(project.known, run_side)
    return Row(
        suite=project.name,
        project=project.project,
        version=version,
        python=platform.python_version(),
        date=datetime.date.today().isoformat(),
        reference=REFERENCE,
        ours=ours,
        passed=len(by[Verdict.PASSED]),
        skipped=len(by[Verdict.SKIPPED]),
        failed=[each.test for each in by[Verdict.FAILED]],
        worse=[each.test for each in by[Verdict.WORSE]],
        better=[each.test for each in by[Verdict.BETTER]],
        flaky={each.test: each.told() for each in by[Verdict.FLAKY]},
        known={each.test: project.known[each.test] for each in by[Verdict.KNOWN]},
        seconds_theirs=seconds[Side.THEIRS],
        seconds_ours=seconds[Side.OURS],
    )


def fetch(
    project: Project, version: str, environment: Environment, into: Path, archive: Path | None
) -> Path:
    """Unpack the source of this version: the user's archive, else the project's, else the index's.

    pip downloads the last, so pip's configured mirror or proxy applies.
    """
    into.mkdir()
    if archive is None and project.archive:
        archive, address = into / "archive.tar.gz", project.archive.format(version=version)
        try:
            urllib.request.urlretrieve(address, archive)
        except OSError as error:
            needed = f"cannot fetch {address}: pass --archive {project.project}-{version}.tar.gz"
            raise SuiteError(f"{needed} ({error})") from error
    elif archive is None:
        only = ("--no-deps", "--no-binary", project.project, "--dest", str(into))
        environment.pip("download", *only, f"{project.project}=={version}")
        [archive] = into.iterdir()
    shutil.unpack_archive(archive, into / "unpacked", "gztar", filter="data")
    return next((into / "unpacked").iterdir())
