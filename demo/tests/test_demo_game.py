"""The bot's application answers a user, and users share nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from app.game import HELP, Game, GuessingGame, Verdict
from app.storage import Storage
from app.trace import Trace

from asgiref.testing import ApplicationCommunicator

pytestmark = pytest.mark.asyncio


class Fixed(random.Random):
    """A generator that returns the numbers of a list."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self._numbers = list(numbers)

    def randint(self, a: int, b: int) -> int:
        return self._numbers.pop(0)


class Player:
    """One scope of the application."""

    def __init__(self, application: GuessingGame, user: str) -> None:
        self.communicator = ApplicationCommunicator(application, {"type": "chat", "user": user})

    async def say(self, text: str, target: str = "me") -> str:
        await self.communicator.send_input({"type": "chat.message", "text": text, "target": target})
        answer = await self.communicator.receive_output(timeout=10)
        assert (answer["type"], answer["target"]) == ("chat.reply", target)
        return str(answer["text"])

    async def leave(self) -> None:
        self.communicator.stop(exceptions=False)
        with pytest.raises(asyncio.CancelledError):
            await self.communicator.future


def make(tmp_path: Path, *numbers: int) -> GuessingGame:
    return GuessingGame(Storage(tmp_path), Trace(), Fixed(*numbers))


async def test_a_whole_game(tmp_path: Path) -> None:
    ann = Player(make(tmp_path, 42, 7), "ann")
    assert await ann.say("history") == "ann, your guesses: none yet"
    assert await ann.say("best") == "Nobody has won yet."
    assert await ann.say("50!") == "50 is too high (guess 1)."
    assert await ann.say(" 25 please") == "25 is too low (guess 2)."
    won = await ann.say("42")
    assert won == "42 is right after 3 guesses! The best so far: ann with 3."
    assert await ann.say("41") == "You found 42 already. Say new for another number."
    assert await ann.say("history") == "ann, your guesses: 50, 25, 42"
    assert "new number" in await ann.say("new")
    assert (await ann.say("7")).startswith("7 is right after 1 guesses!")
    await ann.leave()


@pytest.mark.parametrize("text", ["help", "", "   ", "hello there", "4e2", "²"])
async def test_anything_else_gets_help(tmp_path: Path, text: str) -> None:
    ann = Player(make(tmp_path, 42), "ann")
    assert await ann.say(text) == HELP
    await ann.leave()


@pytest.mark.parametrize("text", ["0", "101", "99999", "-5", "1" * 5000])
async def test_a_number_out_of_range_does_not_count_as_a_guess(tmp_path: Path, text: str) -> None:
    ann = Player(make(tmp_path, 100), "ann")
    assert await ann.say(text) == "My number is from 1 to 100; yours is not, so it does not count."
    assert await ann.say("history") == "ann, your guesses: none yet"
    assert (await ann.say("100")).startswith("100 is right after 1 guesses!")
    await ann.leave()


async def test_two_users_share_nothing_but_the_table_of_the_best(tmp_path: Path) -> None:
    application = make(tmp_path, 42, 80)
    ann, bob = Player(application, "ann"), Player(application, "bob")
    assert await ann.say("60") == "60 is too high (guess 1)."
    assert await bob.say("60") == "60 is too low (guess 1)."
    assert await bob.say("80", target="#room") == (
        "80 is right after 2 guesses! The best so far: bob with 2."
    )
    assert await ann.say("history") == "ann, your guesses: 60"
    assert await ann.say("best") == "The best so far: bob with 2."
    await ann.leave()
    await bob.leave()


async def test_another_type_of_scope_is_refused(tmp_path: Path) -> None:
    communicator = ApplicationCommunicator(make(tmp_path), {"type": "http"})
    with pytest.raises(ValueError, match="chat scopes only, not 'http'"):
        await communicator.wait()


async def test_a_game_that_is_over_takes_no_more_guesses() -> None:
    game = Game(5, [9])
    assert [game.guess(n) for n in (3, 5, 4)] == [Verdict.LOW, Verdict.FOUND, Verdict.OVER]
    assert game.guesses == [9, 3, 5]
