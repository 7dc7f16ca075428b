"""Process one suite: download it, run it with theirs and ours, compare, repeat, make its row."""

import contextlib
import datetime
import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .comparison import Side, Verdict, compare, judge
from .environment import REFERENCE, Environment, version_of_ours
from .outcomes import Recorded
from .results import Flaky, Results, Row
from .running import Run, run
from .source import Source, fetch
from .suite import Suite


@dataclass(slots=True)
class Trial:
    """A running suite with its environment, its source, and the side that is installed now."""

    suite: Suite
    source: Path
    environment: Environment
    reports: Path
    installed: Side = Side.THEIRS
    count: "itertools.count[int]" = field(default_factory=itertools.count)

    def run(self, side: Side, tests: Sequence[str] = ()) -> Run:
        if side is not self.installed:
            self.environment.put(side)
            self.installed = side
        what = f"{len(tests)} tests and their modules" if tests else "all tests"
        print(f"{self.suite.name}: {what}, with {side.value} ...", flush=True)
        report = self.reports / f"{next(self.count)}-{side.name.lower()}"
        done = run(self.suite, self.source, self.environment, report, tests)
        print(f"{self.suite.name}: {len(done.recorded.outcomes)} tests, {done.seconds:.1f} s")
        return done

    def repeat(self, side: Side, tests: Sequence[str] = ()) -> Recorded:
        return self.run(side, tests).recorded


def try_suite(suite: Suite, folder: Path) -> Row:
    """Download a suite and run it on both sides. All its files are in the new ``folder``."""
    ours = version_of_ours()
    source = fetch(suite.requirement, suite.project, folder / "source", suite.archive)
    print(f"{suite.name}: {suite.project} {source.version}, Python {platform.python_version()}")
    row = Row(
        suite=suite.name,
        project=suite.project,
        version=source.version,
        python=platform.python_version(),
        date=datetime.date.today().isoformat(),
        reference=REFERENCE,
        ours=ours,
    )
    if suite.source_may_lack_tests and not suite.has_tests(source.folder):
        return row
    environment = Environment.create(folder / "environment", *_requirements(suite, source))
    if suite.alone:
        environment.pip("install", "--no-deps", *suite.alone.split())
    reports = folder / "reports"
    reports.mkdir()
    trial = Trial(suite, source.folder, environment, reports)
    with suite.beside(source.folder, reports) if suite.beside else contextlib.nullcontext():
        return _compared(trial, row)


def _requirements(suite: Suite, source: Source) -> list[str]:
    needs = f"{suite.runner.needs} {suite.needs}".split()
    return [f"{suite.project}{suite.extras}=={source.version}", *needs]


def _compared(trial: Trial, row: Row) -> Row:
    theirs, ours = trial.run(Side.THEIRS), trial.run(Side.OURS)
    found = compare(theirs.recorded, ours.recorded)
    differences = judge(found.differing, theirs.recorded, ours.recorded, trial.repeat)
    expected = trial.suite.expected
    told = {verdict: [d for d in differences if d.verdict is verdict] for verdict in Verdict}
    results = Results(
        passed=len(found.passed),
        skipped=len(found.skipped),
        failed_on_both=found.failed,
        worse=tuple(d.test for d in told[Verdict.WORSE] if d.test not in expected),
        better=tuple(each.test for each in told[Verdict.BETTER]),
        flaky=tuple(map(Flaky.of, told[Verdict.FLAKY])),
        seconds_theirs=round(theirs.seconds, 1),
        seconds_ours=round(ours.seconds, 1),
        expected=tuple(
            (d.test, expected[d.test]) for d in told[Verdict.WORSE] if d.test in expected
        ),
    )
    return row.with_results(results)
