"""The stored rows, and the page that is made from them."""

import threading
from dataclasses import replace

import pytest

from dependents.__main__ import report
from dependents.page import COLUMNS, cells, page
from dependents.results import Row, put_row, read_rows

ROW = Row(
    "flask", "Flask", "3.1", "3.13.0", "2026-01-31", "3.13.0", "3.13.100",
    passed=7,
    skipped=2,
    failed=["both"],
    flaky={"shaky": "passed 6 of 6 times with theirs, 5 of 6 times with ours"},
    seconds_theirs=1.5,
    seconds_ours=1.25,
)  # fmt: skip
NOT_RUN = Row(
    "adrf", "adrf", "0.1", "3.13.0", "2026-01-31", "3.13.0", "3.13.100", not_run="no network"
)


@pytest.fixture
def put(tmp_path):
    """Return a function that puts a row, and returns all rows."""
    results = tmp_path / "results.json"
    results.write_text("[]", "utf-8")

    def put_it(row, render=lambda rows: ""):
        put_row(row, results, tmp_path / "page.md", render)
        return read_rows(results)

    return put_it


def test_a_row_replaces_that_of_the_same_suite_and_python(put):
    put(replace(ROW, version="3.0"))
    put(replace(ROW, python="3.11.7"))
    put(NOT_RUN)
    rows = put(replace(ROW, python="3.13.1"))
    assert rows == [NOT_RUN, replace(ROW, python="3.11.7"), replace(ROW, python="3.13.1")]


def test_a_smoke_test_replaces_another_one_but_not_the_results_of_the_suite(put):
    smoke = replace(ROW, not_run="no network", passed=1)
    put(smoke)
    assert put(replace(smoke, passed=2)) == [replace(smoke, passed=2)]
    put(ROW)
    assert put(smoke) == [ROW]


def test_the_page_has_a_line_per_row_and_names_the_tests_that_differ():
    differs = replace(ROW, worse=["lost", "gone"], better=["won"], known={"t": "trio"})
    text = page([ROW, differs, NOT_RUN])
    assert "| Flask | 3.1 | 3.13.0 | 7 | 1 | 2 | 0 | 0 | 1 | 1.5 | 1.2 |" in text
    assert "| 7 | 1 | 2 | 2 | 1 | 1 |" in text
    assert "only theirs: `lost`" in text
    assert "only theirs: `gone`" in text
    assert "only ours: `won`" in text
    assert "- Flask 3.1, Python 3.13.0: `both`" in text
    assert "- Flask 3.1, Python 3.13.0: `t`: trio" in text
    assert "`shaky` passed 6 of 6 times with theirs, 5 of 6 times with ours" in text
    assert "- adrf 0.1, Python 3.13.0: no network" in text


def test_a_smoke_test_is_not_shown_as_the_suite(capsys):
    assert len(cells(NOT_RUN)) == len(COLUMNS)
    assert cells(NOT_RUN)[0] == "adrf, smoke test"
    assert report(NOT_RUN) == 0
    printed = capsys.readouterr().out
    assert "project: adrf, smoke test" in printed
    assert "Suites that could not run" in printed
    assert "- adrf 0.1, Python 3.13.0: no network" in printed


def test_only_a_test_that_passes_only_with_theirs_fails_the_run(capsys):
    assert report(ROW) == 0
    assert "flaky: `shaky`" in capsys.readouterr().out
    assert report(replace(ROW, better=["won"], known={"t": "trio"})) == 0
    assert report(replace(ROW, worse=["lost"])) == 1
    assert "only theirs: `lost`" in capsys.readouterr().out


def test_a_run_that_writes_keeps_others_from_writing_until_the_page_is_done(put, tmp_path):
    fcntl = pytest.importorskip("fcntl")

    def render(rows):
        with (tmp_path / "results.json").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ""

    assert put(ROW, render) == [ROW]


def test_two_runs_that_end_at_once_both_keep_their_rows(put, tmp_path):
    other = threading.Thread(target=put, args=(NOT_RUN,))

    def render(rows):
        other.start()
        return ""

    put_row(ROW, tmp_path / "results.json", tmp_path / "page.md", render)
    other.join()
    assert put(ROW) == [NOT_RUN, ROW]
