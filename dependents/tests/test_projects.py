"""The entries of projects.toml, and the rows of several runs."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dependents.__main__ import PROJECTS, ROOT
from dependents.projects import read_projects
from dependents.results import Row, put_row


def test_tox_has_an_environment_for_every_project():
    names = ",".join(read_projects(PROJECTS))
    text = (ROOT / "tox.ini").read_text("utf-8")
    assert f"dependents = wheels, dependents-{{{names}}}\n" in text
    assert f"-{{{names}}}]\n" in text


def test_django_runs_the_listed_folders_and_those_that_mention_asgiref(tmp_path):
    code = {"signals": "", "new": "async def test(): pass", "forms": "import asgirefs"}
    for name, text in code.items():
        (tmp_path / "tests" / name / "deep").mkdir(parents=True)
        (tmp_path / "tests" / name / "deep" / "tests.py").write_text(text, "utf-8")
    arguments = read_projects(PROJECTS)["django"].arguments(tmp_path, Path("report.xml"))
    assert arguments[-2:] == ["new", "signals"]


def test_runs_that_end_at_once_replace_only_their_own_rows(tmp_path):
    (tmp_path / "results").write_text("[]", "utf-8")

    def put(suite, python):
        put_row(Row(suite, suite, "1", python, "", "", ""), tmp_path / "results", tmp_path / "page")

    put("a", "3.13.0")
    with ThreadPoolExecutor() as pool:
        list(pool.map(put, "aabcd", ["3.13.1", "3.11.7", *["3.13.0"] * 3]))
    rows = json.loads((tmp_path / "results").read_text("utf-8"))
    keys = " ".join(row["suite"] + row["python"] for row in rows)
    assert keys == "a3.11.7 a3.13.1 b3.13.0 c3.13.0 d3.13.0"
