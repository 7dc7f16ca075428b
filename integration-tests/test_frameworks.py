"""Projects that depend on asgiref work with our distributions in its place.

Each project has a separate environment. Our distributions are installed first and satisfy the
project's requirements; each test checks at the end that no install replaced them.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from distributions import META
from environments import Environment

PROJECTS = Path(__file__).parent / "projects"

DJANGO_RELEASES = {"LTS": "Django>=5.2,<5.3"}
if sys.version_info >= (3, 12):  # required by the current Django; on 3.11 the LTS is the newest
    DJANGO_RELEASES["current"] = "Django>=6"
HELPED_FRAMEWORKS = ("starlette", "Django", "channels", "quart")


def answers(environment: Environment, project: str, *requirements: str) -> Any:
    """Install the project's requirements over ours, and return the project's output."""
    environment.install_ours("asgiref")
    environment.pip("install", *requirements)

    seen = json.loads(environment.run("-I", PROJECTS / project))

    environment.pip("check")
    ours = META.wheel.name.split("-")[1]
    assert environment.versions()["asgiref"] == ours
    return seen


@pytest.mark.parametrize("release", DJANGO_RELEASES)
def test_django_answers_through_asgi_and_wsgi(release: str, fresh_environment: Environment) -> None:
    seen = answers(fresh_environment, "django_site.py", DJANGO_RELEASES[release])

    passed = {"status": 200, "sync": "passed", "async": "passed"}
    sync_body = {"view": "sync", "types": 4, "asked": "ü"}
    async_body = {"view": "async", "types": 4, "asked": "ü", "same_thread": True}
    for handler in ("asgi", "wsgi"):
        assert seen[handler]["/sync"] == {**passed, "body": sync_body}
        assert seen[handler]["/async"] == {**passed, "body": async_body}
        assert seen[handler]["/failing"]["status"] == 500
    assert seen["at_once"] == 30


@pytest.mark.parametrize("release", DJANGO_RELEASES)
def test_django_transactions_and_persistent_connections(
    release: str, fresh_environment: Environment
) -> None:
    seen = answers(fresh_environment, "django_database.py", DJANGO_RELEASES[release])

    kept, undone = [True, 1], [True, 0]
    assert seen["async_to_sync"] == [kept, undone]
    assert seen["asgi"] == [kept, undone]
    assert seen["cancelled"] == [True, 0]
    assert seen["tests"] == [2, 0]
    opened, _ = seen["new_threads"]
    assert opened == 40
    opened, threads = seen["reused_threads"]
    assert opened == threads <= 4


def test_channels_consumers_converse_and_daphne_imports(fresh_environment: Environment) -> None:
    seen = answers(fresh_environment, "channels_site.py", "channels", "daphne")

    assert seen == {
        "echo": [True, "HELLO"],
        "room": [["to all"] * 3, [True] * 3],
        "daphne": "daphne.server",
    }


def test_channels_communicators_behave_as_its_users_expect(
    fresh_environment: Environment, tmp_path: Path
) -> None:
    """Its ``testing`` module subclasses ours; these tests resemble its own tests."""
    fresh_environment.install_ours("asgiref")
    fresh_environment.pip(
        *("install", "channels", "daphne", "pytest", "pytest-asyncio", "pytest-timeout")
    )
    shutil.copy(PROJECTS / "channels_communicators.py", tmp_path / "test_channels.py")

    run = fresh_environment.attempt(
        *("-I", "-W", "error", "-m", "pytest", "--timeout=60", "-p", "no:cacheprovider"),
        *("-o", "asyncio_default_fixture_loop_scope=function", "-q", "test_channels.py"),
        cwd=tmp_path,
    )

    assert run.returncode == 0, run.stdout
    assert re.search(r"^\d\d passed in", run.stdout, re.MULTILINE)


def test_four_frameworks_answer_through_the_testing_helpers(
    fresh_environment: Environment,
) -> None:
    seen = answers(fresh_environment, "helped_frameworks.py", *HELPED_FRAMEWORKS)

    def asked(name: str) -> list[object]:
        return [200, "application/json", {"name": name, "path": "/café", "q": "ü"}]

    streams = {"whole": "ONE TWO", "streamed": ["ONE", "TWO"]}
    talks = {"converse": ["a", "HELLO"], "denied": [402, "pay first", ""]}
    django = {"lifespan": False, "ask": asked("django"), "whole": "ONETWO"}
    assert seen["starlette"] == {
        **{"lifespan": True, "ask": asked("starlette"), "endless": ["tick"] * 3},
        **streams,
        **talks,
    }
    assert seen["django"] == django
    assert seen["channels"] == {**django, **talks, "denied": [403, "", "pay first"]}
    assert seen["quart"] == {"lifespan": True, "ask": asked("quart"), **streams, **talks}
    assert seen["log"] == [
        *("starlette up", "starlette background", "starlette down"),
        *("quart up", "quart down"),
    ]


def test_channels_worker_receives_everything_and_survives_failing_consumers(
    fresh_environment: Environment,
) -> None:
    seen = answers(fresh_environment, "channels_worker.py", "channels", "daphne")

    everything = ["first", "second", "fail", "last"]
    assert seen == {
        "done": {"async": everything, "sync": everything},
        "consumers": {"async": 2, "sync": 2},
    }


def test_flask_runs_async_views_and_opentelemetry_wraps_applications(
    fresh_environment: Environment,
) -> None:
    seen = answers(
        fresh_environment, "flask_site.py", "flask[async]", "opentelemetry-instrumentation-asgi"
    )

    assert seen == {
        "greeting": [200, {"hello": "world", "before": "async", "asked": "1"}],
        "failure": [418, {"error": "on purpose"}],
        "traced": [200, {"hello": "tracer", "before": "async", "asked": "2"}],
    }
