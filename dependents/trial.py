"""Process one project: install and fetch it, run it with theirs and ours, compare, make its row."""

import dataclasses
import datetime
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from .comparison import Verdict, alike, find_differences
from .environment import REFERENCE, Environment, Side, version_of_ours
from .junit import Outcome
from .projects import SMOKE_TESTS, Project, SuiteError
from .results import Row
from .running import Run, run
from .source import NoTests, fetch

Runs = Callable[[Side, Sequence[str]], Run]


def try_project(project: Project, folder: Path, archive: Path | None = None) -> Row:
    """Run a suite on both sides. All its files are in ``folder``."""
    release = f"=={version_of(archive)}" if archive else project.release
    ours = version_of_ours()
    needs = (project.project + release, *project.tools, *project.install)
    environment = Environment.create(folder / "environment", *needs)
    if project.install_alone:
        environment.pip("install", "--no-deps", *project.install_alone)
    version, python = environment.ask(project.project)[0], platform.python_version()
    print(f"{project.name}: {project.project} {version}, Python {python}", flush=True)
    today = datetime.date.today().isoformat()
    row = Row(project.name, project.project, version, python, today, REFERENCE, ours)
    try:
        source = fetch(project, version, environment, folder / "source", archive)
    except NoTests as reason:
        row = dataclasses.replace(row, not_run=str(reason))
        source, project = SMOKE_TESTS, project.with_smoke_test()
    return compare(project, row, runs_of(project, source, environment, folder))


def version_of(archive: Path) -> str:
    """Return the version in the name of an archive, ``project-version.tar.gz``."""
    found = re.fullmatch(r".+-([0-9][^-]*)\.tar\.gz", archive.name)
    if found is None:
        raise SuiteError(f"rename {archive.name}: it needs its version, as in project-1.0.tar.gz")
    return found[1]


def runs_of(project: Project, source: Path, environment: Environment, folder: Path) -> Runs:
    """Return a function that runs all tests, or the modules of some, on one side."""

    def run_side(side: Side, tests: Sequence[str]) -> Run:
        environment.switch_to(side)
        which = f"modules of tests that differ ({len(tests)})" if tests else "all tests"
        print(f"{project.name}: {which}, with {side.value} ...", flush=True)
        # A number each: the log of a failure that does not recur is kept.
        report = folder / f"{len(list(folder.glob('*.log')))}-{side.name.lower()}"
        done = run(project, source, environment, report, tests)
        print(f"{project.name}: {len(done.outcomes)} tests, {done.seconds:.1f} s", flush=True)
        return done

    return run_side


def compare(project: Project, row: Row, run_side: Runs) -> Row:
    """Run the suite on both sides, and fill in the results."""
    theirs, ours = run_side(Side.THEIRS, ()), run_side(Side.OURS, ())
    sides = (theirs.outcomes, ours.outcomes)
    passed, known = alike(*sides, Outcome.PASSED), project.known
    if stale := sorted(known.keys() & passed):
        raise SuiteError(f"these pass on both sides, so remove them from `known`: {stale}")
    found = find_differences(*sides, known, lambda side, tests: run_side(side, tests).outcomes)
    by = {each: [d for d in found if d.verdict is each] for each in Verdict}
    return dataclasses.replace(
        row,
        passed=len(passed),
        skipped=len(alike(*sides, Outcome.SKIPPED)),
        failed=sorted(alike(*sides, Outcome.FAILED)),
        worse=[each.test for each in by[Verdict.WORSE]],
        better=[each.test for each in by[Verdict.BETTER]],
        flaky={each.test: each.told() for each in by[Verdict.FLAKY]},
        known={t: why for t, why in sorted(known.items()) if sides[0].get(t) != sides[1].get(t)},
        seconds_theirs=round(theirs.seconds, 1),
        seconds_ours=round(ours.seconds, 1),
    )
