"""``--check`` finds faults: each test breaks one thing and expects the complaint."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from app import bot, check, guestbook
from app.game import Game, GuessingGame

from asgiref.wsgi import WsgiToAsgi

# The environment of the tests decides whether the distributions come from wheels.
STEPS = [step for step in check.STEPS if step is not check.own_wheels]


def test_an_intact_demo_passes_and_leaves_no_thread(run_check: Any) -> None:
    assert run_check(*STEPS) == (0, [])
    assert not check.PIECES & {thread.name for thread in threading.enumerate()}


class SharedGame(GuessingGame):
    """The mistake that scopes prevent: one game for all users."""

    _game = Game("all")

    def _new_game(self, id: str) -> Game:
        return self._game


def test_users_that_share_a_game_are_found(run_check: Any) -> None:
    code, complaints = run_check(check.chat, make_game=SharedGame)
    assert (code, len(complaints)) == (1, 1)
    assert complaints[0].startswith("FAIL  chat: ")


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


def damaged(mib: int) -> Iterator[bytes]:
    for number, block in enumerate(made_up(mib)):
        yield block[::-1] if number == 3 else block


made_up = guestbook.made_up


def on_the_loop(function: Callable[..., object]) -> Callable[..., object]:
    async def call(*args: object) -> object:
        return function(*args)

    return call


async def forgetful(self: bot.Bot, scope: Any, message: Any) -> None:
    if message["number"] != 7:
        await application_send(self, scope, message)


application_send = bot.Bot.application_send


@pytest.mark.parametrize(
    ("target", "replacement", "steps"),
    [
        ("app.guestbook.made_up", damaged, [check.download]),
        ("app.web.WsgiToAsgi", HoardingAdapter, [check.upload]),
        ("flask.sansio.app.App.select_jinja_autoescape", lambda *_: False, [check.guestbook]),
        ("app.web.refusal", lambda scope: "", [check.guards]),
        ("app.bridge.visitor", threading.local(), [check.bridge]),
        ("app.game.sync_to_async", on_the_loop, [check.page, check.chat, check.threads_and_loops]),
        ("app.bot.Bot.application_send", forgetful, [check.chat]),
        ("app.trace.Trace._since", lambda self, after: self._stored, [check.event_stream]),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_broken_part_is_found(
    target: str, replacement: object, steps: list[check.Step], run_check: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(target, replacement)
    monkeypatch.setattr(check, "SECONDS", 2.0)
    logging.disable(logging.CRITICAL)  # the server logs what the broken part does
    try:
        code, complaints = run_check(*steps)
    finally:
        logging.disable(logging.NOTSET)
    name = steps[-1].__name__.replace("_", " ")
    assert (code, [line[6:].partition(":")[0] for line in complaints]) == (1, [name])


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_piece_that_ends_by_itself_is_one_complaint(
    is_ready: bool, run_check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: bot.Bot, ready: Callable[[], None]) -> None:
        if is_ready:
            ready()
        raise OSError("the disk is full")

    monkeypatch.setattr(bot.Bot, "work", fail)
    code, complaints = run_check(check.page)
    assert (code, len(complaints)) == (1, 1)
    reason = "failed: OSError('" if is_ready else "could not start: "
    assert complaints[0].startswith(f"FAIL  the demo itself: bot {reason}the disk is full")
