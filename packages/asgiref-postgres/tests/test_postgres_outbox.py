"""The queue of messages that no transaction has stored yet."""

import asyncio
import sys
import threading

import pytest

from asgiref.postgres._outbox import Item, Outbox


def store_all(outbox: Outbox) -> int:
    """Store every message; return how many there were."""
    count = 0
    while (batch := outbox.next_batch()).items:
        count += len(batch.items)
        outbox.stored(batch.number)
    return count


def test_the_scope_of_the_last_message_is_stored_even_if_it_is_the_previous_one() -> None:
    outbox = Outbox(10, 1000, is_numbered=True)
    outbox.confirm(0)
    stored = {}
    for scopes in ([b"1"], [b"2", b"1"], [b"2", b"3"]):
        for scope in scopes:
            outbox.add(Item("ada", b"{}", scope=scope))
        batch = outbox.next_batch()
        stored |= batch.scopes
        outbox.stored(batch.number)
        assert stored == {"ada": scopes[-1]}


@pytest.mark.asyncio
async def test_a_call_that_waits_for_room_waits_again_if_a_thread_takes_it() -> None:
    outbox = Outbox(1, 1000, is_numbered=True)
    outbox.confirm(0)
    may_end = threading.Event()

    def fill() -> None:
        while not may_end.is_set():
            try:
                outbox.add(Item("thread", b"{}"))
            except asyncio.QueueFull:
                continue

    async def put() -> None:
        for _ in range(2000):
            await outbox.put(Item("coroutine", b"{}"))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=fill)
    thread.start()
    try:
        async with asyncio.timeout(60):
            putting = asyncio.ensure_future(put())
            while not putting.done():
                store_all(outbox)
                await asyncio.sleep(0)
            await putting
    finally:
        may_end.set()
        thread.join()
        sys.setswitchinterval(interval)
