"""``--check`` finds faults: each test breaks one thing and expects the complaint."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import own_postgres
import pytest
from app import check, guestbook, main
from app.bot import Bot
from app.game import GuessingGame
from app.options import Settings

from asgiref.wsgi import WsgiToAsgi


@pytest.fixture
def postgres() -> None:
    """Skip the test if there is no PostgreSQL; fail in CI, where skips go unread."""
    if own_postgres.find_binaries() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no PostgreSQL")


@pytest.fixture
def complaints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that breaks a part, runs steps of the check, and returns its complaints."""

    def run(*steps: Any, broken: tuple[str, Any] | None = None, **more: Any) -> list[str]:
        if broken is not None:
            monkeypatch.setattr(f"app.{broken[0]}", broken[1])
            monkeypatch.setattr(check, "SECONDS", 4.0)
        lines: list[str] = []
        code = check.run(Settings(tmp_path, tmp_path, port=0, **more), lines.append, steps)
        found = [line[6:] for line in lines if line.startswith("FAIL")]
        assert code == bool(found)
        return found

    return run


def test_an_intact_demo_passes_and_leaves_no_thread(complaints: Any) -> None:
    # The environment of the tests decides whether the distributions come from wheels.
    assert complaints(*(step for step in check.STEPS if step is not check.own_wheels)) == []
    assert {"uvicorn", "bot"}.isdisjoint(thread.name for thread in threading.enumerate())


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_killed_in_the_middle_costs_no_answer(workers: int, complaints: Any) -> None:
    assert complaints(*check.FLEET_STEPS, workers=workers) == []
    left = {thread.name for thread in threading.enumerate()}
    assert left.isdisjoint({"uvicorn", "bot", "fleet", "own-postgres"})


class HoardingAdapter(WsgiToAsgi):
    """Passes a request to the application only once it is complete."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        hoard = iter(messages)

        async def replay() -> Any:
            return next(hoard, None) or await receive()

        await super().__call__(scope, replay, send)


def damaged(mib: int, made_up: Any = guestbook.made_up) -> Iterator[bytes]:
    for number, block in enumerate(made_up(mib)):
        yield block[::-1] if number == 3 else block


def on_the_loop(function: Any) -> Any:
    async def call(*args: object) -> object:
        return function(*args)

    return call


def shared_game(self: Any, id: str, *args: Any, turn: Any = GuessingGame._turn) -> object:
    return turn(self, "all", *args)


async def forgetful(self: Any, scope: Any, message: Any, send: Any = Bot.application_send) -> None:
    if message["number"] != 7:
        await send(self, scope, message)


def everything(self: Any, after: int) -> object:
    return self._stored


async def full(self: Any, ready: Any) -> None:
    raise OSError("the disk is full")


async def full_later(self: Any, ready: Any) -> None:
    ready()
    raise OSError("the disk is full")


DISK = "the demo itself: bot failed: OSError: the disk is full"
LOOPS = [check.page, check.chat, check.threads_and_loops]
NO_PYTHON = SimpleNamespace(executable="false")
ENDED = "the demo itself: fleet failed: RuntimeError: worker-"


@pytest.mark.parametrize(
    ("target", "replacement", "steps", "complaint"),
    [
        ("guestbook.made_up", damaged, [check.download], "download: the bytes are wrong"),
        ("web.WsgiToAsgi", HoardingAdapter, [check.upload], "upload: the event stream did not"),
        ("guestbook.Flask.select_jinja_autoescape", print, [check.guestbook], "guestbook: the e"),
        ("web.refusal", lambda scope: "", [check.guards], "guards: GET / "),
        ("bridge.visitor", threading.local(), [check.bridge], "bridge: "),
        ("game.sync_to_async", on_the_loop, LOOPS, "threads and loops: they ran on the loops"),
        ("game.GuessingGame._turn", shared_game, [check.chat], "chat: guess "),
        ("bot.Bot.application_send", forgetful, [check.chat], "chat: TimeoutError"),
        ("trace.Trace.since", everything, [check.chat, check.event_stream], "event stream: event"),
        ("bot.Bot.work", full, [check.page], DISK),
        ("bot.Bot.work", full_later, [check.page], DISK),
        ("bot.Bot.application_send", forgetful, [check.kill_a_worker], "kill a worker: TimeoutE"),
        ("fleet.REPLACE_SECONDS", 1000, [check.kill_a_worker], "kill a worker: the event stream"),
        ("fleet.sys", NO_PYTHON, [check.workers_share], ENDED),
    ],
)
def test_a_broken_part_is_found(
    target: str, replacement: Any, steps: Any, complaint: str, complaints: Any, request: Any
) -> None:
    needs_workers = steps[-1] in (check.kill_a_worker, check.workers_share)
    if needs_workers:
        request.getfixturevalue("postgres")
    [found] = complaints(*steps, broken=(target, replacement), workers=2 if needs_workers else 0)
    assert found.startswith(complaint)


@pytest.mark.usefixtures("postgres")
def test_a_database_that_is_there_is_used_and_left_as_it_was(complaints: Any) -> None:
    async def schemas(url: str) -> list[Any]:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'asg%'")
        await connection.close()
        return list(rows)

    with own_postgres.own_postgres() as server:
        assert complaints(check.workers_share, workers=2, database=server.url) == []
        assert asyncio.run(schemas(server.url)) == []
        broken = ("fleet.sys", NO_PYTHON)
        assert complaints(check.page, broken=broken, workers=2, database=server.url) != []
        assert asyncio.run(schemas(server.url)) == []


def test_the_check_without_a_postgres_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check.run, "__defaults__", ((),))
    monkeypatch.setattr(own_postgres, "find_binaries", lambda: None)
    assert main.main(["--check", "--port", "0"], tmp_path) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("so the bot with workers was not visited.")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is no PostgreSQL on this machine (Debian"),
        (["--database", "postgresql://127.0.0.1:1/none"], "the database cannot be used"),
    ],
)
def test_a_missing_database_is_reported_in_one_sentence(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(own_postgres, "find_binaries", lambda: None)
    assert main.main(["--workers", "2", "--port", "0", *arguments], tmp_path) == 1
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert f"The demo cannot run: {reason}" in captured.err
