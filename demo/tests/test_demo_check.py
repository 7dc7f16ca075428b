"""``--check`` finds faults: each test breaks one thing and expects the complaint."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app import check, check_clients, storage, web
from app.demo import Demo, Settings
from app.game import Game, GuessingGame, Receive, Scope, Send
from app.storage import Storage

from asgiref.wsgi import WsgiToAsgi

# The environment of the tests decides whether the distributions come from wheels.
STEPS = [step for step in check.STEPS if step is not check.own_wheels]


class SharedGame(GuessingGame):
    """The mistake that scopes prevent: one game for all users."""

    _game = Game(42)

    def _new_game(self) -> Game:
        return self._game


def run_check(
    tmp_path: Path, steps: list[check.Step], game: type[GuessingGame] = GuessingGame
) -> tuple[int, list[str]]:
    lines: list[str] = []
    demo = Demo(Settings(data=tmp_path, port=0), game)
    return check.run(demo, lines.append, steps), lines


def complaints(lines: list[str]) -> list[str]:
    return [line.removeprefix("FAIL  ").partition(":")[0] for line in lines if "FAIL" in line]


def test_an_intact_demo_passes_and_leaves_no_thread(tmp_path: Path) -> None:
    code, lines = run_check(tmp_path, STEPS)
    assert (code, complaints(lines)) == (0, [])
    assert len([line for line in lines if line.startswith("ok ")]) == len(STEPS) + 1
    assert not {"uvicorn", "bot", "irc-server"} & {t.name for t in threading.enumerate()}


def test_scopes_that_mix_are_found(tmp_path: Path) -> None:
    code, lines = run_check(tmp_path, [check.index_page, check.two_users], SharedGame)
    assert (code, complaints(lines)) == (1, ["two users"])


def test_a_file_that_changes_on_its_way_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(self: Storage, name: str) -> Iterator[bytes]:
        for number, block in enumerate(intact(self, name)):
            yield block[::-1] if number == 3 else block

    intact = storage.Storage.read_file
    monkeypatch.setattr(storage.Storage, "read_file", damaged)
    code, lines = run_check(tmp_path, [check.stream_upload, check.stream_download])
    assert (code, complaints(lines)) == (1, ["stream download"])


class HoardingAdapter(WsgiToAsgi):
    """Passes a request to the application only once it is complete."""

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        hoard = iter(messages)

        async def replay() -> Any:
            return next(hoard, None) or await receive()

        await super().__call__(scope, replay, send)


def test_an_upload_that_is_not_streamed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "WsgiToAsgi", HoardingAdapter)
    monkeypatch.setattr(check_clients, "SECONDS", 2.0)
    logging.disable(logging.CRITICAL)  # the check aborts the upload, which the server logs
    try:
        code, lines = run_check(tmp_path, [check.index_page, check.stream_upload])
    finally:
        logging.disable(logging.NOTSET)
    assert (code, complaints(lines)) == (1, ["stream upload"])


def test_html_that_is_not_escaped_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask.sansio.app.App.select_jinja_autoescape", lambda self, name: False)
    code, lines = run_check(tmp_path, [check.sign_guestbook])
    assert (code, complaints(lines)) == (1, ["sign guestbook"])


def test_a_guard_that_sleeps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_guard", lambda scope: None)
    code, lines = run_check(tmp_path, [check.guards])
    assert (code, complaints(lines)) == (1, ["guards"])


def test_blocking_code_on_the_bots_loop_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_loop(function: Callable[..., object]) -> Callable[..., object]:
        async def call(*args: object) -> object:
            return function(*args)

        return call

    monkeypatch.setattr("app.game.sync_to_async", on_the_loop)
    code, lines = run_check(tmp_path, [check.two_users, check.threads_and_loops])
    assert (code, complaints(lines)) == (1, ["threads and loops"])


def test_a_bot_that_does_not_start_is_one_complaint(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = Settings(data=tmp_path, port=0, irc=("127.0.0.1", 1))
    assert check.run(Demo(settings), lines.append, STEPS) == 1
    assert "cannot be reached" in lines[0]


def test_a_part_that_dies_is_found(tmp_path: Path) -> None:
    class Fatal(GuessingGame):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            asyncio.get_running_loop().stop()

    def provoke(visit: check.Visit) -> str:
        with visit.user("a") as user:
            user.send(f"PRIVMSG {visit.bot()} :die")
            user.send(f"JOIN #{visit.mark}")
            user.wait_for(" 366 ")
        return "done"

    code, lines = run_check(tmp_path, [provoke], Fatal)
    assert code == 1
    assert complaints(lines) == ["the demo itself"]
