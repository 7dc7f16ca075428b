"""The unchanged test suite of asgiref 3.13.0 passes on our wheels.

The suite is downloaded for each run and never stored here. Its ``asgiref/`` folder is removed
before the run, so its tests can only import our modules.
"""

import hashlib
import shutil
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import reference
from environments import Environment

PASSING = 122
EXPECTED_FAILURES = {
    "test_sync_to_async_with_blocker_thread_sensitive"
}  # xfail in the suite itself
SKIPPED_FILES = {"test_benchmark_local"}  # needs a benchmark plugin

# Tests that a better design cannot pass because they assert private state: test id, and the reason.
EXCLUDED: dict[str, str] = {}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The unpacked sdist without the package."""
    download = Environment(
        Path(sys.prefix)
    ).pip  # has setuptools, which the sdist's metadata requires
    download(
        *("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"),
        *("--dest", tmp_path, f"asgiref=={reference.VERSION}"),
    )
    archive = tmp_path / reference.SDIST
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == reference.SDIST_SHA256
    with tarfile.open(archive) as sdist:
        if hasattr(tarfile, "data_filter"):  # 3.11.4 and later
            sdist.extractall(tmp_path, filter="data")
        else:
            sdist.extractall(tmp_path)
    folder = archive.with_name(archive.name.removesuffix(".tar.gz"))
    shutil.rmtree(folder / "asgiref")
    return folder


def outcomes(report: Path) -> dict[str, list[str]]:
    """The names of the tests, by outcome, from a JUnit report."""
    found: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": [], "xfailed": []}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["name"]
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found["failed"].append(name)
        elif skip is None:
            found["passed"].append(name)
        else:
            # A file that skips itself appears as a case without a class name, with an untyped skip.
            found["xfailed" if skip.get("type") == "pytest.xfail" else "skipped"].append(name)
    return found


def test_asgirefs_own_tests_pass_on_our_wheels(
    suite: Path, fresh_environment: Environment, tmp_path: Path
) -> None:
    fresh_environment.pip("install", "pytest", "pytest-asyncio", "pytest-timeout", "packaging")
    fresh_environment.install_ours("asgiref")
    report = tmp_path / "report.xml"

    run = fresh_environment.attempt(
        *("-I", "-m", "pytest", "tests", "--timeout=120", "-p", "no:cacheprovider", "-ra"),
        *(f"--junitxml={report}", *(f"--deselect={test}" for test in EXCLUDED)),
        cwd=suite,
    )

    found = outcomes(report)
    assert found["failed"] == [], run.stdout
    assert set(found["xfailed"]) == EXPECTED_FAILURES
    assert {name.rpartition(".")[2] for name in found["skipped"]} == SKIPPED_FILES
    assert len(found["passed"]) == PASSING - len(EXCLUDED)
