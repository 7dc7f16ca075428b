"""The game that may continue in another process: a redelivered message is not played twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("asgiref.postgres")

from app.bot_connection import BotConnection
from app.fleet_bot import FleetBot
from app.game import Event
from app.kept_game import KeptGuessingGame
from app.storage import Storage, Win
from app.trace import Trace

from asgiref.postgres import Database, Delivered

pytestmark = pytest.mark.asyncio


class Killed(Exception):
    """Simulates the end of a worker."""


def message(number: int, text: str, redelivered: bool = False) -> Event:
    event = {"type": "chat.message", "text": text, "target": "ann", "number": number}
    return {**event, "redelivered": True} if redelivered else event


async def play(storage: Storage, messages: Iterable[Event]) -> list[str]:
    """Let a new worker handle these messages, then kill it."""
    waiting, said = iter(messages), list[str]()

    async def receive() -> Event:
        try:
            return next(waiting)
        except StopIteration:
            raise Killed from None

    async def send(reply: Event) -> None:
        said.append(reply["text"])

    secrets: Any = SimpleNamespace(randint=lambda lowest, highest: 42)
    game = KeptGuessingGame(storage, Trace(), secrets)
    scope = {"type": "chat", "user": "Ann", "run": "run", "scope_id": "ann"}
    try:
        await game(scope, receive, send)
    except Killed:
        pass
    else:
        said.append("left")
    return said


async def test_another_worker_goes_on_with_the_game(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert await play(storage, [message(1, "50"), message(2, "20")]) == [
        "50 is too high (guess 1).",
        "20 is too low (guess 2).",
    ]
    assert await play(storage, [message(3, "30")]) == ["30 is too low (guess 3)."]


async def test_a_guess_that_comes_again_counts_once(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = await play(storage, [message(1, "50")])
    assert await play(storage, [message(1, "50", True), message(2, "50")]) == [
        *first,
        "50 is too high (guess 2).",
    ]


async def test_several_guesses_that_come_again_count_once_each(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    guesses = ["50", "20", "30"]
    first = await play(storage, [message(n, text) for n, text in enumerate(guesses)])
    again = [message(n, text, True) for n, text in enumerate(guesses)]
    assert await play(storage, [*again, message(3, "40")]) == [
        *first,
        "40 is too low (guess 4).",
    ]


async def test_a_guess_that_comes_again_and_was_not_kept_is_played(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    await play(storage, [message(1, "50")])
    answers = await play(storage, [message(2, "20", True)])
    assert answers == ["20 is too low (guess 2)."]


async def test_a_win_that_comes_again_counts_once(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = await play(storage, [message(1, "42")])
    assert first == ["42 is right after 1 guesses! The best so far: Ann with 1."]
    assert await play(storage, [message(1, "42", True)]) == first
    assert storage.best_wins() == [Win("Ann", 1)]


async def test_the_best_of_all_is_told_whoever_wins(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.add_win("bob", 1)
    answers = await play(storage, [message(1, "50"), message(2, "42")])
    assert answers[1] == "42 is right after 2 guesses! The best so far: bob with 1."


async def test_who_leaves_and_comes_back_has_a_new_game(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    leaves = {**message(2, ""), "type": "chat.left"}
    assert (await play(storage, [message(1, "50"), leaves]))[-1] == "left"
    assert await play(storage, [message(3, "50")]) == ["50 is too high (guess 1)."]


class Said(BotConnection):
    """Records the texts instead of sending them."""

    def __init__(self) -> None:
        super().__init__("nowhere", 0, "bot", "#x", Trace())
        self.said: list[str] = []

    async def say(self, target: str, text: str) -> None:
        self.said.append(text)


class Gateway(FleetBot):
    """Delivers the messages of a test."""

    delivery = Delivered(1, "ann", False, 0)


async def test_an_answer_that_comes_twice_is_said_once() -> None:
    connection = Said()
    gateway = Gateway(Database("postgresql://nowhere"), Trace(), connection)
    where = {"thread": "worker-1", "thread_id": 1, "loop": "", "task": ""}
    reply = {"type": "chat.reply", "target": "ann", "where": where}
    answers = [(1, False), (1, True), (2, True), (2, True)]
    for id, (number, redelivered) in enumerate(answers):
        gateway.delivery = Delivered(id, "ann", redelivered, 0)
        message = {**reply, "answers": number, "text": f"answer {number}"}
        await gateway.application_send({"user": "ann"}, message)
    assert connection.said == ["answer 1", "answer 2"]
    assert (gateway.tally.answered, gateway.tally.repeated) == (2, 2)
    assert gateway.tally.redelivered == 3
