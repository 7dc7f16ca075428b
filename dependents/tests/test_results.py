"""The stored rows, and the page that is made from them."""

import json
import threading

import pytest

from dependents.__main__ import report
from dependents.results import Flaky, Results, Row, only_writer, put_row, read_rows
from dependents.table import COLUMNS, cells, page

RESULTS = Results(
    passed=7,
    skipped=2,
    failed_on_both=("both",),
    worse=(),
    better=(),
    flaky=(Flaky("shaky", ("passed",) * 6, ("failed", *["passed"] * 5)),),
    seconds_theirs=1.5,
    seconds_ours=1.25,
)


def row(suite="flask", python="3.13.0", results=RESULTS, **changes):
    values = {"version": "3.1", "date": "2026-01-31", "reference": "3.13.0", "ours": "3.13.100"}
    return Row(suite=suite, project="Flask", python=python, results=results, **values | changes)


def test_a_row_replaces_that_of_the_same_suite_and_python(tmp_path):
    path = tmp_path / "results.json"
    put_row(path, row(version="3.0"))
    put_row(path, row(python="3.11.7"))
    put_row(path, row(suite="daphne", results=None))
    before = read_rows(path)

    put_row(path, row(python="3.13.1"))

    after = read_rows(path)
    assert [each.key for each in after] == [
        ("daphne", "3.13"),
        ("flask", "3.11"),
        ("flask", "3.13"),
    ]
    assert after[:2] == before[:2]
    assert after[2] == row(python="3.13.1")


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    put_row(path, row())
    put_row(path, row("channels", results=None))
    assert read_rows(path) == [row("channels", results=None), row()]
    assert json.loads(path.read_text("utf-8"))[1]["results"]["failed_on_both"] == ["both"]


def test_the_page_has_a_line_a_row_and_names_what_differs():
    worse = Results(3, 0, (), ("lost", "gone"), ("won",), (), 1.0, 1.0)
    text = page([row(), row("sentry", results=worse)])
    assert "| Flask | 3.1 | 3.13.0 | 7 | 1 | 2 | 0 | 0 | 1 | 1.5 | 1.2 |" in text
    assert "only theirs: `lost`" in text
    assert "only theirs: `gone`" in text
    assert "only ours: `won`" in text
    assert "- Flask 3.1, Python 3.13.0: `both`" in text
    assert "`shaky` passed 6 of 6 times with theirs, 5 of 6 times with ours" in text


def test_a_source_without_tests_is_not_shown_as_passed():
    shown = cells(row(results=None))
    assert len(shown) == len(COLUMNS)
    assert shown[3:11] == ["no tests in its source", *[""] * 7]


def test_only_a_test_that_passes_there_and_not_here_fails_the_run(capsys):
    assert report(row()) == 0
    assert "flaky: shaky" in capsys.readouterr().out
    worse = Results(3, 0, (), ("lost",), (), (), 1.0, 1.0)
    assert report(row(results=worse)) == 1
    assert "passes with asgiref 3.13.0 and not with ours: lost" in capsys.readouterr().out
    better = Results(3, 0, (), (), ("won",), (), 1.0, 1.0)
    assert report(row(results=better)) == 0
    assert report(row(results=None)) == 0


def test_who_writes_waits_for_who_writes_before(tmp_path):
    pytest.importorskip("fcntl")
    order = []
    second = threading.Thread(target=lambda: write("second"))

    def write(name):
        with only_writer(tmp_path):
            order.append(name)
            put_row(tmp_path / "results.json", row(name))

    with only_writer(tmp_path):
        second.start()
        order.append("first")
        put_row(tmp_path / "results.json", row("first"))
        order.append("first is done")
    second.join()
    assert order == ["first", "first is done", "second"]
    assert [each.suite for each in read_rows(tmp_path / "results.json")] == ["first", "second"]
