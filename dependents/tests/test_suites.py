"""The commands of the suites, and the selection of Django's labels."""

import re
from pathlib import Path

import pytest

from dependents.__main__ import suite_named
from dependents.catalogue import SUITES
from dependents.django_labels import labels_that_touch_asgiref
from dependents.errors import SuiteError
from dependents.redis_server import redis_beside
from dependents.source import _download, version_of
from dependents.suite import DjangoItself, DjangoTests, Pytest, Suite

TOX_INI = Path(__file__).resolve().parent.parent.parent / "tox.ini"


def test_tox_names_every_suite():
    names = ",".join(suite.name for suite in SUITES)
    text = TOX_INI.read_text("utf-8")
    assert f"dependents = wheels, dependents-{{{names}}}\n" in text
    assert f"-{{{names}}}]\n" in text


@pytest.mark.parametrize("prefix", ["dependents-", "py311-dependents-"])
def test_an_environment_is_named_after_its_suite(prefix):
    assert suite_named(f"{prefix}channels-redis").project == "channels-redis"


def test_an_unknown_suite_is_told_with_those_that_there_are():
    with pytest.raises(SystemExit, match="no suite is named flusk; there are django52, django,"):
        suite_named("dependents-flusk")


def test_pytest_repeats_the_files_of_tests():
    arguments = Pytest().arguments(Path(), ["tests/test_a.py::test_1", "tests/test_a.py::A::test"])
    assert arguments[-1] == "tests/test_a.py"
    assert "tests" not in arguments


@pytest.mark.parametrize("runner", [DjangoTests(), DjangoItself()])
def test_unittest_repeats_the_modules_of_tests(runner):
    ids = ["auth_tests.test_basic.BasicTest.test_user", "setUpClass (i18n.tests.Translations)"]
    assert runner.arguments(Path(), ids)[-2:] == ["auth_tests.test_basic", "i18n.tests"]


def test_a_module_that_cannot_be_told_repeats_all_tests():
    ids = ["a.tests.A.test", "unittest.loader._FailedTest.b"]
    assert DjangoTests().arguments(Path(), ids)[-1] == "tests"


def test_labels_are_the_known_ones_and_those_that_mention_asgiref(tmp_path):
    texts = {
        "signals": "",  # from the fixed list
        "new_one": "async def test(): pass",
        "newer": "from asgiref.sync import async_to_sync",
        "forms": "import asgirefs",
    }
    for name, text in texts.items():
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "tests.py").write_text("", "utf-8")
        (tmp_path / name / "deep" / "tests.py").write_text(text, "utf-8")
    assert labels_that_touch_asgiref(tmp_path) == ["new_one", "newer", "signals"]


def test_a_source_archive_tells_its_version():
    assert version_of("opentelemetry_instrumentation_asgi-0.66b2.tar.gz") == "0.66b2"
    with pytest.raises(SuiteError, match="no source archive"):
        version_of("flask-3.1.3-py3-none-any.whl")


def test_an_archive_that_cannot_be_fetched_is_told_with_its_address(tmp_path):
    address = (tmp_path / "missing-1.0.tar.gz").as_uri()
    with pytest.raises(SuiteError, match=re.escape(address)):
        _download(address, tmp_path / "to")


def test_an_expected_failure_has_a_suite_with_an_adapter_and_a_reason():
    for suite in SUITES:
        assert suite.adapter or not suite.expected
        assert all(suite.expected.values())


def test_a_source_without_tests_is_noticed(tmp_path):
    suite = Suite("channels", "channels", Pytest())
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "testing.py").touch()
    assert not suite.has_tests(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_layers.py").touch()
    assert suite.has_tests(tmp_path)


def test_a_missing_redis_server_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(SuiteError, match=r"^no redis-server .* install it"),
        redis_beside(tmp_path, tmp_path),
    ):
        pass
