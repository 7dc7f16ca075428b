"""Threads and tasks that share one Local lose no values and never see each other's."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from asgiref.local import Local

THREADS = 8
ROUNDS = 150


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def use(local: Local, who: str, number: int) -> list[str]:
    """Change and check an attribute that all threads use, and one that is new to the Local."""
    wrong = []
    own = f"name{number}"
    for name in ("everybodys", own):
        setattr(local, name, (who, number))
        if getattr(local, name) != (who, number):
            wrong.append(f"{who}: {name} of round {number} changed")
    del local.everybodys
    if hasattr(local, "everybodys"):
        wrong.append(f"{who}: everybodys of round {number} came back")
    return wrong


def in_sync(local: Local, who: str, start: threading.Barrier) -> list[str]:
    start.wait(30)
    wrong = [text for number in range(ROUNDS) for text in use(local, who, number)]
    lost = [n for n in range(ROUNDS) if getattr(local, f"name{n}", None) != (who, n)]
    return wrong + [f"{who}: lost {number}" for number in lost]


async def in_task(local: Local, who: str) -> list[str]:
    wrong = []
    for number in range(ROUNDS):
        wrong += use(local, who, number)
        await asyncio.sleep(0)
    lost = [n for n in range(ROUNDS) if getattr(local, f"name{n}", None) != (who, n)]
    return wrong + [f"{who}: lost {number}" for number in lost]


def in_async(local: Local, who: str, start: threading.Barrier) -> list[str]:
    async def main() -> list[str]:
        found = await asyncio.gather(*(in_task(local, f"{who}, task {n}") for n in range(4)))
        return [text for texts in found for text in texts]

    start.wait(30)
    return asyncio.run(main())


@pytest.mark.parametrize("thread_critical", [False, True])
def test_threads_and_tasks_keep_their_values_apart(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        calls = [
            pool.submit(in_async if number % 2 else in_sync, local, f"thread {number}", start)
            for number in range(THREADS)
        ]
        assert [text for call in calls for text in call.result(timeout=50)] == []


def test_locals_die_while_others_use_theirs() -> None:
    start = threading.Barrier(THREADS)

    def make_many(_: int) -> int:
        start.wait(30)
        kept = [Local(thread_critical=bool(number % 2)) for number in range(200)]
        for number, local in enumerate(kept):
            local.number = number
        right = sum(local.number == number for number, local in enumerate(kept))
        del kept[::2]
        return right + sum(hasattr(local, "number") for local in kept)

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(make_many, range(THREADS))) == [300] * THREADS
