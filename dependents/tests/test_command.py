"""The real command runs planted suites, each as the archive of a small project on the index."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from dependents import __main__, environment
from tools.install_dist import DIST

SUITE = """
import os, pytest, sys
from importlib.metadata import version
from pathlib import Path
OURS = version("asgiref") != "3.13.0"
RUN = len(list(Path().glob("run*")))
Path(f"run{RUN}").touch()

def test_passes(): assert os.environ["PLANTED"]
def test_fails(): assert False
def test_skips(): pytest.skip()
@pytest.mark.xfail
def test_fails_as_expected(): assert False
class TestGroup:
    @pytest.mark.parametrize("value", ["a.b::c"])
    def test_only_theirs(self, value): assert not OURS
def test_only_theirs_among_all(): assert not (OURS and hasattr(sys, "all_tests"))
def test_only_ours(): assert OURS
def test_on_purpose(): assert not OURS
def test_fails_once_with_ours(): assert RUN != 1
def test_varies_with_theirs(): assert not OURS and RUN != 2
"""
UNITTEST_SUITE = """
import asgiref.sync, os, unittest, xmlrunner

class Case(unittest.TestCase):
    def test_passes(self): pass
    def test_only_theirs(self):
        for number in range(2):
            with self.subTest(number=number):
                self.assertTrue(number or not hasattr(asgiref.sync, "__version__"))
                self.skipTest("no")
class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError
    def test_is_never_reached(self): pass

if __name__ == "__main__":
    with open(os.environ["DEPENDENTS_REPORT"], "wb") as report:
        unittest.main(None, testRunner=xmlrunner.XMLTestRunner(output=report))
"""
ADD_ANOTHER = f'"$1" -m pip install -q --no-index --find-links {DIST} asgiref-local'
HOLD = "import fcntl, time; f = open('tests/test_it.py'); fcntl.flock(f, 2); time.sleep(600)"


@pytest.fixture
def run_command(tmp_path, monkeypatch):
    """Return a function that runs the command on a suite, and returns its status and its row."""
    for name in ("PROJECTS", "RESULTS", "PAGE"):
        monkeypatch.setattr(__main__, name, tmp_path / name)
    (tmp_path / "RESULTS").write_text("[]", "utf-8")

    def run(entry="", suite="planted", **modules):
        text = f'[planted]\nproject = "iniconfig"\n{entry}'
        (tmp_path / "PROJECTS").write_text(text, "utf-8")
        (tmp_path / "source" / "tests").mkdir(parents=True, exist_ok=True)
        for name, text in modules.items():
            (tmp_path / "source" / "tests" / f"{name}.py").write_text(text, "utf-8")
        archive = shutil.make_archive(tmp_path / "iniconfig-2.0.0", "gztar", tmp_path, "source")
        own = None if "archive = " in entry else Path(archive)
        status = __main__.main(f"py311-dependents-{suite}", tmp_path / "suite", own)
        [row] = json.loads((tmp_path / "RESULTS").read_text("utf-8"))
        return status, row

    return run


def test_a_test_that_passes_only_with_asgiref_fails_the_run(run_command, tmp_path, capsys):
    entry = """
    before = "export PLANTED=yes; sleep 600 &"
    known = {"tests/test_it.py::test_on_purpose" = "a reason"}
    """
    other = "import sys; sys.all_tests = True\ndef test_passes(): pass"
    status, row = run_command(entry, test_it=SUITE, test_broken="import no", test_other=other)
    test = "tests/test_it.py::"
    theirs = [f"{test}TestGroup::test_only_theirs[a.b::c]", f"{test}test_only_theirs_among_all"]
    assert (status, row["version"], row["passed"], row["skipped"]) == (1, "2.0.0", 3, 1)
    assert row["failed"] == ["tests/test_broken.py", f"{test}test_fails"]
    assert (row["worse"], row["better"]) == (theirs, [f"{test}test_only_ours"])
    assert row["known"] == {f"{test}test_on_purpose": "a reason"}
    once = "once_with_ours` passed 6 of 6 times with theirs, 6 of 7 times with ours"
    varies = "varies_with_theirs` passed 5 of 6 times with theirs, 0 of 7 times with ours"
    page, printed = (tmp_path / "PAGE").read_text("utf-8"), capsys.readouterr().out
    assert f"| iniconfig | 2.0.0 | {row['python']} | 3 | 2 | 1 | 2 | 1 | 2 |" in page
    lines = (*theirs, "only ours: `", "purpose`: a reason", once, varies, "_fails`\n")
    assert [each for each in lines if each not in page or each not in printed] == []


def test_a_suite_of_unittest_from_its_repository_is_compared_too(run_command, tmp_path):
    entry = f"""
    release = "<2.0.1"
    archive = "{tmp_path.as_uri()}/iniconfig-{{version}}.tar.gz"
    command = ["tests/test_it.py"]
    targets = ["test_it"]
    """
    status, row = run_command(entry, test_it=UNITTEST_SUITE)
    assert (status, row["version"], row["passed"]) == (1, "2.0.0", 1)
    assert row["failed"] == ["test_it.Broken.setUpClass"]
    assert row["worse"] == ["test_it.Case.test_only_theirs"]


def test_an_unknown_suite_and_an_existing_folder_are_refused(run_command, tmp_path):
    with pytest.raises(SystemExit, match="no suite is named flusk; there are planted"):
        run_command(suite="flusk")
    (tmp_path / "suite").mkdir()
    with pytest.raises(SystemExit, match=r"File exists: .*suite"):
        run_command()


@pytest.mark.parametrize(
    ("entry", "suite", "message"),
    [
        ("", "import os; os._exit(0)", "ended with 0 and without results"),
        ("", "import pytest\ndef test(): pytest.exit('bad luck', 3)", r"ended with 3[^$]*bad luck"),
        ("before = 'echo install redis; exit 3'", "", r"ended with 3[^$]*install redis"),
        ("known = {'tests/test_it.py::test_it' = ''}", "def test_it(): pass", "from `known`.*_it"),
        ("install = ['asgiref<3.13.50']", "def test_it(): pass", r"asgiref<3\.13\.50"),
        ("archive = 'file:///{version}'", "", r"cannot fetch file:///\d.*: pass --archive ini"),
        (f"before = '{ADD_ANOTHER}'", "def test_it(): pass", "ran with .*asgiref-local"),
    ],
)
def test_a_run_that_proves_nothing_ends_with_its_reason(run_command, entry, suite, message):
    with pytest.raises(SystemExit, match=message):
        run_command(entry, test_it=suite)


def test_a_suite_that_hangs_is_ended_with_all_that_it_started(run_command, monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "WHOLE_RUN_SECONDS", 1)
    with pytest.raises(SystemExit, match="still ran after 1 s"):
        run_command(f"before = '''\"$1\" -c \"{HOLD}\" & wait'''", test_it="")
    [held] = (tmp_path / "suite").rglob("test_it.py")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the holder's death frees it, or this hangs
