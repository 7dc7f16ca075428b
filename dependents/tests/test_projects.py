"""The entries of the data file, their commands, and where their tests come from."""

import re
import tarfile
from pathlib import Path

import pytest

from dependents.__main__ import main, project_named
from dependents.projects import SMOKE_TESTS, Project, SuiteError, read_projects
from dependents.source import NoTests, fetch
from dependents.trial import version_of

TOX_INI = Path(__file__).resolve().parent.parent.parent / "tox.ini"
DJANGO = Project("django", "Django", command=["runtests.py"], targets=["tests"])


def test_tox_has_an_environment_for_every_project():
    names = ",".join(read_projects())
    text = TOX_INI.read_text("utf-8")
    assert f"dependents = wheels, dependents-{{{names}}}\n" in text
    assert f"-{{{names}}}]\n" in text


@pytest.mark.parametrize("prefix", ["dependents-", "py311-dependents-"])
def test_an_environment_is_named_after_its_project(prefix):
    assert project_named(f"{prefix}channels-redis").project == "channels-redis"


def test_the_message_about_an_unknown_project_lists_all_projects():
    with pytest.raises(SystemExit, match="no suite is named flusk; there are django52, django,"):
        project_named("dependents-flusk")


def test_an_existing_folder_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="name a folder that does not exist"):
        main("dependents-flask", str(tmp_path))


def test_an_entry_takes_the_fields_that_it_lacks_from_another(tmp_path):
    data = tmp_path / "projects.toml"
    data.write_text('[a]\nproject="A"\nfolder="b"\n[c]\nlike="a"\nproject="C"\n', "utf-8")
    assert read_projects(data)["c"] == Project("c", "C", folder="b")


def test_a_project_whose_tests_may_be_out_of_reach_has_a_smoke_test():
    for project in read_projects().values():
        [test] = project.with_smoke_test().targets
        assert (SMOKE_TESTS / test).exists() == bool(project.archive)


def test_every_known_difference_has_an_adapter_and_a_reason():
    for project in read_projects().values():
        assert project.adapter or not project.known
        assert all(project.known.values())


def test_pytest_repeats_the_files_of_tests():
    tests = ["tests/test_a.py::test_1", "tests/test_a.py::A::test", "tests/test_b.py"]
    arguments = Project("a", "a").arguments(Path(), Path("report.xml"), tests)
    assert arguments[-2:] == ["tests/test_a.py", "tests/test_b.py"]
    assert "tests" not in arguments


def test_unittest_repeats_the_modules_of_tests():
    tests = ["auth_tests.test_basic.BasicTest.test_user", "i18n.tests.Translations.setUpClass"]
    arguments = DJANGO.arguments(Path(), Path("report.xml"), tests)
    assert arguments == ["runtests.py", "auth_tests.test_basic", "i18n.tests"]


def test_a_module_that_unittest_does_not_name_repeats_all_tests():
    tests = ["a.tests.A.test", "unittest.loader._FailedTest.b"]
    assert DJANGO.arguments(Path(), Path("report.xml"), tests) == ["runtests.py", "tests"]


def test_django_runs_the_listed_folders_and_those_that_mention_asgiref(tmp_path):
    texts = {
        "signals": "",
        "new_one": "async def test(): pass",
        "newer": "from asgiref.sync import async_to_sync",
        "forms": "import asgirefs",
    }
    for name, text in texts.items():
        (tmp_path / "tests" / name / "deep").mkdir(parents=True)
        (tmp_path / "tests" / name / "tests.py").write_text("", "utf-8")
        (tmp_path / "tests" / name / "deep" / "tests.py").write_text(text, "utf-8")
    _, *labels = read_projects()["django"].arguments(tmp_path, Path("report.xml"))
    assert labels[-3:] == ["new_one", "newer", "signals"]


def test_the_name_of_an_archive_contains_its_version():
    assert version_of(Path("opentelemetry_instrumentation_asgi-0.66b2.tar.gz")) == "0.66b2"
    with pytest.raises(SuiteError, match=r"rename main\.tar\.gz"):
        version_of(Path("main.tar.gz"))


@pytest.fixture
def archive(tmp_path):
    """Return a function that packs an empty file into a source archive, which it returns."""

    def pack(name):
        file = tmp_path / "project-1.0" / name
        file.parent.mkdir(parents=True)
        file.touch()
        with tarfile.open(tmp_path / "project-1.0.tar.gz", "w:gz") as packed:
            packed.add(file.parent.parent, "project-1.0")
        return tmp_path / "project-1.0.tar.gz"

    return pack


@pytest.mark.parametrize("own", [True, False], ids=["the user's archive", "a URL"])
def test_tests_come_from_another_archive_if_the_index_lacks_them(tmp_path, archive, own):
    packed = archive("tests/test_layers.py")
    url = packed.with_name("project-{version}.tar.gz").as_uri().replace("%7B", "{")
    project = Project("a", "a", archive=url.replace("%7D", "}"))
    folder = fetch(project, "1.0", None, tmp_path / "source", packed if own else None)
    assert (folder / "tests" / "test_layers.py").exists()


def test_a_source_archive_without_tests_is_noticed(tmp_path, archive):
    packed = archive("channels/testing.py")
    with pytest.raises(SuiteError, match="no tests in the source of a"):
        fetch(Project("a", "a"), "1.0", None, tmp_path / "source", packed)


def test_an_archive_that_cannot_be_fetched_is_named(tmp_path):
    url = (tmp_path / "missing-1.0.tar.gz").as_uri()
    with pytest.raises(NoTests, match=re.escape(url)):
        fetch(Project("a", "a", archive=url), "1.0", None, tmp_path / "source", None)
