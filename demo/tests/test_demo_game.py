"""The bot's application: it answers a user, and continues where a killed worker stopped."""

from pathlib import Path

import pytest
from app.game import HELP, OUT_OF_RANGE, Game, GuessingGame

from asgiref.testing import ApplicationCommunicator

pytestmark = pytest.mark.asyncio


async def play(path: Path, messages: dict[int, str]) -> list[str]:
    """Let a new worker answer these messages, then kill it."""
    scope = {"type": "chat", "user": "ann", "game": "ann:1"}
    answers = []
    async with ApplicationCommunicator(GuessingGame(path / "games"), scope) as worker:
        for number, text in messages.items():
            await worker.send_input({"type": "chat.message", "text": text, "number": number})
            answers.append((await worker.receive_output(timeout=10))["text"])
    return answers


async def test_a_whole_game(tmp_path: Path) -> None:
    secret = Game("ann:1").secret
    low, high = secret - 1 or 101, secret + 1
    texts = ["history", f"{low}!", f" {high} please", f"{secret}", "1", "new", "history"]
    assert await play(tmp_path, dict(enumerate(texts))) == [
        "your guesses: none yet",
        f"{low} is too low (guess 1)." if low < 101 else OUT_OF_RANGE,
        f"{high} is too high (guess 2).",
        f"{secret} is right after 3 guesses!",
        f"You found {secret} already. Say new for another number.",
        "I have a new number from 1 to 100 in mind.",
        "your guesses: none yet",
    ]


@pytest.mark.parametrize("text", ["help", "", "   ", "hello there", "4e2", "²"])
async def test_anything_else_gets_help(tmp_path: Path, text: str) -> None:
    assert await play(tmp_path, {1: text}) == [HELP]


@pytest.mark.parametrize("text", ["0", "101", "99999", "-5", "1" * 5000])
async def test_a_number_out_of_range_does_not_count_as_a_guess(tmp_path: Path, text: str) -> None:
    assert await play(tmp_path, {1: text, 2: "history"}) == [OUT_OF_RANGE, "your guesses: none yet"]


async def test_another_worker_continues_and_counts_a_redelivered_guess_once(tmp_path: Path) -> None:
    texts = {1: "1", 2: "100", 3: "1"}
    first = await play(tmp_path, texts)
    assert await play(tmp_path, {2: "100", 3: "1", 4: "history"}) == [
        *first[1:],
        "your guesses: 1, 100, 1",
    ]
