"""Websocket clients: every message has an id, and gets one answer unless its connection is cut."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import count

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .http import HOST
from .kinds import Ask, Kind, Outcome, Unexpected

MESSAGES = 40
ACTIONS = ("cross", "cross", "cross-parallel", "cancel")
_ids = count()


def _connection(ask: Ask) -> connect:
    where = "own-thread" if ask.heads() else "shared-thread"
    address = f"ws://{HOST}:{ask.port}/talk/{where}"
    return connect(address, additional_headers=ask.headers, compression=None)


async def _say(ask: Ask, client: ClientConnection, do: str) -> int:
    number = next(_ids)
    await client.send(json.dumps({"id": number, "do": do}))
    ask.ledger.messages.sent += 1
    return number


async def _hear(ask: Ask, client: ClientConnection, numbers: list[int]) -> None:
    """Require the answers to these messages, in this order."""
    for number in numbers:
        answer = json.loads(await client.recv())
        if answer != {"id": number, "mark": ask.mark}:
            raise Unexpected(f"{ask.mark} got {answer} for message {number}")
        ask.ledger.messages.answered += 1


async def talk(ask: Ask) -> Outcome:
    """Send some messages one by one, then some at once."""
    async with _connection(ask) as client:
        for _ in range(MESSAGES // 2):
            await _hear(ask, client, [await _say(ask, client, random.choice(ACTIONS))])
        said = [await _say(ask, client, random.choice(ACTIONS)) for _ in range(MESSAGES // 2)]
        await _hear(ask, client, said)
    return Outcome.ANSWERED


async def talk_and_vanish(ask: Ask) -> Outcome:
    client = await _connection(ask)
    said = [await _say(ask, client, random.choice(ACTIONS)) for _ in range(MESSAGES // 4)]
    await _hear(ask, client, said[:3])
    ask.ledger.messages.cut += len(said) - 3
    client.transport.abort()
    await client.wait_closed()
    return Outcome.CUT


async def talk_until_it_raises(ask: Ask) -> Outcome:
    """Send a message to which the server responds by closing with 1011; that is the answer."""
    ask.causes("uvicorn.error", "OnPurpose")
    async with _connection(ask) as client:
        await _hear(ask, client, [await _say(ask, client, "cross")])
        await _say(ask, client, "raise")
        try:
            heard = await client.recv()
        except ConnectionClosed:
            ask.ledger.messages.answered += 1
            await asyncio.sleep(0)
            return Outcome.ANSWERED
    raise Unexpected(f"a websocket whose handler raised said {heard!r}")


TALK = [
    Kind("talk", 3, talk),
    Kind("talk-and-vanish", 1, talk_and_vanish),
    Kind("raise-in-talk", 1, talk_until_it_raises),
]
